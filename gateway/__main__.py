"""The public port: Twilio's webhook and media sockets, the browser phone, and health checks.

Settings come from the environment and from .env in the working directory; .env.example explains each.
`twentyms run` starts all processes; `twentyms check` checks the settings without starting any.

SIGTERM and SIGINT drain: live calls go on for DRAIN_SECONDS at most, new ones get the fallback. A second signal ends
all calls at once. SIGHUP reads AGENTS_DIR again. Exit status: 0, 78 for a setting that cannot be used, 75 when another
gateway has what this one needs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from functools import partial

import uvloop

from shared import pages, process
from shared.agents.choice import Directory
from shared.agents.directory import read_directory
from shared.agents.reload import Reload
from shared.isolation import GATEWAY_PRIORITY, CollectorPauses, exact_timers, freeze_collector, realtime
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import Settings, load_in_child, prepare_run_dir

from .core.metrics import DEFINITIONS
from .gateway import Gateway
from .port import is_loopback, listen, listen_host

logger = logging.getLogger("gateway")


def check(settings: Settings) -> None:
    """Raises ConfigError for settings that would open a gateway to anyone, or keep Twilio out: a line for each."""
    problems = []
    if not settings.twilio_auth_token:
        if settings.allow_unsigned == "off":
            problems.append(
                "TWILIO_AUTH_TOKEN is not set, so no request can be checked; set it, "
                "or ALLOW_UNSIGNED=on to take calls from anyone who reaches the port"
            )
        if settings.gateways > 1:
            problems.append(
                f"GATEWAYS is {settings.gateways} and TWILIO_AUTH_TOKEN is not set, so the gateways have no key in "
                "common for their calls; set it (with ALLOW_UNSIGNED=on, to anything), or GATEWAYS=1"
            )
        if settings.fleet == "on":
            problems.append(
                "FLEET is on and TWILIO_AUTH_TOKEN is not set, so the cells have no key in common for their calls; "
                "set it (with ALLOW_UNSIGNED=on, to anything), or FLEET=off"
            )
    if settings.twilio_account_sid or settings.twilio_auth_token:
        if not settings.public_url:
            problems.append("PUBLIC_URL is not set; set it to the https:// origin under which Twilio reaches this port")
        elif not settings.origin.startswith("https://") and not is_loopback(settings.origin):
            problems.append(
                f"PUBLIC_URL {settings.origin} is not https://, and Twilio opens media sockets over TLS only"
            )
    if problems:
        raise ConfigError("\n".join(problems))


def read_agents(settings: Settings) -> Directory | None:
    """The agents of AGENTS_DIR; without it, aibridge has one. Raises AgentsError."""
    return read_directory(settings.agents_dir) if settings.agents_dir is not None else None


async def serve(
    settings: Settings,
    listener: socket.socket,
    page: Page,
    index: int,
    agents: Directory | None,
    agent_listener: socket.socket | None,
) -> None:
    """Run until SIGTERM or SIGINT. The first signal drains the gateway, the second one ends it at once."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()
    supervisor = os.getppid()

    def on_signal() -> None:
        if os.getppid() != supervisor:
            # The kernel's signal for the supervisor's death, which ends the whole cell: there is nothing to drain for.
            second.set()
        elif first.is_set():
            second.set()
        first.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    exact_timers()
    # Its notice, where this is not permitted, is txpacer's.
    refused = realtime(settings.tx_realtime, GATEWAY_PRIORITY)
    gateway = Gateway(settings, listener, page, index, None if refused else GATEWAY_PRIORITY, agents, agent_listener)
    reload = Reload(partial(read_agents, settings), gateway.use, logger)
    loop.add_signal_handler(signal.SIGHUP, reload.ask)
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
    process.take_no_arguments("gateway", __doc__)
    # The other processes read the same settings: one of them warns for all.
    settings = load_in_child(warn=logger.warning)
    check(settings)
    agents = read_agents(settings)
    run_dir = prepare_run_dir(settings)
    if settings.allow_unsigned == "on":
        logger.warning("ALLOW_UNSIGNED=on: signatures are not checked; anyone who reaches the port can place calls")
    index = process.instance()
    name = f"gateway-{index}"
    with process.sole(run_dir, name):
        host, shared = listen_host(settings), settings.gateways > 1
        listener = listen(host, settings.gateway_port, shared=shared)
        agent_listener = None
        if settings.agent_check_port:
            agent_listener = listen(host, settings.agent_check_port, shared=shared, setting="AGENT_CHECK_PORT")
        page = pages.create(settings.metrics_dir, name, DEFINITIONS)
        uvloop.run(serve(settings, listener, page, index, agents, agent_listener))


if __name__ == "__main__":
    process.run("gateway", main)
