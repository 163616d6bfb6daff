"""The speech of a call that is not known to be heard, and how far it came, for a line that has to be made anew.

txpacer's reservoir dies with txpacer, and a line's frames with the media socket they were written to. What is missing
at the ear then follows from bytes that others have counted:

- txpacer restarted: the gateway knows how many frames it was given since which mark, and every frame but the last of an
  utterance holds 160 bytes of it. Nothing is doubled and nothing lost.
- the media socket was lost: the ear stopped when the caller was last heard. Its clock has an error of a frame or two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.audio import BYTE_NS, FRAME_BYTES
from shared.messages import LineLost

from .ledger import Utterance


@dataclass(slots=True)
class _Speech:
    """One utterance's, from byte `begin` of it on, in the chunks that came."""

    begin: int = 0
    chunks: deque[bytes] = field(default_factory=deque)


class Unheard:
    """Bytes by utterance, until the ear has long passed them, or they were withdrawn.

    Bound: see UNHEARD_MAX_BYTES in ledger.py; usually it is the rest of one answer.
    """

    def __init__(self) -> None:
        self._speech: dict[int, _Speech] = {}

    def speak(self, utterance: int, data: bytes) -> None:
        speech = self._speech.get(utterance)
        if speech is None:
            speech = self._speech[utterance] = _Speech()
        speech.chunks.append(data)

    def adopt(self, utterance: int, begin: int, data: bytes) -> None:
        """What another worker gave the line, as far as that had it still: from byte `begin` on."""
        self._speech[utterance] = _Speech(begin, deque((data,)))

    def forget_before(self, utterance: int, offset: int) -> None:
        """No line will have to begin before byte `offset` of it; what begins there or later stays."""
        speech = self._speech.get(utterance)
        while speech is not None and speech.chunks and speech.begin + len(speech.chunks[0]) <= offset:
            speech.begin += len(speech.chunks.popleft())

    def forget_through(self, utterance: int) -> None:
        """It, and all before it, were heard or withdrawn."""
        for number in [each for each in self._speech if each <= utterance]:
            del self._speech[number]

    def rest(self, utterance: int, offset: int) -> bytes:
        """What is there from byte `offset` on, at the earliest."""
        speech = self._speech.get(utterance)
        return b"" if speech is None else b"".join(speech.chunks)[max(0, offset - speech.begin) :]

    def begin(self, utterance: int) -> int:
        """Where the bytes begin that are there."""
        speech = self._speech.get(utterance)
        return 0 if speech is None else speech.begin


def given(
    utterances: Iterable[Utterance], lost: LineLost, base: tuple[int, int] = (0, 0)
) -> tuple[dict[int, int], set[int]]:
    """Bytes of each open utterance that the gateway was given, and which of them to their end.

    `base`: the utterance in whose midst the gateway's media socket began, and how many bytes were heard before.
    """
    marks = dict(lost.marks)
    last_mark = lost.marks[-1][0] if lost.marks else 0
    frames = lost.frames
    paced: dict[int, int] = {}
    for utterance in utterances:
        number = utterance.number
        before = base[1] if number == base[0] else 0
        if number in marks:
            paced[number] = min(before + marks[number] * FRAME_BYTES, utterance.spoken_bytes)
        elif number < last_mark:
            paced[number] = before  # no frame of it came since, or its mark would be there
        else:
            paced[number] = min(before + frames * FRAME_BYTES, utterance.spoken_bytes)
            if utterance.spoken_bytes:
                frames = 0  # they were of the first one that has any speech
    return paced, set(marks)


def heard_until(utterances: Iterable[Utterance], at_ns: int) -> tuple[dict[int, int], set[int]]:
    """Bytes of each open utterance that the ear had played at that instant, in whole frames, and which wholly."""
    heard: dict[int, int] = {}
    finished: set[int] = set()
    for utterance in utterances:
        n_bytes = 0
        if utterance.ear_start_ns is not None:
            n_bytes = min(utterance.spoken_bytes, max(0, at_ns - utterance.ear_start_ns) // BYTE_NS)
        if n_bytes < utterance.spoken_bytes:
            n_bytes -= n_bytes % FRAME_BYTES
        elif utterance.ended:
            finished.add(utterance.number)
        heard[utterance.number] = n_bytes
    return heard, finished
