"""Harm to a running system: what the nemesis does, when, and to which calls. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Damage from an act begins while the act lasts, or this soon after its end.
NEAR_NS: Final = 1_000_000_000


@dataclass(frozen=True)
class Act:
    """One piece of harm. `seconds` is how long a process is stopped, or a socket not read."""

    at_s: float
    kind: str  # "kill", "stop" of processes; "lose", "slow" of sockets
    target: str  # a process's name, or whose socket: "media", "model"
    which: int  # which one of several processes, or of the phones
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" for {self.seconds} s" if self.seconds else "")


@dataclass(frozen=True)
class Deed:
    """An act as it was carried out. `victims` are the calls that it hit: those of the process, or the socket's.

    `failure` says why nothing was done.
    """

    act: Act
    began_ns: int
    ended_ns: int
    victims: tuple[str, ...] = ()
    failure: str = ""

    def is_near(self, from_ns: int, to_ns: int) -> bool:
        """Whether damage in this time may follow from the act."""
        return self.began_ns <= to_ns and from_ns <= self.ended_ns + NEAR_NS
