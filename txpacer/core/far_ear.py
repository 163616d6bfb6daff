"""The far ear: what the echoes of marks prove about Twilio's playout buffer.

The gateway sends a mark after the first frames of each talkspurt and after every half second of speech. Twilio echoes a
mark when it has played the audio before it. The echo comes a constant later than the line believes that the audio was
played, as long as the ear plays as believed: the way there and back. The least such delay of the call is that constant,
and whatever an echo takes longer is how far the ear lags, or how late the echo itself is.

Three facts tell the two apart.

- Inside a talkspurt a lag never shrinks: the buffer plays without a break once it has audio. So the smaller one of two
  consecutive echoes' delays bounds the lag, and one late echo means nothing. Echoes that come at once were held back.
- A lag has a cause: something held frames up for longer than the lead hides, or it held up the first ones. WebSocket
  pings travel among the frames and are answered at once, so their delays show such a cause. A lag is believed as far as
  the pings of the same talkspurt explain it.
- Pings are samples, and a peer may not answer them. Of a lag without such a cause, only what exceeds DOUBT_NS is
  believed, and no more than the time that no ping saw.

A stall in the last half second of an utterance leaves the echo of one mark only. Where nothing follows that mark, the
echo is believed alone, if a ping since the echo before took longer than the lead hides. If the way back had held the
echo up, it would have come together with the answers to those pings.

A path may get longer, for minutes or for good: another route, or a download that fills a queue. Then every ping is
late, and every echo, too, without any lag: in this talkspurt by the longer way back, and from the next one on by both
ways. Pings that stay late show it.

Believing a lag that is none costs a gap; not believing a true one costs a longer tail after a barge-in, until the AI is
silent next. That is why doubt wins.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final

from shared.audio import FRAME_NS

_MS: Final = 1_000_000
# What Twilio's own lateness with an echo may amount to. Not documented; no bridge that measured it reports more.
DOUBT_NS: Final = 100 * _MS
# Less than this is the jitter of two ways and two event loops.
NOISE_NS: Final = 10 * _MS
# Pings that are late by at least LONGER_NS for LONGER_AFTER_NS show a longer path. After a stall, all late pings are
# answered at the same time, and the next one is quick. A wrong guess costs little: the first quick ping corrects it.
LONGER_NS: Final = 30 * _MS
LONGER_AFTER_NS: Final = 2_000 * _MS
# A ping leaves this much later than the frames before it were paced, at most. The tick before was earlier.
HOP_NS: Final = 9 * _MS
# Instants that `Held` remembers: pings in flight are younger.
HELD_MAX: Final = 64
# Marks without an echo, at most: half a minute of speech. Twilio echoes in order, so an echo settles all before it.
PENDING_MAX: Final = 64
# Twilio echoes all marks that a `clear` throws away at once. Echoes this close together may be those.
AT_ONCE_NS: Final = 5 * _MS


@dataclass(frozen=True)
class Lag:
    """The ear lags by `lag_ns` more than was known.

    `audible`: the ear ran dry inside the talkspurt; otherwise the talkspurt began late. `continued`: the echo before
    showed the first part of the same gap.
    """

    lag_ns: int
    audible: bool
    continued: bool


class Held:
    """How much the ear held at any instant lately: the longest delay of a frame sent then that nobody hears.

    That is the lead, unless speech came more slowly than the ear plays, as it does at the beginning of an answer.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # Pairs: from when on the ear would have run dry at which instant. 0: it held the lead. As tuples, they would be
        # 7 kB of a call.
        self._known = array("q")

    def note(self, now_ns: int, end_ns: int, lead_ns: int) -> None:
        """From now on, the ear holds what it plays until `end_ns`."""
        dry_ns = 0 if end_ns - now_ns >= lead_ns - FRAME_NS else end_ns
        if not self._known or self._known[-1] != dry_ns:
            self._known.extend((now_ns, dry_ns))
            del self._known[: -2 * HELD_MAX]

    def moved(self, by_ns: int) -> None:
        """The ear is believed to play later by this."""
        for place in range(1, len(self._known), 2):
            if self._known[place]:
                self._known[place] += by_ns

    def at(self, then_ns: int, lead_ns: int, *, grace_ns: int = 0) -> int:
        """What the ear held at that instant, by what was noted up to `grace_ns` before it."""
        for place in range(len(self._known) - 2, -1, -2):
            if self._known[place] <= then_ns - grace_ns:
                dry_ns = self._known[place + 1]
                return min(max(0, dry_ns - then_ns), lead_ns) if dry_ns else lead_ns
        return lead_ns


