"""What `twentyms doctor` found out about one thing, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Outcome = Literal["ok", "note", "bad"]
_SIGNS: Final[dict[Outcome, str]] = {"ok": "ok  ", "note": "note", "bad": "BAD "}


@dataclass(frozen=True)
class Finding:
    """`advice` says what to do about it; empty: nothing."""

    outcome: Outcome
    what: str
    text: str
    advice: str = ""

    def lines(self) -> list[str]:
        told = [f"{_SIGNS[self.outcome]}  {self.what:<15}{self.text}"]
        return told + [f"{'':21}-> {self.advice}"] * bool(self.advice)
