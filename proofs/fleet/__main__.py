"""Three real cells behind HAProxy, with redis-server and PostgreSQL, and what callers hear when something happens.

  python -m proofs.fleet cut --calls 60 --times 20

Needs Linux and root: each cell is in a network namespace of its own. Exit status: 0 when every bound was kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from proofs.fleet import acts, carried
from proofs.fleet.acts import BEHAVIOUR
from proofs.fleet.edge import edge
from proofs.fleet.machines import CELLS, Fleet, why_not
from shared.process import ConfigError

ACTS: Final = {**acts.ACTS, "edge": edge, "carried": carried.carried}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m proofs.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("act", nargs="*", help=f"{', '.join(ACTS)} (default: all, one after the other)")
    parser.add_argument("--calls", type=int, default=12, metavar="N", help="calls at the same time (default 12)")
    parser.add_argument("--times", type=int, default=3, metavar="N", help="how often a cell is lost (default 3)")
    options = parser.parse_args()
    if unknown := set(options.act) - set(ACTS):
        parser.error(f"no such act: {', '.join(sorted(unknown))}; there are {', '.join(ACTS)}")
    if reason := why_not():
        sys.exit(f"proofs.fleet: {reason}")
    broken = 0
    for name in options.act or ACTS:
        with tempfile.TemporaryDirectory(prefix="twentyms-fleet-") as directory:
            broken += run(name, Path(directory), options.calls, options.times)
    sys.exit(bool(broken))


def run(name: str, directory: Path, calls: int, times: int) -> int:
    """Print the report of one act on a new fleet; returns how many bounds were broken."""
    act = ACTS[name]
    behaviour = directory / "behaviour.json"
    env = {"DRAIN_SECONDS": "8"}
    if name == "full":
        env["MAX_CALLS"] = str(calls // len(CELLS))
        calls = calls // len(CELLS) * len(CELLS)
    model: Mapping[str, Any] = BEHAVIOUR
    if name == "carried":
        env |= carried.settings(directory)
        model = carried.BEHAVIOUR
    if name == "goodbye":
        agent = directory / "agent.toml"
        agent.write_text('instructions = "Say goodbye."\ngreeting = "Hello."\n[tools]\nend_call = true\n')
        env["AGENT_FILE"] = str(agent)
        model = {"answer_ms": 2_000, "responses": [{}, {"tool_call": "end_call"}]}
    behaviour.write_text(json.dumps(model))
    print(f"{name}: {(act.__doc__ or '').strip()}", flush=True)
    try:
        with Fleet(directory, env=env, behaviour=behaviour) as fleet:
            report = act(fleet, calls, times)
    except ConfigError as exc:
        sys.exit(f"proofs.fleet: {exc}")
    for line in report.lines:
        print(f"  {line}")
    for text in sorted(set(report.broken)):
        print(f"  BROKEN: {text}" + (f" ({report.broken.count(text)} times)" if report.broken.count(text) > 1 else ""))
    return len(report.broken)


if __name__ == "__main__":
    main()
