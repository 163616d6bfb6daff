"""The back-off between retries."""

from __future__ import annotations


def backoff_s(failures: int, *, first_s: float, limit_s: float, spread: float) -> float:
    """Twice as long after each failure, from `first_s` up to `limit_s`; `spread` in 0..1 subtracts up to half of that.

    The spread keeps a hundred requests that failed together from retrying together.
    """
    full = min(limit_s, first_s * 2.0 ** min(failures - 1, 32))
    return full * (1 - spread / 2)
