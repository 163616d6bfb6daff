"""The clock of all calls: each 20 ms frame of speech leaves at its time.

Settings come from the environment and from .env in the working directory; .env.example explains each.
`twentyms run` starts all processes; `twentyms check` checks the settings without starting any.

SIGTERM and SIGINT end the process. Exit status: 0, 78 for a setting that cannot be used, 75 when another txpacer runs.
"""

from __future__ import annotations

import logging
import sys

import zmq

from shared import pages, process, settings
from shared.isolation import CollectorPauses

from .core.metrics import DEFINITIONS, PacerMetrics
from .isolation import settle, take_priority
from .loop import Loop


def stands_by() -> bool:
    """Whether the arguments say so."""
    if not sys.argv[1:]:
        return False
    from shared.arguments import Parser  # 0.5 MB

    parser = Parser("python -m txpacer", __doc__)
    parser.add_argument(
        "--standby", action="store_true", help="wait for the end of the txpacer that runs, and take over"
    )
    return bool(parser.parse_args().standby)


def main() -> None:
    standby = stands_by()
    config = settings.load_in_child()
    run_dir = settings.prepare_run_dir(config)
    with process.sole(run_dir, "txpacer", standby=standby):
        page = pages.create(config.metrics_dir, "txpacer", DEFINITIONS)
        metrics = PacerMetrics(page)
        try:
            loop = Loop(config, metrics, take_priority(config, metrics))
        except zmq.ZMQError as exc:
            raise process.ConfigError(f"cannot bind a socket in RUN_DIR {run_dir} ({exc}); set RUN_DIR") from None
        settle(metrics)
        CollectorPauses(page).start()
        logging.getLogger("txpacer").info("pacing with a lead of %d ms", config.lead_ms)
        loop.run()


if __name__ == "__main__":
    process.run("txpacer", main)
