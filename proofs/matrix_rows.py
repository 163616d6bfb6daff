"""The rows of the matrix: the verdict on one scenario, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .judge import judge
from .scenario import Scenario, Sessions
from .verdict import Verdict


@dataclass(frozen=True)
class Row:
    """One scenario's outcome."""

    name: str
    verdict: Verdict
    problems: list[str]


def row(scenario: Scenario, record: Any, sessions: Sessions, *, tolerance_ms: int) -> Row:
    """Judge one call; sessions that are left open after it count as a problem."""
    verdict = judge(
        record,
        sessions,
        protect_ms=scenario.settings.greeting_protect_ms,
        keys_interrupt=scenario.agent.get("keypad", {}).get("interrupts", False),
    )
    problems = scenario.problems(verdict, sessions, tolerance_ms=tolerance_ms)
    left = sum(session["closed_ns"] is None for session in sessions)
    if left:
        problems.append(f"{left} model sockets were left open after the call.")
    return Row(scenario.name, verdict, problems)


def table(rows: Sequence[Row]) -> str:
    """One line a scenario."""
    width = max(len(each.name) for each in rows)
    heads = ("scenario".ljust(width), "interrupts", "silent ms", "history ms", "cancels", "answers", "gap ms", "")
    lines = ["  ".join(heads)]
    for each in rows:
        verdict = each.verdict
        silence = verdict.silence_max_ms
        cells = (
            f"{sum(i.effective_ns is not None for i in verdict.interruptions):>10}",
            f"{'-' if silence is None else round(silence):>9}",
            f"{verdict.history_error_ms:>10}",
            f"{verdict.cancels:>7}",
            f"{len(verdict.response_ms):>7}",
            f"{verdict.gap_ms:>6.0f}",
        )
        lines.append("  ".join((each.name.ljust(width), *cells, "BROKEN" if each.problems else "ok")))
        lines += [f"    {problem}" for problem in each.problems]
    return "\n".join(lines)
