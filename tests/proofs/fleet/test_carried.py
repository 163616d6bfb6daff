"""How the fleet's proof judges what crossed cells with a call."""

from __future__ import annotations

from typing import Any

import pytest

from aibridge.core.keypad import IN_WORDS
from proofs.fleet.carried import faults
from simulator.carrier.call import CallRecord, StreamRecord
from simulator.carrier.ear import Ear

UNKNOWN, SUNNY = "The tool's answer was lost.", "sunny"


def call(streams: int = 2, outcome: str = "hung-up-by-caller") -> CallRecord:
    sockets = tuple(StreamRecord(f"MZ{number}", 0, 1, "server", {}) for number in range(streams))
    return CallRecord("CA1", 0, 1, sockets, Ear().record(), (), (), (), outcome=outcome)


def session(outputs: tuple[str, ...] = (UNKNOWN, SUNNY), entries: tuple[str, ...] = ("427",)) -> dict[str, Any]:
    calls = [{"type": "function_call", "status": "completed", "call_id": each} for each in ("book", "look")]
    answers = [
        {"type": "function_call_output", "status": "completed", "call_id": name, "output": text}
        for name, text in zip(("book", "look"), outputs, strict=False)
    ]
    return {
        "told": [{"text": f"{IN_WORDS}{entry})"} for entry in entries],
        "functions": [*calls, *answers],
        "errors": [],
    }


def shown(**changes: Any) -> dict[str, Any]:
    turns = [
        {"role": "tool", "tool": "book", "outcome": "unknown"},
        {"role": "tool", "tool": "look", "outcome": "done"},
        {"role": "keys", "tool": "", "text": "427"},
    ]
    whole = {
        "streams": [{"cell": "cell-0"}, {"cell": "cell-1"}],
        "turns": turns,
        "ended_at": "2026-11-25T12:00:00Z",
        "end_reason": "stop",
        "recording": {"state": "started"},
    }
    return whole | changes


def test_a_call_whose_tools_keys_recording_and_record_are_whole_has_no_fault() -> None:
    assert not list(faults(call(), [session()], shown(), 1))


@pytest.mark.parametrize(
    ("sessions", "record", "recordings"),
    [
        ([session(entries=("42",))], shown(), 1),
        ([session(entries=("427", "427"))], shown(), 1),
        ([session(outputs=(UNKNOWN,))], shown(), 1),
        ([session(outputs=(UNKNOWN, UNKNOWN))], shown(), 1),
        ([session()], shown(), 2),
        ([session()], shown(recording=None), 1),
        ([session()], shown(ended_at=None, end_reason=""), 1),
        ([session()], shown(streams=[{"cell": "cell-1"}]), 1),
        ([session()], shown(turns=shown()["turns"][1:]), 1),
        ([session()], shown(turns=[*shown()["turns"], *shown()["turns"][-1:]]), 1),
    ],
)
def test_whatever_is_lost_or_done_twice_is_a_fault(
    sessions: list[dict[str, Any]], record: dict[str, Any], recordings: int
) -> None:
    assert list(faults(call(), sessions, record, recordings))
