"""`python -m aibridge`: read settings and agent, check that the model accepts both, and hold conversations."""

from __future__ import annotations

import asyncio
import signal

import uvloop
import zmq
from openai import AsyncOpenAI

from shared import pages, process, settings
from shared.isolation import BRIDGE_PRIORITY, context, freeze_collector, realtime
from shared.metrics import REALTIME, Page
from shared.watch import CollectorPauses, LoopLag

from . import agent
from .metrics import DEFINITIONS
from .models.realtime.sessions import Sessions
from .worker import Worker


def main() -> None:
    config = settings.load()
    if not config.openai_api_key:
        raise process.ConfigError(
            "OPENAI_API_KEY is not set; put it into .env, or start with `make run`, which uses the simulated model then"
        )
    chosen = agent.load(config.agent_file)
    run_dir = settings.prepare_run_dir(config)
    number = process.instance()
    if number >= config.aibridge_workers:
        raise process.ConfigError(
            f"this is aibridge number {number + 1}, but AIBRIDGE_WORKERS is {config.aibridge_workers}; make them agree"
        )
    client = AsyncOpenAI(api_key=config.openai_api_key, base_url=config.openai_base_url or None)
    with process.sole(run_dir, f"aibridge-{number}"):
        page = pages.create(config.metrics_dir, f"aibridge-{number}", DEFINITIONS)
        # Its notice, where this is not permitted, is txpacer's.
        refused = realtime(config.tx_realtime, BRIDGE_PRIORITY)
        page.gauge(REALTIME.name).set(not refused)
        try:
            worker = Worker(
                config,
                number=number,
                agent=chosen,
                sessions=Sessions(config, chosen, client, page),
                page=page,
                context=context(None if refused else BRIDGE_PRIORITY),
            )
        except zmq.ZMQError as exc:
            raise process.ConfigError(f"cannot bind a socket in RUN_DIR {run_dir} ({exc}); set RUN_DIR") from None
        uvloop.run(serve(worker, page))


async def serve(worker: Worker, page: Page) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    freeze_collector()
    CollectorPauses(page).start()
    LoopLag(page).start()
    await worker.run(stop)


process.run("aibridge", main)
