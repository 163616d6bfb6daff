"""The settings that the core needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """One gateway's bounds. `workers` counts the aibridge workers of the cell."""

    workers: int
    max_calls: int
    max_calls_per_source: int
    # A frame later than this counts as late when the machine's room is judged.
    late_ns: int
    # How long a live call whose worker is gone waits for another one.
    unserved_s: int
    # BARGE_IN=clear: interruptions empty Twilio's buffer.
    clears: bool = False
    # CELL; "": a cell alone.
    cell: str = ""
    # FLEET: other cells take what this one does not.
    fleet: bool = False
    # STATE_URL: callbook keeps the stories of calls, and can be asked for calls of other cells.
    recalls: bool = False
