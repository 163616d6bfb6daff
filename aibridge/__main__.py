"""The conversations: one session with the model for each call.

Settings come from the environment and from .env in the working directory; .env.example explains each.
`twentyms run` starts all processes; `twentyms check` checks the settings without starting any.

SIGTERM and SIGINT end the process. SIGHUP reads the agents again. Exit status: 0, 78 for a setting, an agent or a key
that cannot be used, 75 when another aibridge of this number runs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import uvloop
import zmq

from shared import pages, process, settings
from shared.agents.reload import Reload
from shared.isolation import BRIDGE_PRIORITY, CollectorPauses, context, freeze_collector, realtime
from shared.metrics import REALTIME, Page
from shared.watch import LoopLag

from . import agents, call_config, canceller, detectors
from .core.agent import Agents
from .metrics import DEFINITIONS
from .models.realtime.servers import Servers
from .models.realtime.sessions import Sessions
from .worker import Worker


def main() -> None:
    process.take_no_arguments("aibridge", __doc__)
    config = settings.load_in_child()
    chosen = agents.load(config)
    call_config.check(config)
    if not config.openai_api_key and not all(agent.api_key_env for agent in chosen.by_name.values()):
        raise process.ConfigError(
            "OPENAI_API_KEY is not set; put it into .env, or start with `make run`, which uses the simulated model then"
        )
    run_dir = settings.prepare_run_dir(config)
    number = process.instance()
    if number >= config.aibridge_workers:
        raise process.ConfigError(
            f"this is aibridge number {number + 1}, but AIBRIDGE_WORKERS is {config.aibridge_workers}; make them agree"
        )
    servers = Servers(config.openai_base_url, config.openai_api_key)
    # Before this process goes before others: loading keeps a core busy.
    loaded = detectors.load() if agents.needs_near_ear(chosen, config) else None
    if loaded is not None and agents.removes_echo(chosen, config):
        loaded = replace(loaded, canceller=canceller.load())
    with process.sole(run_dir, f"aibridge-{number}"):
        page = pages.create(config.metrics_dir, f"aibridge-{number}", DEFINITIONS)
        # Its notice, where this is not permitted, is txpacer's.
        refused = realtime(config.tx_realtime, BRIDGE_PRIORITY)
        page.gauge(REALTIME.name).set(not refused)
        try:
            worker = Worker(
                config,
                number=number,
                agents=chosen,
                sessions=Sessions(chosen, servers, page),
                page=page,
                context=context(None if refused else BRIDGE_PRIORITY),
                detectors=loaded,
            )
        except zmq.ZMQError as exc:
            raise process.ConfigError(f"cannot bind a socket in RUN_DIR {run_dir} ({exc}); set RUN_DIR") from None
        uvloop.run(serve(worker, page, partial(agents.load, config)))


async def serve(worker: Worker, page: Page, read_agents: Callable[[], Agents]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    reload = Reload(read_agents, worker.use, logging.getLogger("aibridge"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.ask)
    freeze_collector()
    CollectorPauses(page).start()
    LoopLag(page).start()
    await worker.run(stop)


if __name__ == "__main__":
    process.run("aibridge", main)
