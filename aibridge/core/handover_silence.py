"""How long a caller heard nothing when the call came from another worker, media socket, gateway or cell.

Only a hand-over in the middle of the AI's speech counts. The silence begins when the ear had played the last of it, and
ends with the first sound after the hand-over, the caller's own included, or with the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.metrics import Histogram

from .utterances import Utterance

# What had the call before.
FORMER: Final = ("worker", "socket", "gateway", "cell")


class HandoverSilence:
    """The silence of one call. Times are ns, monotonic."""

    __slots__ = ("_histograms", "_last", "_seconds", "_since_ns")

    def __init__(self, histograms: Mapping[str, Histogram]) -> None:
        """`histograms`: one for each of FORMER."""
        self._histograms = histograms
        # Of the hand-over after which nothing was heard yet.
        self._seconds: Histogram | None = None
        # When the ear stopped; 0: when it has played `_last`.
        self._since_ns = 0
        # The last utterance that was given to the line before the hand-over, if the line still had it.
        self._last: Utterance | None = None

    def begins(self, former: str, *, since_ns: int = 0, last: Utterance | None = None) -> None:
        """The call comes from `former`, where the ear stopped at `since_ns`, or stops after `last`.

        A second hand-over in the same silence prolongs it.
        """
        if self._seconds is None:
            self._seconds = self._histograms[former]
            self._since_ns, self._last = since_ns, last

    def starts(self, utterance: int, at_ns: int) -> None:
        """The ear begins to play an utterance."""
        if self._last is None or utterance > self._last.number:
            self.ends(at_ns)

    def ends(self, at_ns: int) -> None:
        """The AI or the caller is heard at `at_ns`, or the call is over."""
        if self._seconds is None:
            return
        since_ns = self._since_ns
        if self._last is not None:
            since_ns = self._last.settled_ns or at_ns  # what follows was paced before the ear had finished it
        self._seconds.observe(max(0, at_ns - since_ns) / 1e9)
        self._seconds = self._last = None
