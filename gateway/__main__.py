"""`python -m gateway`: wiring, signals, and the settings that have to be right before the port opens."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Mapping
from time import monotonic_ns
from typing import Final
from urllib.parse import urlsplit

import uvloop

from shared import pages, process
from shared.bus import callbook_url
from shared.clock import unix_ms
from shared.courier import Courier
from shared.isolation import GATEWAY_PRIORITY, exact_timers, freeze_collector, realtime
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import Settings, load, misspelt, prepare_run_dir
from shared.watch import CollectorPauses, LoopLag

from .core.admission import Admission
from .core.cell import Cell
from .core.chronicle import Chronicle
from .core.limits import Lateness
from .core.signatures import Signatures
from .core.tokens import Tokens, shared_key
from .media import MediaSockets, draw_epoch
from .metrics import DEFINITIONS, Metrics
from .offers import Offers
from .peers import Peers
from .phone import phone
from .port import PublicPort, listen
from .web import Web
from .wire import Wire

logger = logging.getLogger("gateway")

# How long a gateway that starts may take to hear of txpacer and a worker: they answer ten times a second.
MEET_S: Final = 0.5
# For ZeroMQ's thread to hand over what was sent last; linger is 0.
LAST_WORDS_S: Final = 0.05
# A draining gateway looks so often whether it is done, and whether anyone else takes new calls.
LOOK_S: Final = 0.05
# What is known of the other gateways is so old at most: one hello, and the answer.
NEWS_S: Final = 0.25
# For callbook to take what was noted last; it answers within 50 ms.
LAST_FACTS_S: Final = 1.0


def check(settings: Settings) -> None:
    """Raises ConfigError for settings with which a gateway would be open to anyone, or deaf to Twilio."""
    if settings.allow_unsigned == "off" and not settings.twilio_auth_token:
        raise ConfigError(
            "TWILIO_AUTH_TOKEN is not set, so nobody's requests can be checked; set it, "
            "or ALLOW_UNSIGNED=on to take calls from anyone who reaches the port"
        )
    if settings.gateways > 1 and not settings.twilio_auth_token:
        raise ConfigError(
            f"GATEWAYS is {settings.gateways} and TWILIO_AUTH_TOKEN is not set, so the gateways have no key in common "
            "for their calls; set it (with ALLOW_UNSIGNED=on, to anything), or GATEWAYS=1"
        )
    if settings.twilio_account_sid or settings.twilio_auth_token:
        if not settings.public_url:
            raise ConfigError(
                "PUBLIC_URL is not set; set it to the https:// origin under which Twilio reaches this port"
            )
        if not settings.origin.startswith("https://") and not _is_loopback(settings.origin):
            raise ConfigError(
                f"PUBLIC_URL {settings.origin} is not https://, and Twilio opens media sockets over TLS only"
            )


def _is_loopback(origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen_host(settings: Settings) -> str:
    """GATEWAY_HOST; loopback when it was not set and nothing that comes in would be checked."""
    if settings.allow_unsigned == "on" and "gateway_host" not in settings.model_fields_set:
        return "127.0.0.1"
    return settings.gateway_host


def is_private(settings: Settings) -> bool:
    """Whether only this machine can reach the port: not even a proxy on it, which would have an origin of its own."""
    return _is_loopback(f"http://{listen_host(settings)}") and _is_loopback(settings.origin)


class Gateway:
    """Everything of one gateway process; needs a running loop. `listener` is taken over.

    `io_priority`: SCHED_FIFO priority of ZeroMQ's thread; None: the ordinary scheduler.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        page: Page,
        index: int = 0,
        io_priority: int | None = None,
    ) -> None:
        epoch = draw_epoch()
        # New at every start, so that frames for one incarnation never reach the next.
        self.name = f"gateway-{index}-{epoch:x}"
        self.metrics = Metrics(page)
        self.cell = cell = Cell(settings.aibridge_workers)
        self._admission = admission = Admission(settings.max_calls, settings.max_calls_per_source)
        lateness = Lateness(settings.tx_lead_ms * 1_000_000 // 2)
        tokens = Tokens(shared_key(settings.twilio_auth_token))
        unsigned = settings.allow_unsigned == "on"
        signatures = (
            None if unsigned else Signatures(settings.twilio_auth_token, settings.origin, settings.twilio_shared_key)
        )
        self._peers = Peers(settings, self.name, cell, self.metrics, io_priority)
        self._courier = Courier(self._peers.context, callbook_url(settings.bus), name=self.name, page=page)
        self._chronicle = Chronicle(self._courier.note)
        self.media = MediaSockets(
            name=self.name,
            epoch=epoch,
            admission=admission,
            cell=cell,
            tokens=tokens,
            signatures=signatures,
            peers=self._peers,
            chronicle=self._chronicle,
            metrics=self.metrics,
            max_unstarted=settings.max_calls,
            unserved_s=settings.model_reconnect_seconds,
        )
        self._wire = Wire(self.media.calls, self._peers.pacer, self.metrics, self._chronicle, lateness)
        self._peers.on_frames = self._wire.write
        self._lag = LoopLag(page)
        self._peers.is_anothers = self.media.is_anothers
        self._peers.on_end_call = self.media.end_call
        self._peers.on_refuse_call = self.media.refuse_call
        self._peers.on_taken = self.media.taken_elsewhere
        self._peers.on_over = self.media.over
        self._peers.on_pacer_restarted = self.media.lines_lost
        self._peers.on_worker_restarted = self.media.worker_restarted
        self._peers.on_memory = self.media.remember
        offers = Offers(
            admission=admission,
            cell=cell,
            tokens=tokens,
            peers=self._peers,
            media=self.media,
            metrics=self.metrics,
            chronicle=self._chronicle,
            lateness=lateness,
        )
        if phone.is_on(settings, loopback=is_private(settings)):
            rules = phone.access(settings, loopback=is_private(settings))
            self.media.phone = phone.Phone(rules, offers=offers, metrics=self.metrics, settings=settings)
            self._peers.on_note = self.media.phone.note
        web = Web(
            phone=self.media.phone,
            settings=settings,
            offers=offers,
            cell=cell,
            signatures=signatures,
            media=self.media,
            metrics=self.metrics,
            sink=self._on_callback,
        )
        self._port = PublicPort(
            listener,
            web.app(),
            check_media=self.media.check,
            serve_media=self.media.serve,
            metrics=self.metrics,
            gather=self._peers.gather,
        )

    async def start(self) -> None:
        self._peers.start()
        self._courier.start()
        self._wire.start()
        self.media.start()
        self._lag.start()
        # Until then connections wait in the kernel. Taken by one that knows of no worker, they would get the fallback.
        give_up_ns = monotonic_ns() + int(MEET_S * 1e9)
        # One that comes back, which waits there, too, belongs to a certain worker.
        while monotonic_ns() < give_up_ns:  # half a second, once
            now_ns = monotonic_ns()
            if self.cell.everyone_is_there(now_ns) and not self.cell.missing(now_ns):
                break
            await asyncio.sleep(0.01)
        await self._port.start()

    async def drain(self, seconds: float) -> None:
        """Take no more calls than were offered, and give them and the live ones `seconds` to finish.

        New connections are another gateway's while there is one. The last one of a cell goes on answering: who calls
        gets the fallback, and a call that the AI ends is told so.
        """
        self.media.draining = True
        self._peers.drain()
        # The others may have got the same signal.
        know_ns = monotonic_ns() + int(NEWS_S * 1e9)
        try:
            async with asyncio.timeout(seconds):
                while not self.media.is_idle or self._admission.awaits_a_socket(monotonic_ns()):
                    now_ns = monotonic_ns()
                    if now_ns > know_ns:
                        if self.cell.another_gateway_takes_calls(now_ns):
                            self._port.stop_listening()
                        else:
                            await self._port.listen_again()
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            logger.warning("draining: %d calls were still live after %g s", len(self.media.calls), seconds)

    async def close(self, *, at_once: bool = False) -> None:
        """End what is left and release everything; `at_once`: without a closing handshake."""
        self.media.draining = True
        if self.media.calls:
            # Twilio comes back with them: to a gateway that goes on where this one stopped, or to nobody.
            self.media.end_all("lost" if self.cell.another_gateway_takes_calls(monotonic_ns()) else "hung-up")
            await asyncio.sleep(LAST_WORDS_S)
        if self.media.phone is not None:
            self.media.phone.close()
        await self._port.close(at_once=at_once)
        self.media.close()
        self._lag.stop()
        self._wire.close()
        left = await self._courier.delivered(LAST_FACTS_S)
        if left:
            logger.warning("callbook did not take the last %d facts about calls; they are lost", left)
        self._courier.close()
        self._peers.close()

    def _on_callback(self, hook: str, fields: Mapping[str, str]) -> None:
        now_ns = monotonic_ns()
        self._chronicle.callback(hook, fields, unix_ms(now_ns), now_ns)


async def serve(settings: Settings, listener: socket.socket, page: Page, index: int) -> None:
    """Run until SIGTERM or SIGINT: the first one drains, the second one ends everything at once."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()
    supervisor = os.getppid()

    def on_signal() -> None:
        if os.getppid() != supervisor:
            # The kernel's, for the supervisor's death, of which everything else dies at once: nothing to drain for.
            second.set()
        elif first.is_set():
            second.set()
        first.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    exact_timers()
    # Its notice, where this is not permitted, is txpacer's.
    refused = realtime(settings.tx_realtime, GATEWAY_PRIORITY)
    gateway = Gateway(settings, listener, page, index, None if refused else GATEWAY_PRIORITY)
    gateway.metrics.realtime.set(not refused)
    await gateway.start()
    host, port = listener.getsockname()[:2]
    logger.info(
        "%s listens on %s port %d; Twilio's webhook is %s/twilio/voice", gateway.name, host, port, settings.origin
    )

    freeze_collector()
    CollectorPauses(page).start()

    await first.wait()
    draining = asyncio.ensure_future(gateway.drain(settings.drain_seconds))
    at_once = asyncio.ensure_future(second.wait())
    await asyncio.wait((draining, at_once), return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, at_once):
        task.cancel()
    await gateway.close(at_once=second.is_set())


def main() -> None:
    settings = load()
    # The other processes read the same settings: one of them says this for all.
    for line in misspelt():
        logger.warning(line)
    check(settings)
    run_dir = prepare_run_dir(settings)
    if settings.allow_unsigned == "on":
        logger.warning("ALLOW_UNSIGNED=on: signatures are not checked; whoever reaches the port can place calls")
    index = process.instance()
    name = f"gateway-{index}"
    with process.sole(run_dir, name):
        listener = listen(listen_host(settings), settings.gateway_port, shared=settings.gateways > 1)
        uvloop.run(serve(settings, listener, pages.create(settings.metrics_dir, name, DEFINITIONS), index))


if __name__ == "__main__":
    process.run("gateway", main)