class Talkspurt:
    """What echoes and pings showed of the speech that began with frame `first_seq` at `began_ns`."""

    __slots__ = (
        "began_ns",
        "blind_ns",
        "cause_ns",
        "cut_echoes",
        "first_delay_ns",
        "first_seq",
        "is_moved",
        "is_pinged",
        "late_ns",
        "late_since_ns",
        "previous_ns",
        "proved_ns",
        "towards_ns",
        "was_lag",
    )

    def __init__(self, first_seq: int, began_ns: int) -> None:
        self.first_seq = first_seq
        self.began_ns = began_ns
        # A ping of it was answered. The most by which pings can explain a lag.
        self.is_pinged = False
        self.cause_ns = 0
        # The same by the pings since the last echo, if they prove that there is a lag.
        self.proved_ns = 0
        # The longest time between two pings that were answered.
        self.blind_ns = 0
        # The lag by which a ping was late, and since when no echo has shown how much of that is true.
        self.late_ns = self.late_since_ns = 0
        # The delays of its first echo and of its last one. A silence before the first is none inside the talkspurt.
        self.first_delay_ns: int | None = None
        self.previous_ns: int | None = None
        # The echo before showed a lag, and some echo did: the line moved its belief.
        self.was_lag = False
        self.is_moved = False
        # A `clear` cut it: the echoes since then, (when, delay). Some of them may be of marks that were thrown away.
        self.cut_echoes: list[tuple[int, int]] | None = None
        # By how much the way to the ear had got longer in it when it was cut.
        self.towards_ns = 0

    def explain(self, excess_ns: int, unseen_ns: int, held_ns: int, held_before_ns: int, now_ns: int) -> None:
        """A ping took `excess_ns` longer than the least. Frames of the time before, `unseen_ns`, may have taken longer.

        What the ear held hides a delay, unless the first frames had it: `held_ns` when this ping was sent,
        `held_before_ns` when the one before it was.
        """
        if not self.is_pinged:
            held_ns = held_before_ns = 0
        self.is_pinged = True
        self.blind_ns = max(self.blind_ns, unseen_ns)
        least_ns, most_ns = excess_ns - held_ns, excess_ns + unseen_ns - held_before_ns
        if excess_ns >= NOISE_NS:
            self.cause_ns = max(self.cause_ns, most_ns)
        if least_ns > 0:
            self.proved_ns = max(self.proved_ns, most_ns)
            self.late_ns = max(self.late_ns, least_ns + min(max(0, most_ns - least_ns), DOUBT_NS) // 2)
            self.late_since_ns = now_ns

    def believable_ns(self, lag_ns: int, habit_ns: int, blind_ns: int) -> int:
        """How much of a lag is to be believed, if echoes were late by `habit_ns` before.

        `blind_ns`: the time since the last ping that was answered.
        """
        unexplained_ns = min(lag_ns - DOUBT_NS, max(self.blind_ns, blind_ns))
        return max(0, min(lag_ns - habit_ns, self.cause_ns), unexplained_ns)


class FarEar:
    """Marks, echoes and pings of one line. Times are ns, monotonic. `seq` is the number of the frame after a mark."""

    __slots__ = (
        "_base_ns",
        "_echoed_ns",
        "_former",
        "_habit_ns",
        "_held",
        "_late_for_ns",
        "_late_pings_ns",
        "_late_since_ns",
        "_least_ping_ns",
        "_marks",
        "_pinged_ns",
        "_spurt",
        "_towards_ns",
        "missing",
        "strange",
    )

    def __init__(self) -> None:
        # Marks that wait for their echo: (seq, when the line believes the audio before it was played). A list: an empty
        # deque has 760 bytes.
        self._marks: list[tuple[int, int]] = []
        # The least delay of an echo, and of a ping, in this call; None: there was none yet.
        self._base_ns: int | None = None
        self._least_ping_ns: int | None = None
        # By how much all pings were late since that instant (None: the last one was quick), and for how long until now.
        self._late_pings_ns = self._late_for_ns = 0
        self._late_since_ns: int | None = None
        # By how much the way to the ear got longer in this talkspurt: echoes of the next one are as late.
        self._towards_ns = 0
        # By how much the echoes were late lately, without a cause.
        self._habit_ns = 0
        # When the last echo came.
        self._echoed_ns = 0
        self._held = Held()
        # When the last ping that was answered had been sent.
        self._pinged_ns = 0
        # The talkspurt that is paced, or was last; and the one before, whose echoes may still come.
        self._spurt = self._former = Talkspurt(0, 0)
        # Echoes that never came, and echoes of no known mark (doubled, or of before a `clear`).
        self.missing = 0
        self.strange = 0

    @property
    def way_ns(self) -> int | None:
        """How long the way there and back takes when nothing delays it; None: nothing was seen yet."""
        return self._least_ping_ns if self._base_ns is None else self._base_ns

    def begin(self, seq: int, now_ns: int) -> None:
        """The silent ear begins to play again, with frame `seq`: no lag outlives silence."""
        # One late ping before a silence, and one after it, show no longer path.
        if self._late_since_ns is not None and self._pinged_ns - self._late_since_ns >= LONGER_AFTER_NS // 2:
            self._settle_path()
        self._late_since_ns, self._late_pings_ns, self._late_for_ns = None, 0, 0
        if self._base_ns is not None:
            self._base_ns += self._towards_ns
        self._towards_ns = 0
        if seq != self._spurt.first_seq:
            self._former = self._spurt
        self._spurt = Talkspurt(seq, now_ns)

    def mark(self, seq: int, played_ns: int) -> None:
        """A mark leaves after the frame before `seq`, which the line believes to be played at `played_ns`."""
        if len(self._marks) == PENDING_MAX:
            del self._marks[0]
            self.missing += 1
        self._marks.append((seq, played_ns))

    def moved(self, from_seq: int, by_ns: int) -> None:
        """The line believes now that frames from `from_seq` on are played later by `by_ns`."""
        self._marks = [(seq, played + by_ns if seq > from_seq else played) for seq, played in self._marks]
        self._held.moved(by_ns)

    def paced(self, now_ns: int, end_ns: int, lead_ns: int) -> None:
        """The line has paced what it could, and the ear plays until `end_ns`."""
        self._held.note(now_ns, end_ns, lead_ns)

    @property
    def has_pinged(self) -> bool:
        return self._least_ping_ns is not None

    def ping(self, delay_ns: int, now_ns: int, lead_ns: int) -> int:
        """A ping and its answer took `delay_ns`. Returns how much longer than the least of this path that was."""
        if self._least_ping_ns is None or delay_ns < self._least_ping_ns:
            self._least_ping_ns = delay_ns
        excess_ns = delay_ns - self._least_ping_ns
        sent_ns = now_ns - delay_ns
        spurt = self._spurt if sent_ns >= self._spurt.began_ns else self._former
        if excess_ns < LONGER_NS:
            self._late_since_ns, self._late_pings_ns, self._late_for_ns = None, 0, 0
        elif self._late_since_ns is None:
            self._late_since_ns, self._late_pings_ns, self._late_for_ns = now_ns, excess_ns, 0
        else:
            self._late_pings_ns = min(self._late_pings_ns, excess_ns)
            self._late_for_ns = now_ns - self._late_since_ns
            if now_ns - self._late_since_ns >= LONGER_AFTER_NS:
                excess_ns -= self._late_pings_ns
                self._settle_path()
                spurt.cause_ns = spurt.proved_ns = spurt.late_ns = 0
        unseen_ns = max(0, sent_ns - max(self._pinged_ns, spurt.began_ns))
        # Frames that were sent with this ping were as late as the ping.
        held_ns = self._held.at(sent_ns, lead_ns, grace_ns=HOP_NS)
        spurt.explain(excess_ns, unseen_ns, held_ns, self._held.at(self._pinged_ns, lead_ns), now_ns)
        self._pinged_ns = sent_ns
        return excess_ns

    def _settle_path(self) -> None:
        """Take the delay of all late pings for the path's; half of it for the way back."""
        longer_ns, back_ns = self._late_pings_ns, self._late_pings_ns // 2
        if longer_ns and self._least_ping_ns is not None and self._base_ns is not None:
            self._least_ping_ns += longer_ns
            self._base_ns += back_ns
            self._towards_ns += longer_ns - back_ns
        self._late_since_ns, self._late_pings_ns, self._late_for_ns = None, 0, 0

    def echo(self, seq: int, at_ns: int, *, is_last: bool = False) -> Lag | None:
        """The mark of `seq` was echoed at `at_ns`. By how much the ear lags, as far as that is new and believed.

        `is_last`: nothing was paced after that mark.
        """
        played_ns = self._settle(seq)
        if played_ns is None or self._is_too_early(at_ns - played_ns):
            self.strange += 1
            return None
        delay_ns = at_ns - played_ns
        spurt = self._spurt if seq > self._spurt.first_seq else self._former
        if spurt.cut_echoes is not None:
            spurt.cut_echoes.append((at_ns, delay_ns))
            return None
        base_ns = self._learn(spurt, delay_ns)
        if spurt is not self._spurt:
            return None
        previous_ns, spurt.previous_ns, spurt.late_ns = spurt.previous_ns, delay_ns, 0
        proved_ns, spurt.proved_ns = spurt.proved_ns, 0
        at_once, self._echoed_ns = at_ns - self._echoed_ns < AT_ONCE_NS, at_ns
        if at_once and (previous_ns is None or delay_ns + NOISE_NS < previous_ns):
            spurt.previous_ns = None  # held back until now, for an unknown time
            return None
        if spurt.first_delay_ns is None:
            spurt.first_delay_ns = delay_ns
        # The answers to the pings of one stall come together, and show no longer path.
        longer_ns = self._late_pings_ns // 2 if self._late_for_ns >= LONGER_NS else 0
        late_ns = delay_ns - base_ns - longer_ns
        alone_ns = min(late_ns - self._habit_ns, proved_ns) if at_ns - spurt.late_since_ns >= NOISE_NS else 0
        if previous_ns is not None:
            lag_ns = max(0, late_ns + min(0, previous_ns - delay_ns))
            believed_ns = spurt.believable_ns(lag_ns, self._habit_ns, at_ns - self._pinged_ns)
            self._habit_ns = lag_ns - believed_ns
        elif is_last:
            lag_ns = believed_ns = 0
        else:
            return None
        if is_last:
            lag_ns, believed_ns = max(lag_ns, alone_ns), max(believed_ns, alone_ns)
        continued, spurt.was_lag = spurt.was_lag, believed_ns >= NOISE_NS
        if believed_ns < NOISE_NS:
            return None
        # A talkspurt that began late has no gap, as long as it lags by no more than its beginning did.
        audible = lag_ns > spurt.first_delay_ns - base_ns + NOISE_NS
        # The line moves its belief by this: what the next echo shows is the rest.
        spurt.is_moved = True
        spurt.previous_ns -= believed_ns
        spurt.first_delay_ns = max(base_ns, spurt.first_delay_ns - believed_ns)
        spurt.cause_ns = max(0, spurt.cause_ns - believed_ns)
        return Lag(believed_ns, audible, continued)

    def _is_too_early(self, delay_ns: int) -> bool:
        """Whether an echo was there sooner than a ping would have been: it is of a mark of the line before this one."""
        return delay_ns < (self._least_ping_ns or 0) - NOISE_NS

    def _learn(self, spurt: Talkspurt, delay_ns: int) -> int:
        """The least delay of an echo. A belief that was moved wrongly would make all later echoes look late."""
        if self._base_ns is None:
            # The first echo of the call may be late itself, if the pings show why.
            self._base_ns = max(delay_ns - spurt.late_ns, self._least_ping_ns or 0)
        elif delay_ns < self._base_ns and not spurt.is_moved:
            self._base_ns = delay_ns
        return self._base_ns

    def _settle(self, seq: int) -> int | None:
        """When the audio before this mark was played, as believed; the marks before it will not be echoed any more."""
        if not any(known == seq for known, _ in self._marks):
            return None
        while True:
            known, played_ns = self._marks.pop(0)
            if known == seq:
                return played_ns
            self.missing += 1

    # --- clear ---

    def cleared(self, seq: int, now_ns: int) -> Talkspurt:
        """A `clear` leaves before frame `seq`. Returns the talkspurt that it cuts, for `stopped_ns`."""
        cut = self._spurt
        cut.cut_echoes, cut.towards_ns = [], self._towards_ns
        self.begin(seq, now_ns)
        return cut

    def stopped_ns(self, cut: Talkspurt, sent_ns: int, at_ns: int) -> int:
        """When the ear stopped, by the line's belief, if the mark before the `clear` was echoed at `at_ns`.

        An ear that lagged had played less by then: the last mark that was played tells, or a ping that came later.
        """
        for echo_ns, delay_ns in cut.cut_echoes or ():
            if echo_ns < at_ns - AT_ONCE_NS:
                self._learn(cut, delay_ns)
                cut.previous_ns = delay_ns
                if echo_ns > cut.late_since_ns:
                    cut.late_ns = 0
        lag_ns = cut.late_ns
        if cut.previous_ns is not None and self._base_ns is not None:
            late_ns = cut.previous_ns - self._base_ns
            lag_ns = max(lag_ns, cut.believable_ns(late_ns, self._habit_ns, at_ns - self._pinged_ns))
        return max(sent_ns, at_ns - (self.way_ns or 0) + cut.towards_ns - self._habit_ns) - lag_ns
