"""What a line reports to its pacer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """The first frame of an utterance was paced; the ear begins to play it at `ear_ns`, `ahead_ns` later."""

    utterance: int
    ear_ns: int
    ahead_ns: int = 0


@dataclass(frozen=True)
class Shifted:
    """The ear plays the rest of an utterance `gap_ns` later than was reported.

    `audible`: the ear ran dry inside the utterance, which is a gap. Otherwise only the utterance's beginning was late,
    or a pause made the silence. `continued`: the silence that was reported last has become longer by `gap_ns`.
    """

    utterance: int
    gap_ns: int
    audible: bool
    continued: bool = False


@dataclass(frozen=True)
class Finished:
    """The ear played the last paced sample of an utterance: its end, or the point where it was withdrawn."""

    utterance: int
    ear_ns: int


@dataclass(frozen=True)
class Starved:
    """The model was slower than the ear: a deadline passed without a whole frame in the reservoir."""

    utterance: int


@dataclass(frozen=True)
class CaughtUp:
    """The line was woken late, and emitted `frames` overdue frames before the ear ran dry."""

    frames: int


@dataclass(frozen=True)
class Cut:
    """What a withdrawal left of the utterances up to `through`: the bytes of each that the caller hears, and when the
    ear falls silent.

    `is_estimate`: it was a `clear` whose echo did not come, so the bytes are what the line believed when it was sent.
    """

    through: int
    heard_bytes: tuple[tuple[int, int], ...]
    silent_ns: int
    is_estimate: bool = False


Report = Started | Shifted | Finished | Starved | CaughtUp | Cut
