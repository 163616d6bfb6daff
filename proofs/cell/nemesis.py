"""The nemesis in virtual time: the same acts, callers and checker as `proofs.nemesis`, a minute of it in a second."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aibridge.core.near_ear.detection import Detectors
from aibridge.core.rules import Rules
from aibridge.core.tools import ToolRule
from proofs import counted
from proofs.acts import Act, Deed
from proofs.schedule import QUIET_S, schedule, script
from simulator.carrier.call import CallRecord
from simulator.model.behaviour import Behaviour
from simulator.model.vad import NEEDED_MS

from .cell import Cell
from .harm import harm
from .phone import Phone
from .toolbox import VirtualTool

# After the last call, conversations wait this long for their caller to return.
SETTLE_MS: Final = 15_000
LIMIT_MS: Final = 90_000
# The default of BARGE_IN_EARLY_MS.
EARLY_NS: Final = 600_000_000
# A model that is slow to notice the caller, so that the near ear comes first.
SLOW_TO_NOTICE_MS: Final = 300


@dataclass(frozen=True)
class Run:
    """The record of a run: each call with its sessions, the acts, and what was left after the last call."""

    calls: Sequence[tuple[CallRecord, list[dict[str, Any]]]]
    deeds: Sequence[Deed]
    left: Sequence[str]
    # How often each call of the counting tool was carried out.
    effects: Mapping[str, int]


def model_of(*, early: bool) -> Behaviour:
    """The model of a run. `early`: the caller's first sound pauses the AI, and this model notices it later."""
    return counted.behaviour(Behaviour(detection_ms=SLOW_TO_NOTICE_MS if early else NEEDED_MS))


def carry(seed: int, *, seconds: float = 60, calls: int = 4, detectors: Detectors | None = None) -> Run:
    """Carry `calls` callers who call again and again, and the acts of the schedule, except those on callbook.

    With `detectors`, the caller's first sound pauses the AI, and the model notices it some 300 ms later.
    """
    rules = Rules(early_ns=EARLY_NS if detectors is not None else 0)
    model = model_of(early=detectors is not None)
    rule = ToolRule(int(counted.DEADLINE_S * 1e9))
    tools = {counted.TOOL: VirtualTool(counted.WORK_S * 1_000, rule, says="counted ")}
    cell = Cell(gateways=2, workers=2, rules=rules, tools=tools, detectors=detectors, seed=seed)
    rng = random.Random(seed)
    deeds: list[Deed] = []

    def do(act: Act) -> None:
        deeds.append(harm(cell, act))

    began_ns = cell.now_ns
    for act in schedule(seed, seconds):
        if act.target != "callbook":
            cell.clock.at(began_ns + int(act.at_s * 1e9), partial(do, act))
    talking: list[Phone] = []
    while cell.now_ns < began_ns + int((seconds - QUIET_S) * 1e9):
        talking = [phone for phone in talking if not phone.is_over]
        talking += [cell.dial(script(rng), (model,)) for _ in range(calls - len(talking))]
        cell.run(500)
    cell.run_out(LIMIT_MS, SETTLE_MS)
    results = [cell.result(phone) for phone in cell.phones.values()]
    effects = {json.loads(arguments)["once"]: times for arguments, times in cell.toolbox.effects.items()}
    return Run([(each.record, each.sessions) for each in results], deeds, list(_left(cell)), effects)


def _left(cell: Cell) -> Iterator[str]:
    for gateway in cell.gateways:
        if gateway.core.by_number:
            yield f"{gateway.name} still has {len(gateway.core.by_number)} calls"
    for worker in cell.workers:
        if worker.calls.by_number:
            yield f"{worker.name} still has {len(worker.calls.by_number)} calls"
    if len(cell.pacer.core):
        yield f"txpacer still has {len(cell.pacer.core)} lines"
    for call_sid, sessions in cell.model.sessions.items():
        for session in sessions:
            if not session.close_code:
                yield f"a session of {call_sid} is still open"
