"""What one call's path to the caller showed: the delays that its lead hid, and a sample of each second.

Delays are those of pings among the frames (see PathSeen), beyond the least of the call. Several pings see one delay of
the path, so consecutive pings that are delayed count as one. A gap that the path made proves a delay, too.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_MS: Final = 1_000_000
# Changes of less than this between two samples are jitter, and make no sample of their own.
DELAY_STEP_NS: Final = 10 * _MS
LEAST_STEP_NS: Final = 5 * _MS


class Sample(NamedTuple):
    """One second of a call, in ms; see PathSamples."""

    lead_ms: int
    least_ms: int
    delay_ms: int
    gap_ms: int


class CallPath:
    """Times are ns. `min_ns` is TX_LEAD_MIN_MS: shorter delays are never heard, and not counted."""

    __slots__ = (
        "_delay_ns",
        "_gap_ns",
        "_hidden_until_ns",
        "_least_ns",
        "_min_ns",
        "_state",
        "_worst_ns",
        "round_trip_ns",
    )

    def __init__(self, min_ns: int) -> None:
        self._min_ns = min_ns
        # Of the last ping; 0: none was answered yet.
        self.round_trip_ns = 0
        # The longest delay of the pings that are delayed now (0: none is), and the lead when the first of them came.
        self._worst_ns = 0
        self._hidden_until_ns = 0
        # The least round trip of the path; 0: no ping was answered yet.
        self._least_ns = 0
        # Since the last sample: the longest delay, and what the caller heard of gaps.
        self._delay_ns = 0
        self._gap_ns = 0
        # Lead, least round trip and delay of the last sample, in steps.
        self._state: tuple[int, int, int] | None = None

    def pinged(self, round_trip_ns: int, delay_ns: int, lead_ns: int) -> bool:
        """A ping took `delay_ns` longer than the least. Returns whether the lead hid a delay that ends with it."""
        self.round_trip_ns = round_trip_ns
        self._least_ns = round_trip_ns - delay_ns
        if delay_ns > self._delay_ns:
            self._delay_ns = delay_ns
        if delay_ns <= self._min_ns:
            return self._worst_ns > 0 and self.ended()
        if not self._worst_ns:
            # The lead rises at once, and that does not help against the delay that raises it.
            self._hidden_until_ns = lead_ns
        self._worst_ns = max(self._worst_ns, delay_ns)
        return False

    def ended(self) -> bool:
        """No more pings come. Returns whether the lead hid the delay that they showed last."""
        was_hidden = 0 < self._worst_ns <= self._hidden_until_ns
        self._worst_ns = 0
        return was_hidden

    def gap(self, gap_ns: int, delay_ns: int = 0) -> None:
        """The caller heard a gap, or the last one was longer by this. `delay_ns`: that of the path that it proves."""
        self._gap_ns += gap_ns
        self._delay_ns = max(self._delay_ns, delay_ns)

    def sample(self, lead_ns: int) -> Sample | None:
        """What happened since the last time; None: nothing changed, or nothing is known yet."""
        delay_ns, gap_ns = self._delay_ns, self._gap_ns
        self._delay_ns = self._gap_ns = 0
        state = (lead_ns, self._least_ns // LEAST_STEP_NS, delay_ns // DELAY_STEP_NS)
        if not gap_ns and (state == self._state or not self._least_ns):
            return None
        # The second after a gap makes a sample, too: without a gap.
        self._state = None if gap_ns else state
        return Sample(lead_ns // _MS, self._least_ns // _MS, delay_ns // _MS, gap_ns // _MS)
