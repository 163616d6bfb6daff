"""How far ahead of real time one line paces: enough for the delays that its path showed lately, and no more.

The lead is a trade: a longer one hides longer delays, and the AI speaks on for as long after an interruption. So the
target rises at once to what a delay would have needed, and falls slowly while no delay needs it. WebRTC's NetEq follows
the same rule, from a histogram of arrival delays (quick to rise, slow to fall); with two to ten samples a second and a
call, a peak with a hold time sees the rare delays that a quantile would average away.

What moves the target was measured on real TCP (10 calls, docs/network.md): a lost segment delays by one round trip and
40 ms, and at 1 % loss each call meets one every two seconds. A path that is not known yet is expected
to lose, too: otherwise every call would hear its first loss.

Pings are 100 ms apart, so most see less than the whole delay. A delay of a round trip or more is a loss, and the target
hides what a whole loss costs. Where losses follow each other, repairs are lost, too, and the target hides those.

A delay far beyond the maximum does not raise the target: the gap would hardly be shorter, and each interruption would
be slower for 20 s.

No call begins with less than the start value, and each keeps that for its first seconds. A call's begin is when the
machine has most to do for it, and its greeting is what has to play whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MS: Final = 1_000_000
# Between the longest delay seen and the lead: samples are 100 ms apart, so the worst delay is rarely hit exactly.
MARGIN_NS: Final = 20 * _MS
# A need holds the target up for this long. At 0.5 % loss, losses of one call are 4 s apart; three in a row may be mild.
HOLD_NS: Final = 20_000 * _MS
# Afterwards the target falls by one step in this time. Where no need was seen, it falls four times as quickly: the
# start value was a guess, and a caller on a clean path should not pay for it.
FALL_NS: Final = 2_000 * _MS
FIRST_FALL_NS: Final = 500 * _MS
# TCP repeats a lost frame when it hears of a later one (20 ms) and has waited an eighth of the round trip. At times the
# lead is shorter by a tick of 10 ms.
REPAIR_NS: Final = 45 * _MS
# Losses that are at least EVENT_NS apart are two. Two within AGAIN_NS: the path loses at a rate at which repairs are
# lost, too. At 1 %, nearly every loss is followed by another one within that time; at 0.1 %, one of three.
EVENT_NS: Final = 300 * _MS
AGAIN_NS: Final = 4_000 * _MS
# Delays up to this share of the maximum raise the target: 315 ms of 180. At a round trip of 200 ms, a loss costs
# 250 ms, and a lead of 180 ms in place of 120 halves its gap. Of a stall of 400 ms it would take a fifth.
WORTH: Final = (7, 4)
# What pings and echoes show this long after a delay that is not worth it belongs to that delay.
AFTERMATH_NS: Final = 1_500 * _MS
# A gap of this length is mostly concealed by the caller's phone, and not worth a longer lead for everybody.
CONCEALED_NS: Final = 30 * _MS
# A call keeps its start value for this long, if its path shows no delay. Longer would cost more interruptions than it
# saves: on a path of 20 ms, half of them were silent after 124 ms with 10 s, and after 76 ms with 3 s.
START_NS: Final = 3_000 * _MS
# An unknown path may lose frames until it has been clean for this long: one loss of one call, at 0.2 %.
UNKNOWN_NS: Final = 10_000 * _MS


class Lead:
    """The target lead of one line. Times are ns, monotonic; `step_ns` divides all of them."""

    __slots__ = (
        "_falls_ns",
        "_held_ns",
        "_held_until_ns",
        "_is_known",
        "_is_unproved",
        "_loses_until_ns",
        "_lost_ns",
        "_min_ns",
        "_spared_until_ns",
        "max_ns",
        "needed_ns",
        "round_trip_ns",
        "step_ns",
        "target_ns",
    )

    def __init__(
        self,
        start_ns: int,
        *,
        min_ns: int,
        max_ns: int,
        step_ns: int,
        is_known: bool = False,
        is_unproved: bool = True,
    ) -> None:
        """`is_known`: other calls lately needed `start_ns`; otherwise it is a guess. `is_unproved`: there was no other
        call that could have shown what the path loses."""
        self._is_known = is_known
        self._is_unproved = is_unproved
        self._min_ns = min_ns
        self.max_ns = max_ns
        self.step_ns = step_ns
        self.target_ns = min(max(start_ns, min_ns), max_ns)
        # The lead that would have hidden every delay since the owner last set it to 0, whatever the bounds. 0: nothing
        # was seen.
        self.needed_ns = 0
        # The least round trip of the path; 0: not known yet.
        self.round_trip_ns = 0
        # When a loss was seen last, and until when repairs are expected to be lost, too.
        self._lost_ns = self._loses_until_ns = 0
        # Until when delays belong to one that no lead would have hidden.
        self._spared_until_ns = 0
        # The longest need lately, below which the target does not fall, and until when. 0: none was seen yet.
        self._held_ns = 0
        self._held_until_ns = 0
        # When the target may fall by one step; 0: nothing was seen yet.
        self._falls_ns = 0

    def delayed(self, delay_ns: int, now_ns: int) -> None:
        """A frame or a probe took `delay_ns` longer than the path's least delay; 0 is evidence, too."""
        need_ns = delay_ns + MARGIN_NS
        self.needed_ns = max(self.needed_ns, need_ns)
        if delay_ns * WORTH[1] > self.max_ns * WORTH[0]:
            self._spared_until_ns = now_ns + AFTERMATH_NS
            self._falls_ns = max(self._falls_ns, now_ns + HOLD_NS)
        if now_ns < self._spared_until_ns:
            return
        if need_ns > self._min_ns and 0 < self.round_trip_ns <= delay_ns:
            need_ns = max(need_ns, self._lost(now_ns))
        # Up to the step: a lead between two ticks cannot be had.
        wanted_ns = min(-(-need_ns // self.step_ns) * self.step_ns, self.max_ns)
        if need_ns > self._min_ns and not self._is_known:
            # The first delay confirms what was expected, even if it is seen in part.
            self._is_known = True
            wanted_ns = max(wanted_ns, self._held_ns)
        if need_ns > self._min_ns and (wanted_ns >= self._held_ns or now_ns >= self._held_until_ns):
            self._held_ns, self._held_until_ns = wanted_ns, now_ns + HOLD_NS
            if wanted_ns >= self.target_ns:
                self.target_ns = wanted_ns
                self._falls_ns = now_ns + HOLD_NS
        if not self._falls_ns:
            self._falls_ns = now_ns + (HOLD_NS if self._is_known else START_NS)
        elif now_ns >= self._falls_ns:
            least_ns = self._held_ns if now_ns < self._held_until_ns else self._min_ns
            self.target_ns = max(least_ns, self.target_ns - self.step_ns)
            self._falls_ns = now_ns + (FALL_NS if self._is_known else FIRST_FALL_NS)

    def _lost(self, now_ns: int) -> int:
        """A loss was seen, perhaps in part. The lead that would hide the next one."""
        since_ns = now_ns - self._lost_ns
        if since_ns >= EVENT_NS:
            if since_ns < AGAIN_NS:
                self._loses_until_ns = now_ns + HOLD_NS
            self._lost_ns = now_ns
        trips = 2 if now_ns < self._loses_until_ns else 1
        return trips * self.round_trip_ns + REPAIR_NS + MARGIN_NS

    def expect_losses(self, round_trip_ns: int, now_ns: int) -> None:
        """The round trip of an unknown path: until the path has proved clean, hide what one lost frame would cost."""
        need_ns = round_trip_ns + REPAIR_NS + MARGIN_NS
        if self._is_known or not self._is_unproved or need_ns <= self._min_ns + CONCEALED_NS:
            return
        self._held_ns = min(-(-need_ns // self.step_ns) * self.step_ns, self.max_ns)
        self._held_until_ns = self._falls_ns = now_ns + UNKNOWN_NS
        self.target_ns = max(self.target_ns, self._held_ns)


def start_lead(targets: Sequence[int], default_ns: int) -> int:
    """Where a new line starts, from the targets of the lines that live or ended lately; `default_ns` at least.

    The upper quartile: what most callers' path needs, and not what one caller's socket does to the others.
    """
    if not targets:
        return default_ns
    return max(default_ns, sorted(targets)[len(targets) * 3 // 4])
