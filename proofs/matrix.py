"""`python -m proofs.matrix`: every scenario of turn taking, judged; exit 1 when one promise is broken.

In virtual time by default, which takes seconds and is what CI runs. `--live` carries the same calls through real
processes, once for each set of settings, with the simulated model on a socket.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, partial
from typing import Final

from aibridge import detectors
from aibridge.agents import rules_of
from aibridge.core.near_ear.detection import Detectors
from shared.process import ConfigError, run
from simulator.voice import clip

from .cell.cell import Cell, Result, default_agent
from .matrix_live import live
from .matrix_rows import Row, row, table
from .scenario import Scenario
from .scenarios import all_scenarios
from .verdict import TOLERANCE_MS

# In virtual time nothing is late by accident: there are only hops of 8 ms, a tick of 5 and a caller's frame.
VIRTUAL_TOLERANCE_MS: Final = 10


@cache
def near_ear() -> Detectors:
    """The detectors that calls use in production."""
    found = detectors.load()
    if found is None:
        raise ConfigError("the near ear has no detectors on this machine; install twentyms[near-ear]")
    return found


def carry(scenario: Scenario, *, seed: int = 1) -> Result:
    """One call of the scenario, in virtual time."""
    fields = dict(scenario.agent)
    if fields.pop("greeting_file", ""):
        fields["greeting_audio"] = clip("demo-congrats").audio
    agent = default_agent(fields)
    rules = rules_of(agent, scenario.settings)
    listens = rules.early_ns or scenario.speakerphone is not None
    cell = Cell(agent=agent, rules=rules, tools=scenario.tools, detectors=near_ear() if listens else None, seed=seed)
    phone = cell.call(
        scenario.script,
        scenario.behaviours,
        ring_ms=scenario.ring_ms,
        speakerphone=scenario.speakerphone,
        callees=scenario.callees,
    )
    for at_ms, happens in scenario.events:
        cell.clock.after(scenario.ring_ms + at_ms, partial(happens, cell))
    cell.run_out()
    result = cell.result(phone)
    assert all(times == 1 for times in cell.toolbox.done.values()), "a tool was carried out twice"
    return result


def virtual(scenarios: Iterable[Scenario]) -> list[Row]:
    rows = []
    for scenario in scenarios:
        result = carry(scenario)
        rows.append(row(scenario, result.record, result.sessions, tolerance_ms=VIRTUAL_TOLERANCE_MS))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proofs.matrix", description=__doc__)
    parser.add_argument("--live", action="store_true", help="through real processes, in real time (about 10 minutes)")
    early_help = "every scenario with BARGE_IN_EARLY=on"
    parser.add_argument("--early", action="store_true", help=early_help)
    parser.add_argument("--only", default="", metavar="TEXT", help="the scenarios whose name contains it")
    arguments = parser.parse_args()
    scenarios = [each for each in all_scenarios() if arguments.only in each.name]
    if arguments.early:
        scenarios = [replace(each, env={**each.env, "BARGE_IN_EARLY": "on"}) for each in scenarios]
    began = time.monotonic()
    if arguments.live:
        real = [each for each in scenarios if not (each.virtual_only or each.events or each.tools or each.callees)]
        rows = live(real, tolerance_ms=TOLERANCE_MS)
    else:
        rows = virtual(scenarios)
    if not rows:
        sys.exit("no such scenario")
    print(table(rows))
    broken = sum(bool(each.problems) for each in rows)
    kind = "live" if arguments.live else "in virtual time"
    print(
        f"\n{len(rows)} scenarios {kind} in {time.monotonic() - began:.0f} s: {broken} broken; "
        f"history error {max(each.verdict.history_error_ms for each in rows)} ms at most, "
        f"{max(each.verdict.cancels for each in rows)} cancel a response at most."
    )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    run("matrix", main)
