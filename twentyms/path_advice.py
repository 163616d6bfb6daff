"""What the path of one call showed, and which settings it needs, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.settings import WITHDRAW_LEAD_MAX_MS, Settings
from txpacer.core.lead import MARGIN_NS

MARGIN_MS: Final = MARGIN_NS // 1_000_000
# The longest TX_LEAD_MAX_MS.
LEAD_MAX_MS: Final = 1_000


@dataclass(frozen=True)
class PathFigures:
    """The least round trip, the longest delay beyond it, the lead that hides that delay, and what gaps were heard."""

    least_ms: int
    delay_ms: int
    needed_ms: int
    gap_ms: int


def figures(path: Sequence[Mapping[str, Any]]) -> PathFigures | None:
    """Of a call's samples, as callbook/queries.py:whole gives them. None: no ping was answered."""
    least = [sample["least_ms"] for sample in path if sample["least_ms"]]
    if not least:
        return None
    delay_ms = max(sample["delay_ms"] for sample in path)
    # Leads come in steps of 10 ms.
    needed_ms = -(-(delay_ms + MARGIN_MS) // 10) * 10
    return PathFigures(min(least), delay_ms, needed_ms, sum(sample["gap_ms"] for sample in path))


def describe(seen: PathFigures) -> str:
    gaps = f"the caller heard {seen.gap_ms} ms of gaps" if seen.gap_ms else "the caller heard no gap"
    return (
        f"least round trip {seen.least_ms} ms, longest delay beyond it {seen.delay_ms} ms: it needs a lead of "
        f"{seen.needed_ms} ms; {gaps}"
    )


def advice(seen: PathFigures, settings: Settings) -> str:
    """What to set for this path; empty: nothing."""
    least_ms, most_ms = settings.lead_bounds_ms
    if seen.needed_ms <= most_ms:
        if not seen.gap_ms or seen.needed_ms <= least_ms:
            return ""
        return f"set TX_LEAD_MIN_MS={seen.needed_ms}: the lead had fallen below what the path needs when the gap came"
    if seen.needed_ms <= WITHDRAW_LEAD_MAX_MS:
        return f"set TX_LEAD_MAX_MS={WITHDRAW_LEAD_MAX_MS}: the lead then follows the path up to there"
    if seen.needed_ms <= LEAD_MAX_MS:
        clear = "" if settings.barge_in == "clear" else "BARGE_IN=clear and "
        return (
            f"set {clear}TX_LEAD_MAX_MS={seen.needed_ms}: such a lead hides it, and an interruption flushes what "
            "Twilio still holds"
        )
    return f"no lead hides it ({LEAD_MAX_MS} ms is the longest): look for what stalls between Twilio and this machine"
