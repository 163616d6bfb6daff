"""A whole call with BARGE_IN=clear, by what the carrier does with its echoes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from aibridge.core.rules import Rules
from proofs.cell.cell import Cell, Hops
from proofs.cell.clock import MS
from proofs.cell.phone import Phone
from proofs.judge import judge
from simulator.carrier.caller import AiHeard, AiSilent, HangUp, Say
from simulator.model.behaviour import Behaviour

LEAD_MS = 400
SCRIPT = (
    Say("hello", AiSilent(ms=400)),
    Say("vm-sorry", AiHeard(ms=2_000)),
    Say("vm-sorry", AiHeard(ms=500)),
    HangUp(AiSilent(ms=1_200)),
)


class Echoes:
    """In the way of what a phone sends: its echoes come late, never, twice, or not before the next full second."""

    def __init__(self, cell: Cell, phone: Phone, kind: str) -> None:
        self._cell = cell
        self._send = phone._send
        self._kind = kind

    def __call__(self, texts: Sequence[str]) -> None:
        for text in texts:
            if json.loads(text)["event"] != "mark" or self._kind == "punctual":
                self._send([text])
            elif self._kind == "doubled":
                self._send([text, text])
            elif self._kind != "missing":
                clock = self._cell.clock
                wait_ms = 100.0 if self._kind == "late" else 1_000 - clock.now_ns // MS % 1_000
                clock.after(wait_ms, lambda text=text: self._send([text]))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize(
    ("kind", "error_ms"), [("punctual", 0), ("doubled", 0), ("late", 100), ("missing", 40), ("in bursts", LEAD_MS)]
)
def test_whatever_the_carrier_does_with_echoes_a_clear_makes_no_gap_and_the_history_is_true(
    kind: str, error_ms: int
) -> None:
    cell = Cell(rules=Rules(barge_in="clear", lead_ns=LEAD_MS * MS), hops=Hops(carrier_ms=20))
    phone = cell.call(SCRIPT, (Behaviour(answer_ms=8_000),))
    phone._send = Echoes(cell, phone, kind)  # type: ignore[method-assign]
    cell.run_out()
    result = cell.result(phone)
    found = judge(result.record, result.sessions)
    assert len(found.interruptions) == 2
    assert found.clears == 2
    assert found.gaps == ()
    assert max(each.silence_ms for each in found.interruptions) < 100
    assert found.history_error_ms <= error_ms
