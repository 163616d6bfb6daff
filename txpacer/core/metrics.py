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
# What made the frames of a gap late: this machine or the model, or the path to the caller, whose socket took nothing or
# on which they waited.
PLACES: Final = ("machine", "path")
# Around TX_LEAD_MIN_MS, TX_LEAD_MS and TX_LEAD_MAX_MS, up to the longest lead with BARGE_IN=clear.
LEAD_BUCKETS: Final = (0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.25, 0.4, 0.6, 1.0)
DELAY_BUCKETS: Final = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.16, 0.25, 0.4, 0.6, 1.0)
# The shortest, the median and the longest lead of the live calls.
LEADS: Final = ("least", "median", "most")

DEFINITIONS: Final[tuple[Definition, ...]] = (
    counter("pacer_frames", "20 ms frames of speech that txpacer emitted to gateways"),
    histogram("pacer_lateness_seconds", "How long after its deadline a frame was emitted", LATENESS_BUCKETS),
    histogram(
        "pacer_ear_gap_seconds",
        "Gaps that callers heard inside an utterance, by what made the frames late",
        GAP_BUCKETS,
        "where",
        PLACES,
    ),
    counter("pacer_starved", "Deadlines that passed because the model had not produced the speech yet"),
    counter("pacer_caught_up", "Times a line emitted overdue frames before the ear ran dry"),
    counter("pacer_reanchored", "Times a line restored its lead after the ear had run dry inside an utterance"),
    counter("pacer_withdrawn", "Utterances whose unheard rest was withdrawn by an interruption"),
    counter("pacer_clears_unanswered", "`clear`s without an echo of Twilio: what was heard of them is an estimate"),
    counter("pacer_restored", "Lines that continued in mid-speech: after a restart, or on another media socket"),
    counter("pacer_held", "Times a due line waited because its gateway did not acknowledge"),
    counter("pacer_lost_batches", "Batches that a gateway never acknowledged"),
    histogram(
        "pacer_call_ear_gap_seconds",
        "Gaps that the caller of a whole call heard, observed at its end",
        CALL_GAP_BUCKETS,
    ),
    histogram("pacer_path_delay_seconds", "Round trips of pings beyond the least of their call", DELAY_BUCKETS),
    counter("pacer_gaps_avoided", "Delays of the path beyond TX_LEAD_MIN_MS that a longer lead hid"),
    histogram(
        "pacer_lead_needed_seconds",
        "The lead that would have hidden every delay of a call, or of five minutes of a long one",
        LEAD_BUCKETS,
    ),
    counter("pacer_lead_short", "Calls, or five minutes of long ones, that needed more than TX_LEAD_MAX_MS"),
    counter("pacer_marks_unechoed", "Marks that Twilio never echoed"),
    counter("pacer_echoes_strange", "Echoes of no pending mark, and echoes sooner than the path allows"),
    counter("pacer_refused_bytes", "Speech bytes not taken: withdrawn, unknown call, or reservoir full"),
    counter("pacer_foreign", "Messages of an aibridge worker about a call that another worker has taken over"),
    counter("pacer_dropped", "Messages to an aibridge or gateway that its socket refused"),
    counter("pacer_undecodable", "Messages that did not decode"),
    gauge("pacer_lines", "Open lines"),
    gauge("pacer_reservoir_bytes", "Speech that is not paced yet, of all lines (8,000 bytes are 1 s)"),
    gauge("pacer_held_lines", "Lines that wait for their gateway to acknowledge"),
    gauge("pacer_unacknowledged_batches", "Batches that gateways have not acknowledged"),
    gauge(
        "pacer_lead_seconds", "Targets of the live calls' leads; without a call, where the next one starts", "of", LEADS
    ),
    gauge("pacer_lead_max_seconds", "The longest lead that a call may have (TX_LEAD_MAX_MS)"),
    gauge("pacer_memory_locked", "1 when the memory of txpacer is locked"),
    REALTIME,
    GC_PAUSE,
)


class PacerMetrics:
    """Handles to DEFINITIONS on one page."""

    def __init__(self, page: Page) -> None:
        self.frames = page.counter("pacer_frames")
        self.lateness = page.histogram("pacer_lateness_seconds")
        self.ear_gap = {place: page.histogram("pacer_ear_gap_seconds", place) for place in PLACES}
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
        self.path_delay = page.histogram("pacer_path_delay_seconds")
        self.gaps_avoided = page.counter("pacer_gaps_avoided")
        self.lead_needed = page.histogram("pacer_lead_needed_seconds")
        self.lead_short = page.counter("pacer_lead_short")
        self.marks_unechoed = page.counter("pacer_marks_unechoed")
        self.echoes_strange = page.counter("pacer_echoes_strange")
        self.leads = {which: page.gauge("pacer_lead_seconds", which) for which in LEADS}
        self.lead_max = page.gauge("pacer_lead_max_seconds")
        self.memory_locked = page.gauge("pacer_memory_locked")
        self.realtime = page.gauge(REALTIME.name)
