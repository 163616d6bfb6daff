"""The cell's answer to HAProxy's agent check: how much of its share of the new calls it takes.

`ready up 75%` is a percentage of the server's weight; `drain` means no new call. A call that belongs to this cell
arrives whatever the answer is. The answer never says "down": HAProxy would cut the cell's live calls.

Source: "agent-check" in HAProxy's configuration manual.
"""

from __future__ import annotations

from typing import Final

from shared.liveness import ns

# A new cell has no calls, so a proxy that looks at calls sends it more than its share of the new ones, and each costs a
# dial of the model. Calls last minutes: within one, a new cell gets its share without a burst.
RAMP_NS: Final = ns(60.0)
# From this share of MAX_CALLS on the weight falls. Below, the proxies' own counts even the cells out.
BUSY: Final = 0.5
# 0 % means `drain`, after which a proxy that sees no other cell answers by itself. A full cell refuses by its 503.
LEAST: Final = 1


def weight(*, age_ns: int, calls: int, max_calls: int, pressure: float, takes_calls: bool) -> int:
    """The percentage, LEAST to 100.

    `pressure` is that of `Lateness`. `takes_calls`: no part of the cell is missing.
    """
    if not takes_calls:
        return LEAST
    grown = min(1.0, age_ns / RAMP_NS)
    room = min(1.0, (1 - calls / max_calls) / (1 - BUSY))
    return max(LEAST, round(100 * grown * room * (1 - pressure)))


class AgentCheck:
    """Makes the answers of one gateway."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        # When the cell began to take calls.
        self._began_ns: int | None = None

    def line(self, now_ns: int, *, calls: int, pressure: float, takes_calls: bool, drains: bool) -> str:
        """`calls` and `drains` are the whole cell's."""
        if drains:
            return "drain"
        if self._began_ns is None and takes_calls:
            # With calls, the cell is not new: only this gateway was started again.
            self._began_ns = now_ns - RAMP_NS if calls else now_ns
        age_ns = now_ns - self._began_ns if self._began_ns is not None else 0
        share = weight(
            age_ns=age_ns, calls=calls, max_calls=self._max_calls, pressure=pressure, takes_calls=takes_calls
        )
        return f"ready up {share}%"
