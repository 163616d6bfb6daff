"""What the caller's ear heard, byte by byte, from the speech that the ledger keeps (utterances.py)."""

from __future__ import annotations

from shared.audio import BYTE_NS, SILENCE

from ..utterances import Utterances


class Played:
    """The audio of one ear by time, as far as txpacer's reports place it. Times are ns, monotonic."""

    def __init__(self, utterances: Utterances) -> None:
        self._utterances = utterances
        # The ear is silent from then on, because the line is paused; None: it is not.
        self._silent_ns: int | None = None

    def paused(self, silent_ns: int) -> None:
        """The line is paused: the ear plays what was paced, until `silent_ns`."""
        if self._silent_ns is None:
            self._silent_ns = silent_ns

    def resumed(self) -> None:
        """The line goes on. txpacer reports how long the ear waited."""
        self._silent_ns = None

    def heard(self, from_ns: int, n_bytes: int) -> bytes:
        """The `n_bytes` that the ear played from `from_ns` on; silence where it played nothing, or nothing is kept."""
        until_ns = from_ns + n_bytes * BYTE_NS
        if self._silent_ns is not None:
            until_ns = min(until_ns, self._silent_ns)
        heard = b""
        for utterance in self._utterances.open():
            begin_ns = utterance.ear_start_ns
            if begin_ns is None or begin_ns >= until_ns:
                continue
            first = max((from_ns - begin_ns) // BYTE_NS + len(heard), utterance.kept_from, 0)
            speech = utterance.kept_between(first, (until_ns - begin_ns) // BYTE_NS)
            if speech:
                at = (begin_ns - from_ns) // BYTE_NS + first
                heard += SILENCE * (at - len(heard)) + speech
        return (heard + SILENCE * (n_bytes - len(heard)))[:n_bytes]
