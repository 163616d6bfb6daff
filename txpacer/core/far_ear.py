"""The far ear: what the echoes of marks prove about Twilio's playout buffer.

The gateway sends a mark after the first frames of each talkspurt and after every half second of speech. Twilio echoes a
mark when it has played the audio before it. The echo comes a constant later than the line believes that the audio was
played, as long as the ear plays as believed: the way there and back. The least such delay of the call is that constant,
and whatever an echo takes longer is how far the ear lags, or how late the echo itself is.

Three facts tell the two apart.

- Inside a talkspurt a lag never shrinks: the buffer plays without a break once it has audio. So the smaller one of two
  consecutive echoes' delays bounds the lag, and one late echo means nothing.
- A lag has a cause: something held frames up for longer than the buffer could hide. WebSocket pings travel among the
  frames and are answered at once, so their delays show such a cause. A lag is believed as far as a ping of the same
  talkspurt was delayed.
- Pings are samples, and a peer may not answer them. Of a lag without such a cause, only what exceeds DOUBT_NS is
  believed.

A path may get longer, for minutes or for good: another route, or a download that fills a queue. Then every ping is
late, and every echo, too, without any lag: in this talkspurt by the longer way back, and from the next one on by both
ways. Pings that stay late show it.

Believing a lag that is none costs a gap; not believing a true one costs a longer tail after a barge-in, until the AI is
silent next. That is why doubt wins.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_MS: Final = 1_000_000
# What Twilio's own lateness with an echo may amount to. Not documented; no bridge that measured it reports more.
DOUBT_NS: Final = 100 * _MS
# Less than this is the jitter of two ways and two event loops.
NOISE_NS: Final = 10 * _MS
# Pings that are late by at least LONGER_NS for LONGER_AFTER_NS show a longer path. After a stall, all late pings are
# answered at the same time, and the next one is quick. A wrong guess costs little: the first quick ping corrects it.
LONGER_NS: Final = 30 * _MS
LONGER_AFTER_NS: Final = 2_000 * _MS
# Marks without an echo, at most: half a minute of speech. Twilio echoes in order, so an echo settles all before it.
PENDING_MAX: Final = 64


@dataclass(frozen=True)
class Lag:
    """The ear lags by `lag_ns` more than was known.

    `audible`: the ear ran dry inside the talkspurt; otherwise the talkspurt began late. `continued`: the echo before
    showed the first part of the same gap.
    """

    lag_ns: int
    audible: bool
    continued: bool


class FarEar:
    """Marks, echoes and pings of one line. Times are ns, monotonic. `seq` is the number of the frame after a mark."""

    __slots__ = (
        "_base_ns",
        "_began_late_ns",
        "_cause_ns",
        "_late_pings_ns",
        "_late_since_ns",
        "_least_ping_ns",
        "_marks",
        "_previous_ns",
        "_towards_ns",
        "_was_lag",
        "missing",
        "strange",
    )

    def __init__(self) -> None:
        # Marks that wait for their echo: (seq, when the line believes the audio before it was played).
        self._marks: deque[tuple[int, int]] = deque()
        # The least delay of an echo, and of a ping, in this call; None: there was none yet.
        self._base_ns: int | None = None
        self._least_ping_ns: int | None = None
        # By how much all pings were late since that instant (None: the last one was quick).
        self._late_pings_ns = 0
        self._late_since_ns: int | None = None
        # By how much the way to the ear got longer in this talkspurt: echoes of the next one are as late.
        self._towards_ns = 0
        # In this talkspurt: the longest delay of a ping beyond the least, and the delay of the echo before.
        self._cause_ns = 0
        self._previous_ns: int | None = None
        # The delay of its first echo, less what is known: the talkspurt began this late, and no silence inside it did.
        self._began_late_ns = 0
        # The echo before showed a lag.
        self._was_lag = False
        # Echoes that never came, and echoes of no known mark (doubled, or of before a `clear`).
        self.missing = 0
        self.strange = 0

    def begin(self) -> None:
        """The silent ear begins to play again: no lag outlives silence."""
        self._settle_path()
        if self._base_ns is not None:
            self._base_ns += self._towards_ns
        self._towards_ns = 0
        self._cause_ns = 0
        self._previous_ns = None
        self._began_late_ns = 0
        self._was_lag = False

    def mark(self, seq: int, played_ns: int) -> None:
        """A mark leaves after the frame before `seq`, which the line believes to be played at `played_ns`."""
        if len(self._marks) == PENDING_MAX:
            self._marks.popleft()
            self.missing += 1
        self._marks.append((seq, played_ns))

    def moved(self, from_seq: int, by_ns: int) -> None:
        """The line believes now that frames from `from_seq` on are played later by `by_ns`."""
        self._marks = deque((seq, played + by_ns if seq > from_seq else played) for seq, played in self._marks)

    def cleared(self) -> None:
        """A `clear` was sent: whatever is echoed for the marks before it says nothing about the ear."""
        self._marks.clear()
        self.begin()

    @property
    def has_pinged(self) -> bool:
        return self._least_ping_ns is not None

    def ping(self, delay_ns: int, now_ns: int) -> int:
        """A ping and its answer took `delay_ns`. Returns how much longer than the least of this path that was."""
        if self._least_ping_ns is None or delay_ns < self._least_ping_ns:
            self._least_ping_ns = delay_ns
        excess_ns = delay_ns - self._least_ping_ns
        if excess_ns < LONGER_NS:
            self._late_since_ns, self._late_pings_ns = None, 0
        elif self._late_since_ns is None:
            self._late_since_ns, self._late_pings_ns = now_ns, excess_ns
        else:
            self._late_pings_ns = min(self._late_pings_ns, excess_ns)
            if now_ns - self._late_since_ns >= LONGER_AFTER_NS:
                excess_ns -= self._late_pings_ns
                self._settle_path()
                self._cause_ns = excess_ns
        self._cause_ns = max(self._cause_ns, excess_ns)
        return excess_ns

    def _settle_path(self) -> None:
        """Take the delay of all late pings for the path's; half of it for the way back."""
        longer_ns, back_ns = self._late_pings_ns, self._late_pings_ns // 2
        if longer_ns and self._least_ping_ns is not None and self._base_ns is not None:
            self._least_ping_ns += longer_ns
            self._base_ns += back_ns
            if self._previous_ns is not None:
                self._previous_ns -= back_ns
            self._towards_ns += longer_ns - back_ns
        self._late_since_ns, self._late_pings_ns = None, 0

    def echo(self, seq: int, at_ns: int) -> Lag | None:
        """The mark of `seq` was echoed at `at_ns`. By how much the ear lags, as far as that is new and believed."""
        played_ns = self._settle(seq)
        if played_ns is None:
            self.strange += 1
            return None
        delay_ns = at_ns - played_ns
        if self._base_ns is None or delay_ns < self._base_ns:
            self._base_ns = delay_ns
        late_ns = delay_ns - self._base_ns
        previous_ns, self._previous_ns = self._previous_ns, late_ns
        if previous_ns is None:
            self._began_late_ns = late_ns
            return None
        lag_ns = max(0, min(previous_ns, late_ns) - self._late_pings_ns // 2)
        believed_ns = max(min(lag_ns, self._cause_ns), lag_ns - DOUBT_NS)
        continued, self._was_lag = self._was_lag, believed_ns >= NOISE_NS
        if believed_ns < NOISE_NS:
            return None
        # The line moves its belief by this: what the next echo shows is the rest.
        self._previous_ns -= believed_ns
        # A talkspurt that began late has no gap, as long as it lags by no more than its beginning did.
        audible = lag_ns > self._began_late_ns + NOISE_NS
        self._began_late_ns = max(0, self._began_late_ns - believed_ns)
        return Lag(believed_ns, audible, continued)

    def _settle(self, seq: int) -> int | None:
        """When the audio before this mark was played, as believed; the marks before it will not be echoed any more."""
        if not any(known == seq for known, _ in self._marks):
            return None
        while True:
            known, played_ns = self._marks.popleft()
            if known == seq:
                return played_ns
            self.missing += 1
