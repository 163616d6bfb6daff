"""What txpacer counts. `shared/pages.py` exports it."""

from __future__ import annotations

from typing import Final

from shared.metrics import GC_PAUSE, REALTIME, Definition, Page, counter, gauge, histogram

# From 100 us (a good timer) to 1 s (a stopped machine).
LATENESS_BUCKETS: Final = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip
# From no gap at all to a spoilt call.
CALL_GAP_BUCKETS: Final = (0.0, 0.02, 0.06, 0.12, 0.3, 1.0, 3.0, 10.0)
GAP_BUCKETS: Final = (0.02, 0.06, 0.12, 0.3, 0.5, 1.0, 2.0, 5.0)

DEFINITIONS: Final[tuple[Definition, ...]] = (
    counter("pacer_frames", "Frames emitted"),
    histogram("pacer_lateness_seconds", "How long after its deadline a frame was emitted", LATENESS_BUCKETS),
    histogram("pacer_ear_gap_seconds", "Gaps inside an utterance at the estimated ear", GAP_BUCKETS),
    counter("pacer_starved", "Deadlines that passed because the model had not produced the speech yet"),
    counter("pacer_caught_up", "Times a line emitted overdue frames before the ear ran dry"),
    counter("pacer_reanchored", "Times a line restored its lead after the ear had run dry inside an utterance"),
    counter("pacer_withdrawn", "Withdrawals"),
    counter("pacer_clears_unanswered", "`clear`s without an echo of Twilio: what was heard of them is an estimate"),
    counter("pacer_restored", "Lines that continued in mid-speech: after a restart, or on another media socket"),
    counter("pacer_held", "Times a due line waited because its gateway did not acknowledge"),
    counter("pacer_lost_batches", "Batches that a gateway never acknowledged"),
    histogram(
        "pacer_call_ear_gap_seconds", "Estimated gaps at the ear in a whole call, observed at its end", CALL_GAP_BUCKETS
    ),
    counter("pacer_refused_bytes", "Speech bytes not taken: withdrawn, unknown call, or reservoir full"),
    counter("pacer_foreign", "Messages of an aibridge worker about a call that another worker has taken over"),
    counter("pacer_dropped", "Messages to an aibridge or gateway that its socket refused"),
    counter("pacer_undecodable", "Messages that did not decode"),
    gauge("pacer_lines", "Open lines"),
    gauge("pacer_reservoir_bytes", "Speech that is not paced yet, of all lines (8,000 bytes are 1 s)"),
    gauge("pacer_held_lines", "Lines that wait for their gateway to acknowledge"),
    gauge("pacer_unacknowledged_batches", "Batches that gateways have not acknowledged"),
    gauge("pacer_lead_seconds", "How far ahead of real time lines are paced (TX_LEAD_MS)"),
    gauge("pacer_memory_locked", "1 when the memory of txpacer is locked"),
    REALTIME,
    GC_PAUSE,
)


class PacerMetrics:
    """Handles to DEFINITIONS on one page."""

    def __init__(self, page: Page) -> None:
        self.frames = page.counter("pacer_frames")
        self.lateness = page.histogram("pacer_lateness_seconds")
        self.ear_gap = page.histogram("pacer_ear_gap_seconds")
        self.starved = page.counter("pacer_starved")
        self.caught_up = page.counter("pacer_caught_up")
        self.reanchored = page.counter("pacer_reanchored")
        self.withdrawn = page.counter("pacer_withdrawn")
        self.clears_unanswered = page.counter("pacer_clears_unanswered")
        self.restored = page.counter("pacer_restored")
        self.held = page.counter("pacer_held")
        self.lost_batches = page.counter("pacer_lost_batches")
        self.refused_bytes = page.counter("pacer_refused_bytes")
        self.foreign = page.counter("pacer_foreign")
        self.dropped = page.counter("pacer_dropped")
        self.undecodable = page.counter("pacer_undecodable")
        self.call_ear_gap = page.histogram("pacer_call_ear_gap_seconds")
        self.lines = page.gauge("pacer_lines")
        self.reservoir_bytes = page.gauge("pacer_reservoir_bytes")
        self.held_lines = page.gauge("pacer_held_lines")
        self.unacknowledged = page.gauge("pacer_unacknowledged_batches")
        self.lead = page.gauge("pacer_lead_seconds")
        self.memory_locked = page.gauge("pacer_memory_locked")
        self.realtime = page.gauge(REALTIME.name)
