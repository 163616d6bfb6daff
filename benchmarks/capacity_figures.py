"""The figures of one step of a bench: the verdicts on its calls and the use of its processes, as one row.

Times without a unit are milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from proofs.judge import judge
from proofs.verdict import Verdict
from simulator.carrier.call import CallRecord
from simulator.carrier.client import TICK_NS

_MS: Final = 1_000_000
# When the bench itself was this late, its figures of the system's punctuality are void.
VOID_LAG_MS: Final = 50.0
# When a larger share of the bench's own wake-ups was over 5 ms late, its figures of single milliseconds are void.
LATE_SHARE: Final = 0.01


@dataclass(frozen=True)
class Spread:
    """The percentiles of a sample of times; `n` is 0 for an empty sample."""

    n: int = 0
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        if not ordered:
            return cls()
        return cls(len(ordered), _quantile(ordered, 0.5), _quantile(ordered, 0.99), ordered[-1])


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the sample does not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


@dataclass
class Figures:
    """One row. `cpu_ms` is per second of call, by process of the system; `bench_cpu_ms` the same of carrier and model.

    `seconds` is how long the calls were measured. None stands for a figure that this judge does not measure.
    """

    system: str
    calls: int
    seconds: float
    cpu_ms: dict[str, float] = field(default_factory=dict)
    bench_cpu_ms: dict[str, float] = field(default_factory=dict)
    # Proportional set size at rest, and per call above that.
    rest_mb: float = 0.0
    call_kb: float = 0.0
    # The memory of each additional call since the step before, kB; None in the first step.
    further_call_kb: float | None = None
    # The whole of each process while the calls last, MB.
    memory_mb: dict[str, float] = field(default_factory=dict)
    # A process began or ended in this step, so its use is not counted whole.
    is_unsteady: bool = False
    # Share of the time that the host of a virtual machine gave its processors to others, %.
    steal: float = 0.0
    # The share of the calls' time in which the AI was heard.
    talk_share: float = 0.0
    failed_calls: int = 0
    # Silence inside an item, at the ear.
    gaps: int = 0
    gap_ms: float = 0.0
    gap_max_ms: float = 0.0
    # Between two media messages of one item.
    wire_gaps_100: int = 0
    wire_gap_max_ms: float = 0.0
    # Bytes lost, doubled, out of order or invented; items cut off; turns without an answer; other errors of the model.
    damaged_bytes: int | None = None
    cuts: int | None = None
    unanswered: int | None = None
    errors: int = 0
    clears: int = 0
    interruptions: int = 0
    # From speech_started to the last sample heard.
    silence: Spread = Spread()
    # What the model believes was heard of an item, against what the ear played.
    history_error: Spread = Spread()
    # From speech_stopped to the first sample of the answer; 300 ms of it are the model's.
    response: Spread = Spread()
    # From Twilio's `start` to the first sample, without the model's time to begin to speak.
    start: Spread = Spread()
    # From the caller's last frame to its arrival at the model, and from the first delta to the first frame at the
    # carrier.
    turn_in: Spread = Spread()
    turn_out: Spread = Spread()
    # How long after its deadline a frame left: (p50, p99, p99.9) as bounds of the metrics' buckets.
    lateness: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    carrier_lag: Spread = Spread()
    model_lag: Spread = Spread()
    # The share of late ticks of the carrier, or of late deltas of the model, whichever is larger.
    late_share: float = 0.0

    @property
    def cpu_total_ms(self) -> float:
        return sum(self.cpu_ms.values())

    @property
    def is_void(self) -> bool:
        """Whether the bench itself was too late to judge gaps and silence."""
        return max(self.carrier_lag.max, self.model_lag.max) > VOID_LAG_MS

    @property
    def is_late(self) -> bool:
        """Whether the bench itself was late too often to judge single milliseconds."""
        return self.late_share > LATE_SHARE

    def hear(self, calls: Sequence[CallRecord], sessions: Sequence[list[dict[str, Any]]]) -> None:
        """Fill the figures of what was heard; `sessions` are the model's records of each call."""
        verdicts = [judge(call, own) for call, own in zip(calls, sessions, strict=True)]
        self.failed_calls = sum(each.first_audio_ms is None for each in verdicts)
        spoken_ms = sum(each.speech_ms for each in verdicts)
        self.talk_share = spoken_ms / max(1.0, sum(each.duration_ms for each in verdicts))
        gaps = [gap.ms for each in verdicts for gap in each.gaps]
        self.gaps, self.gap_ms, self.gap_max_ms = len(gaps), sum(gaps), max(gaps, default=0.0)
        self.wire_gaps_100 = sum(each.wire_gaps_100 for each in verdicts)
        self.wire_gap_max_ms = max((each.wire_gap_max_ms for each in verdicts), default=0.0)
        self.damaged_bytes = sum(map(_damage, verdicts))
        self.cuts = sum(len(each.cuts) for each in verdicts)
        self.unanswered = sum(each.unanswered for each in verdicts)
        self.errors = sum(len(each.errors) + each.cancel_not_active + len(each.warnings) for each in verdicts)
        self.clears = sum(each.clears for each in verdicts)
        silences = [i.silence_ms for each in verdicts for i in each.interruptions if i.effective_ns is not None]
        self.interruptions, self.silence = len(silences), Spread.of(silences)
        self.history_error = Spread.of([float(item.error_ms) for each in verdicts for item in each.history])
        self.response = Spread.of([ms for each in verdicts for ms in each.response_ms])
        turns = [_Turns(call, own) for call, own in zip(calls, sessions, strict=True)]
        self.start = Spread.of([ms for each in turns for ms in each.start])
        self.turn_in = Spread.of([ms for each in turns for ms in each.came_in])
        self.turn_out = Spread.of([ms for each in turns for ms in each.went_out])
        self.see_lags(calls, [session for own in sessions for session in own])

    def see_lags(self, calls: Sequence[CallRecord], sessions: Sequence[dict[str, Any]]) -> None:
        """Fill the figures of the carrier's and the model's own lateness."""
        # One exchange carries all calls, so each call's record repeats the exchange's lags.
        lags = {(lag.at_ns, lag.late_ns) for call in calls for lag in call.lags}
        self.carrier_lag = Spread.of([late_ns / _MS for _, late_ns in lags])
        self.model_lag = Spread.of([lag["late_ns"] / _MS for session in sessions for lag in session["lags"]])
        times = [at_ns for call in calls if call.streams for at_ns in (call.started_ns, call.ended_ns)] or [0]
        self.late_share = max(
            self.carrier_lag.n * TICK_NS / max(1, max(times) - min(times)),
            self.model_lag.n / max(1, sum(session["deltas"] for session in sessions)),
        )

    def weigh(
        self, own: dict[str, float], bench: dict[str, float], memory_kb: dict[str, float], rest_kb: float
    ) -> None:
        """Fill the figures of CPU and memory in the measured seconds, by process (CPU in s)."""
        carried = max(1, self.calls - self.failed_calls)
        self.cpu_ms = {name: 1_000 * used / (carried * self.seconds) for name, used in own.items()}
        self.bench_cpu_ms = {name: 1_000 * used / (carried * self.seconds) for name, used in bench.items()}
        self.rest_mb = rest_kb / 1_024
        self.memory_mb = {name: kb / 1_024 for name, kb in memory_kb.items()}
        self.call_kb = (sum(memory_kb.values()) - rest_kb) / carried

    def follow(self, before: Figures) -> None:
        """Fill the figures of the calls that this step has beyond the step before."""
        if self.calls > before.calls:
            more_kb = 1_024 * (sum(self.memory_mb.values()) - sum(before.memory_mb.values()))
            self.further_call_kb = more_kb / (self.calls - before.calls)

    def broken(self, silence_limit_ms: float) -> list[str]:
        """Why a larger step should not be tried; empty when all went well, or when the step is void."""
        if self.is_void:
            return []
        reasons = []
        if self.failed_calls:
            reasons.append(f"{self.failed_calls} calls heard nothing")
        if self.gaps:
            reasons.append(f"{self.gaps} gaps at the ear, {self.gap_ms:.0f} ms in all")
        if self.silence.max > silence_limit_ms:
            reasons.append(f"silence only {self.silence.max:.0f} ms after an interruption")
        return reasons


