"""What the caller's ear heard, byte by byte, from the speech that the ledger keeps (utterances.py).

The ledger drops the speech of an utterance that was withdrawn or heard to its end. Its last part is kept here, because
the near ear reads what was heard a little later, and an echo follows later still.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared.audio import BYTE_NS, SILENCE

from ..utterances import Utterance, Utterances

# The last speech that is kept of an utterance: 400 ms. The near ear reads 120 ms late, and a withdrawal is answered
# after the lead at the latest.
_LAST_BYTES: Final = 3_200
# Utterances whose last speech is kept.
_ENDED: Final = 2


@dataclass(slots=True)
class _Ended:
    """The last speech of an utterance: its first byte in the utterance, and when the ear began to play it."""

    number: int
    first: int
    begin_ns: int
    speech: bytes


class Played:
    """The audio of one ear by time, as far as txpacer's reports place it. Times are ns, monotonic."""

    def __init__(self, utterances: Utterances, *, is_read: bool) -> None:
        """Nothing is kept unless it `is_read`."""
        self._utterances = utterances
        self._is_read = is_read
        self._ended: list[_Ended] = []
        # The ear is silent from then on, because the line is paused; None: it is not.
        self._silent_ns: int | None = None

    def paused(self, silent_ns: int) -> None:
        """The line is paused: the ear plays what was paced, until `silent_ns`."""
        if self._silent_ns is None:
            self._silent_ns = silent_ns

    def resumed(self) -> None:
        """The line goes on. txpacer reports how long the ear waited."""
        self._silent_ns = None

    def withdrawn(self, utterance: Utterance, silent_ns: int) -> None:
        """The ledger is about to drop an utterance; the ear plays what was paced, until about `silent_ns`."""
        begin_ns = utterance.ear_start_ns
        if begin_ns is not None and self._is_read:
            if self._silent_ns is not None:
                silent_ns = min(silent_ns, self._silent_ns)
            self._keep_last(utterance, begin_ns, (silent_ns - begin_ns) // BYTE_NS)

    def settled(self, utterance: Utterance, heard_bytes: int) -> None:
        """The ledger is about to drop an utterance. This much of it was heard."""
        begin_ns = utterance.ear_start_ns
        if begin_ns is None or not self._is_read or utterance.heard_bytes is not None:
            return
        for ended in self._ended:
            if ended.number == utterance.number:
                ended.speech = ended.speech[: max(0, heard_bytes - ended.first)]
                return
        self._keep_last(utterance, begin_ns, heard_bytes)

    def _keep_last(self, utterance: Utterance, begin_ns: int, last: int) -> None:
        first = max(0, utterance.kept_from, last - _LAST_BYTES)
        speech = utterance.kept_between(first, last)
        self._ended.append(_Ended(utterance.number, first, begin_ns + first * BYTE_NS, speech))
        del self._ended[:-_ENDED]

    def heard(self, from_ns: int, n_bytes: int) -> bytes:
        """The `n_bytes` that the ear played from `from_ns` on; silence where it played nothing, or nothing is kept."""
        until_ns = from_ns + n_bytes * BYTE_NS
        if self._silent_ns is not None:
            until_ns = min(until_ns, self._silent_ns)
        heard = b""
        for begin_ns, speech in self._pieces(from_ns, until_ns):
            at = (begin_ns - from_ns) // BYTE_NS
            if at < len(heard):
                speech, at = speech[len(heard) - at :], len(heard)
            if speech:
                heard += SILENCE * (at - len(heard)) + speech
        return (heard + SILENCE * (n_bytes - len(heard)))[:n_bytes]

    def _pieces(self, from_ns: int, until_ns: int) -> Iterator[tuple[int, bytes]]:
        """What is kept of the speech between two times, in order, and when the ear began to play each piece."""
        for ended in self._ended:
            begin_ns, speech = ended.begin_ns, ended.speech
            if begin_ns < until_ns and begin_ns + len(speech) * BYTE_NS > from_ns:
                first = max(0, (from_ns - begin_ns) // BYTE_NS)
                yield begin_ns + first * BYTE_NS, speech[first : (until_ns - begin_ns) // BYTE_NS]
        for utterance in self._utterances.open():
            ear_ns = utterance.ear_start_ns
            if ear_ns is not None and ear_ns < until_ns:
                first = max(0, (from_ns - ear_ns) // BYTE_NS, utterance.kept_from)
                yield ear_ns + first * BYTE_NS, utterance.kept_between(first, (until_ns - ear_ns) // BYTE_NS)
