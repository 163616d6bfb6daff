"""What the callers of one system heard over one path, as one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from proofs.judge import judge
from proofs.verdict import Interruption, Verdict
from simulator.carrier.call import CallRecord

from .capacity_figures import VOID_LAG_MS
from .network_paths import NetworkPath

_MS: Final = 1_000_000
# Interrupted speech that is heard later than this and half a round trip after `speech_started` is a leftover: the
# longest lead without a flush, a frame, and the hops.
LEFTOVER_MS: Final = 180 + 20 + 30
# An interruption this long after the end of a stall is to be as quick as before any.
AFTER_STALL_NS: Final = 1_000 * _MS
# The model's history and the ear agree: a frame and the grain of two clocks.
HISTORY_MS: Final = 40


@dataclass(frozen=True)
class Stalls:
    """When a path stood still, ns: the first stall comes one period after `began_ns`."""

    began_ns: int
    every_ns: int
    long_ns: int

    def since_end_ns(self, at_ns: int) -> int | None:
        """How long ago the last stall ended; None before the end of the first one."""
        since_ns = at_ns - self.began_ns - self.long_ns
        return since_ns % self.every_ns if since_ns >= self.every_ns else None


@dataclass
class Row:
    """Times in ms. Silences are from `speech_started` to the last sample that was heard, one of each interruption."""

    system: str
    path: str
    calls: int
    failed_calls: int = 0
    speech_s: float = 0.0
    # Silence inside an item at the carrier's ear, each; and the same as txpacer counted it (None: not ours).
    gaps: list[float] = field(default_factory=list)
    # When each began, seconds after its call did.
    gap_times_s: list[float] = field(default_factory=list)
    counted_gap_ms: float | None = None
    silences: list[float] = field(default_factory=list)
    # Of these, those at least a second after a stall.
    silences_after_stall: list[float] = field(default_factory=list)
    leftover_ms: float = 0.0
    # What the model believes was heard of each item, against what was.
    history_errors: list[int] = field(default_factory=list)
    damaged_bytes: int = 0
    errors: int = 0
    clears: int = 0
    # CPU per second of call, all processes of the system.
    cpu_ms: float = 0.0
    # How late carrier, model and path were themselves, at most.
    carrier_late_ms: float = 0.0
    model_late_ms: float = 0.0
    path_late_ms: float = 0.0
    lost_packets: int = 0

    @property
    def gap_ms(self) -> float:
        return sum(self.gaps)

    @property
    def late_ms(self) -> float:
        return max(self.carrier_late_ms, self.model_late_ms, self.path_late_ms)

    @property
    def is_void(self) -> bool:
        """The bench's own programs were too late to judge by."""
        return self.late_ms > VOID_LAG_MS

    @property
    def wrong_history(self) -> int:
        return sum(each > HISTORY_MS for each in self.history_errors)

    def hear(
        self,
        path: NetworkPath,
        calls: Sequence[CallRecord],
        sessions: Sequence[list[dict[str, Any]]],
        stalls: Stalls | None,
    ) -> None:
        """Fill the row with what the calls' ears played; `sessions` are the model's records of each call."""
        held_up_ms = path.round_trip_ms / 2 + path.stall_ms
        verdicts = [judge(call, own, held_up_ms=held_up_ms) for call, own in zip(calls, sessions, strict=True)]
        self.failed_calls = sum(each.first_audio_ms is None for each in verdicts)
        self.speech_s = sum(each.speech_ms for each in verdicts) / 1_000
        self.gaps = [gap.ms for each in verdicts for gap in each.gaps]
        self.gap_times_s = [
            (gap.at_ns - call.started_ns) / 1e9 for call, each in zip(calls, verdicts, strict=True) for gap in each.gaps
        ]
        interruptions = [i for each in verdicts for i in each.interruptions if i.effective_ns is not None]
        self.silences = [each.silence_ms for each in interruptions]
        if stalls is not None:
            self.silences_after_stall = [each.silence_ms for each in interruptions if _is_after(stalls, each)]
        self.leftover_ms = sum(each.leftover_ms(LEFTOVER_MS + path.round_trip_ms / 2) for each in interruptions)
        self.history_errors = [item.error_ms for each in verdicts for item in each.history]
        self.damaged_bytes = sum(each.damaged_bytes() for each in verdicts)
        self.errors = sum(map(_errors, verdicts))
        self.clears = sum(each.clears for each in verdicts)
        self.carrier_late_ms = max((each.lag_max_ms for each in verdicts), default=0.0)
        lags = [lag["late_ns"] / _MS for own in sessions for session in own for lag in session["lags"]]
        self.model_late_ms = max(lags, default=0.0)


def _is_after(stalls: Stalls, interruption: Interruption) -> bool:
    """The interruption came a second or more after a stall, and no other stall came into its silence."""
    since_ns = stalls.since_end_ns(interruption.at_ns)
    end_ns = since_ns + int(interruption.silence_ms * _MS) if since_ns is not None else 0
    return since_ns is not None and since_ns >= AFTER_STALL_NS and end_ns < stalls.every_ns - stalls.long_ns


def _errors(verdict: Verdict) -> int:
    return len(verdict.errors) + len(verdict.warnings) + len(verdict.cuts) + verdict.unanswered


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] if ordered else 0.0