def _damage(verdict: Verdict) -> int:
    return verdict.damaged_bytes()


class _Turns:
    """The time that the system under test adds to the turns of one call. Carrier and model share one clock."""

    def __init__(self, call: CallRecord, sessions: Sequence[dict[str, Any]]) -> None:
        self.came_in: list[float] = []
        self.went_out: list[float] = []
        self.start: list[float] = []
        if len(sessions) != 1 or len(call.streams) != 1:
            return  # the times of audio sent before a reconnection are unknown
        for event in sessions[0]["events"]:
            if event["type"] == "input_audio_buffer.speech_stopped":
                # The model counts milliseconds of audio; the frame that completed them is the last one it needed.
                frame = -(-event["audio_end_ms"] // 20) - 1
                if 0 <= frame < len(call.sent_ns):
                    self.came_in.append((event["at_ns"] - call.sent_ns[frame]) / _MS)
        starts = []
        at = 0
        for size in call.ear.size_bytes:
            starts.append(at)
            at += size
        created = {each["id"]: each["created_ns"] for each in sessions[0]["responses"]}
        for number, item in enumerate(i for i in sessions[0]["items"] if i["role"] == "assistant" and i["sent_bytes"]):
            arrival_ns, play_ns = _first_message(call, starts, item["audio"])
            if arrival_ns and arrival_ns == play_ns:  # otherwise it waited for audio that was still being heard
                out = (arrival_ns - item["first_delta_ns"]) / _MS
                self.went_out.append(out)
                if not number:
                    self.start.append(out + (created[item["response_id"]] - call.started_ns) / _MS)


def _first_message(call: CallRecord, starts: Sequence[int], audio: bytes) -> tuple[int, int]:
    """When the message with an item's first audio arrived, and when it was played; (0, 0): never."""
    at = call.ear.audio.find(audio[:160])
    if at < 0:
        return 0, 0
    message = bisect_right(starts, at) - 1
    return (call.ear.arrival_ns[message], call.ear.play_start_ns[message]) if starts[message] == at else (0, 0)
