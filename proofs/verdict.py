"""What a call was like for its caller, in figures, and which promises of the system it broke.

Milliseconds are floats where they are measured at the ear, whose grain is one sample (0.125 ms).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from shared.audio import FRAME_MS

# What the way from speech_started through bridge, pacer and gateway may take; more is not a tail but a fault.
TOLERANCE_MS: Final = 30
# The carrier's own lateness above which what it measured says little about the system.
LAG_LIMIT_MS: Final = 50

BargeIn = Literal["withdraw", "drain", "clear"]
ALREADY_ACTIVE: Final = "conversation_already_has_active_response"


@dataclass(frozen=True)
class Gap:
    """Silence that the caller heard inside one item: it began at `at_ns`."""

    at_ns: int
    ms: float
    item_id: str


@dataclass(frozen=True)
class Cut:
    """An item whose end was never heard although nobody interrupted it and the call went on."""

    at_ns: int
    item_id: str
    missing_bytes: int


@dataclass(frozen=True)
class Interruption:
    """The caller began to speak while the AI was being heard.

    `effective_ns` is when the AI had to stop: `at_ns` (the model's speech_started), the end of the greeting protection
    if that came later, or None when the caller had stopped by then, so that the greeting had to play on.
    """

    at_ns: int
    effective_ns: int | None
    is_protected: bool
    response_ids: tuple[str, ...]
    # From `effective_ns` to the last sample of those responses that was heard.
    silence_ms: float
    # When they were heard after `effective_ns`: (from, to) in ms after it.
    heard_after: tuple[tuple[float, float], ...]

    def leftover_ms(self, limit_ms: float) -> float:
        """How much of the interrupted speech was heard later than `limit_ms` after the interruption."""
        return sum(max(0.0, end - max(start, limit_ms)) for start, end in self.heard_after)


@dataclass(frozen=True)
class History:
    """What the model believes was heard of an item, against what was."""

    item_id: str
    held_ms: int
    heard_ms: int

    @property
    def error_ms(self) -> int:
        return abs(self.held_ms - self.heard_ms)


@dataclass(frozen=True)
class Greeting:
    """The first answer of the call. `protected_ms` of it were due before an interruption counted."""

    total_ms: float
    heard_ms: float
    protected_ms: float
    # When the protection began and ended at the ear; 0 when the greeting never came that far.
    began_ns: int
    protected_until_ns: int
    # Someone spoke during the protection, and not even the protected part was heard.
    is_breached: bool


@dataclass(frozen=True)
class Verdict:
    """The figures of one call. `problems()` compares them with the promises, `lines()` is for a terminal."""

    call_sid: str
    outcome: str
    duration_ms: float
    # From Twilio's `start` to the first sample heard; None when nothing was.
    first_audio_ms: float | None
    speech_ms: float
    gaps: tuple[Gap, ...]
    cuts: tuple[Cut, ...]
    lost_bytes: int
    doubled_bytes: int
    out_of_order_bytes: int
    invented_bytes: int
    interruptions: tuple[Interruption, ...]
    greeting: Greeting | None
    history: tuple[History, ...]
    # From each speech_stopped to the first sample of its answer.
    response_ms: tuple[float, ...]
    # The ends of the caller's turns that got none.
    unanswered_ns: tuple[int, ...]
    # The most response.cancel that one response got.
    cancels: int
    cancel_not_active: int
    # Codes of the model's other errors.
    errors: tuple[str, ...]
    # Media messages of one item that came more than 100 ms, and 300 ms (TX_STALL), after the one before.
    wire_gaps_100: int
    wire_gaps_300: int
    wire_gap_max_ms: float
    clears: int
    warnings: tuple[str, ...]
    lag_max_ms: float

    @property
    def gap_ms(self) -> float:
        return sum(gap.ms for gap in self.gaps)

    @property
    def unanswered(self) -> int:
        return len(self.unanswered_ns)

    @property
    def history_error_ms(self) -> int:
        return max((each.error_ms for each in self.history), default=0)

    @property
    def silence_max_ms(self) -> float | None:
        """The longest that an interrupted AI went on; None when nobody interrupted it."""
        return max((i.silence_ms for i in self.interruptions if i.effective_ns is not None), default=None)

    def leftover_ms(self, limit_ms: float) -> float:
        return sum(i.leftover_ms(limit_ms) for i in self.interruptions)

    def problems(
        self,
        *,
        lead_ms: int = 120,
        tolerance_ms: int = TOLERANCE_MS,
        lag_limit_ms: int = LAG_LIMIT_MS,
        barge_in: BargeIn = "withdraw",
    ) -> list[str]:
        """Each promise that this call broke, as a sentence; empty when it held them all."""
        problems = list(self._problems(lead_ms + FRAME_MS + tolerance_ms, barge_in))
        # Its own lateness makes the carrier see audio late and never early: it can fake a fault, and hide none.
        if problems and self.lag_max_ms > lag_limit_ms:
            problems.append(f"(The carrier itself was {self.lag_max_ms:.0f} ms late: it may have caused what it saw.)")
        return problems

    def _problems(self, limit_ms: int, barge_in: BargeIn) -> Iterator[str]:
        if self.outcome in ("failed", "too-many-redirects", "time-limit"):
            yield f"The call did not come to its end: {self.outcome}."
        if self.first_audio_ms is None:
            yield "The caller heard nothing."
        if self.gaps:
            longest = max(gap.ms for gap in self.gaps)
            yield f"Gaps at the ear: {len(self.gaps)}, {self.gap_ms:.1f} ms in all, the longest {longest:.1f} ms."
        for cut in self.cuts:
            yield f"{cut.item_id} was cut off without an interruption; {cut.missing_bytes / 8:.0f} ms were never heard."
        for n_bytes, what in (
            (self.lost_bytes, "lost"),
            (self.doubled_bytes, "heard twice"),
            (self.out_of_order_bytes, "heard out of order"),
            (self.invented_bytes, "of no item of this call"),
        ):
            if n_bytes:
                yield f"{n_bytes} bytes of speech were {what}."
        if self.greeting is not None and self.greeting.is_breached:
            yield (
                f"The greeting was interrupted after {self.greeting.heard_ms:.0f} ms, "
                f"inside its first {self.greeting.protected_ms:.0f} ms."
            )
        if barge_in != "drain":
            for interruption in self.interruptions:
                left = interruption.leftover_ms(limit_ms)
                if left:
                    yield (
                        f"After an interruption the AI went on for {interruption.silence_ms:.0f} ms: "
                        f"{left:.0f} ms of it beyond the {limit_ms} ms allowed."
                    )
        if barge_in != "clear" and self.clears:
            yield f"Twilio's buffer was flushed (`clear`): {self.clears}."
        for each in self.history:
            if each.error_ms:
                yield f"The model believes {each.held_ms} ms of {each.item_id} were heard; {each.heard_ms} ms were."
        if self.unanswered:
            yield f"Turns of the caller that got no answer: {self.unanswered}."
        if self.cancels > 1:
            yield f"One response was cancelled {self.cancels} times."
        if self.cancel_not_active:
            yield f"Cancels when nothing was active (response_cancel_not_active): {self.cancel_not_active}."
        # A turn that ends while a response is in its way: the server could not answer by itself, and is asked to.
        for code, count in Counter(each for each in self.errors if each != ALREADY_ACTIVE).items():
            yield f"Errors of the model with code {code}: {count}."
        for warning in self.warnings:
            yield f"Twilio's debugger: {warning}."

    def lines(self, *, lead_ms: int = 120, tolerance_ms: int = TOLERANCE_MS) -> list[str]:
        """The verdict as a table of a few lines."""
        limit_ms = lead_ms + FRAME_MS + tolerance_ms
        answers = sorted(self.response_ms)
        silences = [f"{i.silence_ms:.0f}" for i in self.interruptions if i.effective_ns is not None]
        waited = sum(i.is_protected for i in self.interruptions)
        damage = (self.lost_bytes, self.doubled_bytes, self.out_of_order_bytes, self.invented_bytes)
        rows = [
            ("call", f"{self.duration_ms / 1000:.1f} s, {self.outcome}"),
            ("first audio", "none" if self.first_audio_ms is None else f"{self.first_audio_ms:.0f} ms after start"),
            ("speech heard", f"{self.speech_ms / 1000:.1f} s"),
            ("gaps at the ear", f"{len(self.gaps)} ({self.gap_ms:.1f} ms)"),
            ("cut off without cause", f"{len(self.cuts)}"),
            ("lost / doubled / out of order / invented", " / ".join(map(str, damage)) + " bytes"),
            ("interruptions", f"{len(self.interruptions)}, of which {waited} in the protected greeting"),
            ("silent after", f"{', '.join(silences) or '-'} ms"),
            ("leftovers beyond the lead", f"{self.leftover_ms(limit_ms):.0f} ms"),
            ("history error", f"{self.history_error_ms} ms over {len(self.history)} items"),
            ("answers", f"{len(answers)}, slowest after {answers[-1]:.0f} ms" if answers else "0"),
            ("cancels per response", f"{self.cancels} at most; with nothing active: {self.cancel_not_active}"),
            ("wire gaps over 100 / 300 ms", f"{self.wire_gaps_100} / {self.wire_gaps_300}"),
            ("debugger warnings", f"{len(self.warnings)}"),
            ("carrier's own lateness", f"{self.lag_max_ms:.0f} ms at most"),
        ]
        width = max(len(name) for name, _ in rows)
        return [f"{name:<{width}}  {value}" for name, value in rows]
