"""The figures of a call for its caller, and the promises that the system broke.

Milliseconds are floats where they are measured at the ear, whose grain is one sample (0.125 ms).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from shared.audio import BYTES_PER_MS, FRAME_MS
from simulator.carrier.dial import LegRecord

from .inbound import Inbound

# The time from speech_started through aibridge, txpacer and gateway; a longer tail is a fault.
TOLERANCE_MS: Final = 30
# Above this lateness of its own, the carrier's measurements say little about the system.
LAG_LIMIT_MS: Final = 50

# From the end of a turn, as the model notices it, to the first sample of the answer, without the model's own time: the
# hops there and back, a tick, a frame.
ANSWER_MS: Final = 100

BargeIn = Literal["withdraw", "drain", "clear"]
FaultKind = Literal[
    "outcome",
    "silence",
    "warning",
    "gap",
    "cut",
    "damage",
    "inbound",
    "greeting",
    "leftover",
    "clear",
    "history",
    "late answer",
    "unanswered",
    "cancels",
    "cancel not active",
    "error",
]
ALREADY_ACTIVE: Final = "conversation_already_has_active_response"
CANCEL_NOT_ACTIVE: Final = "response_cancel_not_active"


@dataclass(frozen=True)
class Gap:
    """Silence that the caller heard inside one item: it began at `at_ns`."""

    at_ns: int
    ms: float
    item_id: str


@dataclass(frozen=True)
class Cut:
    """An item whose end was never heard, although there was no interruption and the call went on."""

    at_ns: int
    item_id: str
    missing_bytes: int


@dataclass(frozen=True)
class Damage:
    """Bytes at the ear that differ from the model's speech, noticed at `at_ns`. "invented" bytes belong to no item."""

    kind: Literal["lost", "twice", "order", "invented"]
    at_ns: int
    item_id: str
    size: int


@dataclass(frozen=True)
class Answer:
    """How long a caller waited for an answer.

    The wait begins at `at_ns`, the end of the turn as the model noticed it, or at the AI's own last sample.
    """

    at_ns: int
    ms: float
    # The model's part of it: from the response's creation to its first audio.
    model_ms: float

    @property
    def own_ms(self) -> float:
        """The wait without the model's part."""
        return self.ms - self.model_ms


@dataclass(frozen=True)
class ErrorSeen:
    """An error of the model that the scenario did not force."""

    at_ns: int
    code: str


@dataclass(frozen=True)
class Fault:
    """One broken promise. `amount` is in ms, in bytes for damage, otherwise a count; `key` says of what."""

    kind: FaultKind
    text: str
    amount: float = 1
    key: str = ""


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
        """The interrupted speech that was heard later than `limit_ms` after the interruption."""
        return sum(max(0.0, end - max(start, limit_ms)) for start, end in self.heard_after)


