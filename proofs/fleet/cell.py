"""One cell of the fleet, inside its network namespace: `ip netns exec NAMESPACE python -m proofs.fleet.cell LOG`.

Settings come from the environment. Says `ready` when it takes calls. SIGTERM is what an upgrade sends: the cell drains,
and the program ends when the last of its calls has ended or was handed to another cell.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from shared.process import ConfigError, die_with_parent
from twentyms.stack import Stack


def main() -> None:
    die_with_parent()
    try:
        with Stack(env=os.environ, model=None, supervised=True, log=Path(sys.argv[1])) as cell:
            print("ready", flush=True)
            signal.signal(signal.SIGTERM, lambda *_: os.kill(cell.pipeline_pid, signal.SIGTERM))
            cell.wait()
    except ConfigError as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
