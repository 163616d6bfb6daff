"""One gateway process: its parts, and its life from the first connection to the end of draining."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from time import monotonic_ns
from typing import Final

from shared.agents.choice import Directory
from shared.bus import callbook_url, copies_url, stories_url
from shared.clock import unix_ms
from shared.courier import Courier
from shared.liveness import LAST_FACTS_S, MEET_S, NEWS_S, ns
from shared.messages import CallElsewhere, CallRecalled, Frames, Message, PacerState, PathSamples
from shared.metrics import Page
from shared.settings import Settings
from shared.watch import LoopLag

from .agent_port import AgentPort
from .copies import Copies
from .core.calls import Calls
from .core.fallback import SWEEP_S
from .core.metrics import Metrics
from .core.rules import Rules
from .core.signatures import Signatures
from .core.tokens import shared_key
from .handshakes import Handshakes
from .links import Links
from .media import MediaSockets
from .phone import phone
from .phone.feeds import Feeds
from .port import PublicPort, is_private
from .story_link import StoryLink
from .waiting import WaitingWebhooks
from .web import Web
from .wire import Wire

logger = logging.getLogger("gateway")

# ZeroMQ's thread hands over the last messages within this; linger is 0.
LAST_WORDS_S: Final = 0.05
# At the end of a drain, calls go to another cell one by one, in this interval: each costs a dial of the model there.
NEXT_CALL_S: Final = 0.05
# A draining gateway looks this often whether it is done, and whether another one takes new calls.
LOOK_S: Final = 0.05


class Gateway:
    """All parts of one gateway process. It needs a running loop, and owns its listeners.

    `io_priority`: SCHED_FIFO priority of ZeroMQ's thread; None: the ordinary scheduler. `agent_listener`: of
    AGENT_CHECK_PORT.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        page: Page,
        index: int = 0,
        io_priority: int | None = None,
        agents: Directory | None = None,
        agent_listener: socket.socket | None = None,
    ) -> None:
        # The high bits of call numbers, drawn at every start: 31 bits keep the numbers below 2**63.
        epoch = secrets.randbits(31)
        # New at every start, so that frames for one incarnation never reach the next.
        self.name = f"gateway-{index}-{epoch:x}"
        self.metrics = metrics = Metrics(page)
        rules = Rules(
            workers=settings.aibridge_workers,
            max_calls=settings.max_calls,
            max_calls_per_source=settings.max_calls_per_source,
            late_ns=settings.lead_ms * 1_000_000 // 2,
            unserved_s=settings.model_reconnect_seconds,
            clears=settings.barge_in == "clear",
            cell=settings.cell,
            fleet=settings.fleet == "on",
            recalls=bool(settings.state_url),
        )
        self.calls = Calls(self.name, epoch, shared_key(settings.twilio_auth_token), rules, metrics, unix_ms)
        self.use(agents)
        self._links = Links(
            settings, self.name, metrics, io_priority, on_pacer=self._from_pacer, on_worker=self._from_worker
        )
        self._courier = Courier(self._links.context, callbook_url(settings.bus), name=self.name, page=page)
        self._feeds = Feeds(metrics.phone_notes_lost)
        self._copies = Copies(self._links.context, copies_url(settings.bus), metrics)
        webhooks = WaitingWebhooks()
        self._stories: StoryLink | None = None
        if rules.recalls:
            self._stories = StoryLink(
                self._links.context,
                stories_url(settings.bus),
                name=self.name,
                stories=self.calls.stories,
                on_message=self._from_callbook,
                refused=metrics.bus_refused["callbook"],
                undecodable=metrics.bus_undecodable["callbook"],
            )
        self.media = MediaSockets(
            self.calls, self._links, self._courier.note, self._feeds, self._copies, webhooks, metrics, self._stories
        )
        self._wire = Wire(self.calls, self.media, self._links, metrics)
        self._lag = LoopLag(page)
        signatures = None
        if settings.allow_unsigned == "off":
            signatures = Signatures(settings.twilio_auth_token, settings.origin, settings.twilio_shared_key)
        loopback = is_private(settings)
        has_phone = phone.is_on(settings, loopback=loopback)
        access = phone.access(settings, loopback=loopback) if has_phone else None
        web = Web(
            settings=settings,
            calls=self.calls,
            carry_out=self.media.carry_out,
            webhooks=webhooks,
            signatures=signatures,
            metrics=metrics,
            phone=None
            if access is None
            else phone.Phone(
                access,
                calls=self.calls,
                carry_out=self.media.carry_out,
                feeds=self._feeds,
                metrics=metrics,
                settings=settings,
            ),
        )
        self._port = PublicPort(
            listener,
            web.app(),
            check_media=Handshakes(self.calls, signatures, access, metrics, settings.cell).check,
            serve_media=self.media.serve,
            metrics=metrics,
            gather=self._links.gather,
        )
        self._agent_port = None
        if agent_listener is not None:
            self._agent_port = AgentPort(agent_listener, lambda: self.calls.agent_line(monotonic_ns()))
        self._is_fleet = rules.fleet
        self._loop = asyncio.get_running_loop()
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        self._links.start()
        self._courier.start()
        if self._stories is not None:
            self._stories.start()
        self._sweep()
        self._lag.start()
        # Until then connections wait in the kernel. A gateway that knows no worker would answer with the fallback, and
        # a call that returns belongs to a particular worker.
        give_up_ns = monotonic_ns() + ns(MEET_S)
        while (now_ns := monotonic_ns()) < give_up_ns:
            if self.calls.neighbours.everyone_is_there(now_ns) and not self.calls.neighbours.missing(now_ns):
                break
            await asyncio.sleep(0.01)
        await self._port.start()
        if self._agent_port is not None:
            await self._agent_port.start()

    def use(self, agents: Directory | None) -> None:
        """Let these agents answer new calls; None: aibridge has one agent."""
        self.calls.offers.agents = agents

    async def drain(self, seconds: float) -> None:
        """Offer no further call, and give offered and live calls `seconds` to finish.

        New connections go to another gateway while there is one. The last gateway of a cell goes on answering: new
        callers get the fallback, and ended calls get their orders.
        """
        self.calls.offers.draining = True
        self._links.drain()
        # The others may have got the same signal.
        know_ns = monotonic_ns() + ns(NEWS_S)
        try:
            async with asyncio.timeout(seconds):
                while not self.calls.is_idle or self.calls.offers.admission.awaits_a_socket(monotonic_ns()):
                    now_ns = monotonic_ns()
                    if not self.calls.neighbours.someone_is_there(now_ns):
                        logger.warning("draining: the rest of the cell is gone; its calls end")
                        break
                    if now_ns > know_ns:
                        if self.calls.neighbours.another_gateway_takes_calls(now_ns):
                            self._port.stop_listening()
                        else:
                            await self._port.listen_again()
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            logger.warning("draining: %d calls were still live after %g s", len(self.calls.by_number), seconds)

    async def close(self, *, at_once: bool = False) -> None:
        """End the remaining calls and release everything; `at_once`: without a closing handshake.

        In a fleet, Twilio's redirects take the calls to another cell.
        """
        self.calls.offers.draining = True
        self.calls.offers.leaving = self._is_fleet
        while self.calls.by_number:
            self.media.carry_out(self.calls.drained(monotonic_ns(), at_most=None if at_once else 1))
            await asyncio.sleep(NEXT_CALL_S if self.calls.by_number else LAST_WORDS_S)
        if self._agent_port is not None:
            self._agent_port.close()
        self._feeds.close()
        await self._port.close(at_once=at_once)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._lag.stop()
        self._wire.close()
        left = await self._courier.delivered(LAST_FACTS_S)
        if left:
            logger.warning("callbook did not take the last %d facts about calls; they are lost", left)
        self._courier.close()
        if self._stories is not None:
            self._stories.close()
        self._copies.close()
        self._links.close()

    def _sweep(self) -> None:
        self.media.sweep()
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)

    def _from_pacer(self, message: Frames | PacerState | PathSamples) -> None:
        if isinstance(message, Frames):
            self._wire.write(message)
        elif isinstance(message, PathSamples):
            self.calls.path_seen(message, monotonic_ns())
        else:
            self.media.carry_out(self.calls.from_pacer(message, monotonic_ns()))

    def _from_callbook(self, message: CallRecalled | CallElsewhere) -> None:
        self.media.carry_out(self.calls.from_callbook(message))

    def _from_worker(self, worker: int, message: Message) -> None:
        self.media.carry_out(self.calls.from_worker(worker, message, monotonic_ns()))