@dataclass(frozen=True)
class History:
    """What the model believes was heard of an item, against what the ear played."""

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
    damages: tuple[Damage, ...]
    # What the model heard of the caller; None when its server kept no record of it.
    inbound: Inbound | None
    interruptions: tuple[Interruption, ...]
    greeting: Greeting | None
    history: tuple[History, ...]
    answers: tuple[Answer, ...]
    # The ends of the caller's turns that got no answer.
    unanswered_ns: tuple[int, ...]
    # The most response.cancel that one response got.
    cancels: int
    cancel_not_active: int
    # The model's other errors.
    errors: tuple[ErrorSeen, ...]
    # Media messages of one item that came more than 100 ms, and 300 ms (TX_STALL), after the one before.
    wire_gaps_100: int
    wire_gaps_300: int
    wire_gap_max_ms: float
    clears: int
    warnings: tuple[str, ...]
    lag_max_ms: float
    # The legs that the carrier was told to dial, and for each caller who was back how long they waited for the AI.
    legs: tuple[LegRecord, ...] = ()
    back_ms: tuple[float, ...] = ()

    @property
    def gap_ms(self) -> float:
        return sum(gap.ms for gap in self.gaps)

    def damaged_bytes(self, kind: str = "") -> int:
        """Bytes at the ear that were lost, heard twice, out of order or invented; of one kind, or of all."""
        return sum(each.size for each in self.damages if kind in ("", each.kind))

    @property
    def response_ms(self) -> tuple[float, ...]:
        """From the end of each turn to the first sample of its answer."""
        return tuple(each.ms for each in self.answers)

    @property
    def unanswered(self) -> int:
        return len(self.unanswered_ns)

    @property
    def history_error_ms(self) -> int:
        return max((each.error_ms for each in self.history), default=0)

    @property
    def silence_max_ms(self) -> float | None:
        """The longest time for which an interrupted AI went on; None without an interruption."""
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
        faults = self.faults(lead_ms=lead_ms, tolerance_ms=tolerance_ms, barge_in=barge_in)
        return self.with_remark([each.text for each in faults], lag_limit_ms)

    def with_remark(self, problems: list[str], lag_limit_ms: int = LAG_LIMIT_MS) -> list[str]:
        """`problems`, with a remark on the measurement when the carrier itself was late.

        A late carrier sees audio late and never early: its lateness can fake a fault, and hides none.
        """
        if problems and self.lag_max_ms > lag_limit_ms:
            return [
                *problems,
                f"(The carrier itself was {self.lag_max_ms:.0f} ms late: it may have caused what it saw.)",
            ]
        return problems

    def faults(
        self, *, lead_ms: int = 120, tolerance_ms: int = TOLERANCE_MS, barge_in: BargeIn = "withdraw"
    ) -> list[Fault]:
        """Each promise that this call broke."""
        return [
            *self._of_the_call(),
            *self._of_the_audio(),
            *self._of_interruptions(lead_ms + FRAME_MS + tolerance_ms, barge_in),
            *self._of_the_conversation(ANSWER_MS + tolerance_ms),
        ]

    def _of_the_call(self) -> Iterator[Fault]:
        if self.outcome in ("failed", "too-many-redirects", "time-limit"):
            yield Fault("outcome", f"The call did not come to its end: {self.outcome}.", key=self.outcome)
        if self.first_audio_ms is None:
            yield Fault("silence", "The caller heard nothing.")
        for warning in self.warnings:
            yield Fault("warning", f"Twilio's debugger: {warning}.", key=warning)

    def _of_the_audio(self) -> Iterator[Fault]:
        for gap in self.gaps:
            yield Fault("gap", f"A gap of {gap.ms:.1f} ms in {gap.item_id}.", gap.ms, gap.item_id)
        for cut in self.cuts:
            ms = cut.missing_bytes / BYTES_PER_MS
            yield Fault(
                "cut",
                f"{cut.item_id} was cut off without an interruption; {ms:.0f} ms were never heard.",
                ms,
                cut.item_id,
            )
        for kind, what in (
            ("lost", "lost"),
            ("twice", "heard twice"),
            ("order", "heard out of order"),
            ("invented", "of no item of this call"),
        ):
            if n_bytes := self.damaged_bytes(kind):
                yield Fault("damage", f"{n_bytes} bytes of speech were {what}.", n_bytes, kind)
        if self.inbound is not None:
            for text, ms in self.inbound.problems():
                yield Fault("inbound", text, ms)

    def _of_interruptions(self, limit_ms: int, barge_in: BargeIn) -> Iterator[Fault]:
        if self.greeting is not None and self.greeting.is_breached:
            yield Fault(
                "greeting",
                f"The greeting was interrupted after {self.greeting.heard_ms:.0f} ms, "
                f"inside its first {self.greeting.protected_ms:.0f} ms.",
                self.greeting.protected_ms - self.greeting.heard_ms,
            )
        if barge_in != "drain":
            for interruption in self.interruptions:
                left = interruption.leftover_ms(limit_ms)
                if left:
                    yield Fault(
                        "leftover",
                        f"After an interruption the AI went on for {interruption.silence_ms:.0f} ms: "
                        f"{left:.0f} ms of it beyond the {limit_ms} ms allowed.",
                        left,
                    )
        if barge_in != "clear" and self.clears:
            yield Fault("clear", f"Twilio's buffer was flushed (`clear`): {self.clears}.", self.clears)

    def _of_the_conversation(self, answer_ms: int) -> Iterator[Fault]:
        for each in self.history:
            if each.error_ms:
                yield Fault(
                    "history",
                    f"The model believes {each.held_ms} ms of {each.item_id} were heard; {each.heard_ms} ms were.",
                    each.error_ms,
                    each.item_id,
                )
        for answer in self.answers:
            if answer.own_ms > answer_ms:
                yield Fault(
                    "late answer",
                    f"An answer took {answer.own_ms:.0f} ms beyond the {answer.model_ms:.0f} ms of the model.",
                    answer.own_ms,
                )
        if self.unanswered:
            yield Fault("unanswered", f"Turns of the caller that got no answer: {self.unanswered}.", self.unanswered)
        if self.cancels > 1:
            yield Fault("cancels", f"One response was cancelled {self.cancels} times.", self.cancels)
        if self.cancel_not_active:
            yield Fault(
                "cancel not active",
                f"Cancels when nothing was active (response_cancel_not_active): {self.cancel_not_active}.",
                self.cancel_not_active,
            )
        for code, count in Counter(each.code for each in self.errors).items():
            yield Fault("error", f"Errors of the model with code {code}: {count}.", count, code)

    def lines(self, *, lead_ms: int = 120, tolerance_ms: int = TOLERANCE_MS) -> list[str]:
        """The verdict as a table of a few lines."""
        limit_ms = lead_ms + FRAME_MS + tolerance_ms
        answers = sorted(self.response_ms)
        silences = [f"{i.silence_ms:.0f}" for i in self.interruptions if i.effective_ns is not None]
        waited = sum(i.is_protected for i in self.interruptions)
        damage = [self.damaged_bytes(kind) for kind in ("lost", "twice", "order", "invented")]
        missed = "not compared" if self.inbound is None else f"{self.inbound.missing_ms:.0f} ms"
        rows = [
            ("call", f"{self.duration_ms / 1000:.1f} s, {self.outcome}"),
            ("first audio", "none" if self.first_audio_ms is None else f"{self.first_audio_ms:.0f} ms after start"),
            ("speech heard", f"{self.speech_ms / 1000:.1f} s"),
            ("gaps at the ear", f"{len(self.gaps)} ({self.gap_ms:.1f} ms)"),
            ("cut off without cause", f"{len(self.cuts)}"),
            ("lost / doubled / out of order / invented", " / ".join(map(str, damage)) + " bytes"),
            ("of the caller, missed by the model", missed),
            ("interruptions", f"{len(self.interruptions)}, {waited} of them in the protected greeting"),
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
