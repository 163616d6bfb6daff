"""The agents' tools: your Python functions in processes of their own, HTTP tools, and MCP servers.

Settings come from the environment and from .env in the working directory; .env.example explains each.
`twentyms run` starts all processes; `twentyms check` checks the tools without starting any.

SIGTERM and SIGINT end the process and its tools. SIGHUP reads the agents and their tools again. Exit status: 0, 78 for
a setting or a tool that cannot be used, 75 when another toolbox runs.
"""

from __future__ import annotations

from shared import process

if __name__ == "__main__":
    # Before the imports, which take half a second of a processor.
    process.step_back()

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
import zmq

from shared import pages, settings
from shared.agents.reload import Reload
from shared.isolation import CollectorPauses
from shared.settings import Settings
from shared.watch import LoopLag

from . import config
from .config import AgentSources
from .metrics import Metrics, bounded, definitions
from .toolbox import Toolbox

logger = logging.getLogger("toolbox")

# Workers can call tools when every source has told its tools, or after this.
SETTLE_S: Final = 10.0


def main() -> None:
    process.take_no_arguments("toolbox", __doc__)
    chosen = settings.load_in_child()
    agents = config.load(chosen)
    if not agents:
        _idle()
    run_dir = settings.prepare_run_dir(chosen)
    with process.sole(run_dir, "toolbox"):
        uvloop.run(serve(chosen, agents))


def _idle() -> None:
    """Become a small process: the libraries that are loaded by now take ten times its memory."""
    os.execv(sys.executable, [sys.executable, "-m", "toolbox.idle"])


async def serve(chosen: Settings, agents: Sequence[AgentSources]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    toolbox = Toolbox(agents, chosen, config.environment(Path()))
    reload = Reload(lambda: config.load(chosen), toolbox.use, logger)
    loop.add_signal_handler(signal.SIGHUP, reload.ask)
    if not await toolbox.settled(SETTLE_S):
        logger.warning("some tools are not ready after %g s; calls can begin without them", SETTLE_S)
    names = bounded(toolbox.tool_names)
    page = pages.create(chosen.metrics_dir, "toolbox", definitions(names))
    CollectorPauses(page).start()
    LoopLag(page).start()
    context: zmq.Context[Any] = zmq.Context()
    toolbox.open(context, Metrics(page, names))
    logger.info("%d tools of %d agents", len(toolbox.tool_names), len(agents))
    try:
        await stop.wait()
    finally:
        await toolbox.close()
        context.destroy(linger=0)


if __name__ == "__main__":
    process.run("toolbox", main)
