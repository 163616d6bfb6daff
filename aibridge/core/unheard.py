"""The speech of a call that is not known to be heard, and how far it came, for a line that has to be made anew.

txpacer's reservoir dies with txpacer, and a line's frames with the media socket they were written to. What is missing
at the ear then follows from bytes that others have counted:

- txpacer restarted: the gateway knows how many frames it was given since which mark, and every frame but the last of an
  utterance holds 160 bytes of it. Nothing is doubled and nothing lost.
- the media socket was lost: the ear stopped when the caller was last heard. Its clock has an error of a frame or two.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.audio import BYTE_NS, FRAME_BYTES
from shared.messages import LineLost

from .ledger import Utterance


class Unheard:
    """Bytes by utterance, from the first word to the report that it was heard or withdrawn.

    Bound: what a line may hold, ten minutes of speech; usually it is one answer.
    """

    def __init__(self) -> None:
        self._speech: dict[int, list[bytes]] = {}

    def speak(self, utterance: int, data: bytes) -> None:
        self._speech.setdefault(utterance, []).append(data)

    def forget_through(self, utterance: int) -> None:
        """It, and all before it, were heard or withdrawn."""
        for number in [each for each in self._speech if each <= utterance]:
            del self._speech[number]

    def rest(self, utterance: int, offset: int) -> bytes:
        return b"".join(self._speech.get(utterance, ()))[offset:]


def given(utterances: Iterable[Utterance], lost: LineLost) -> tuple[dict[int, int], set[int]]:
    """Bytes of each open utterance that the gateway was given, and which of them to their end."""
    marks = dict(lost.marks)
    last_mark = lost.marks[-1][0] if lost.marks else 0
    frames = lost.frames
    paced: dict[int, int] = {}
    for utterance in utterances:
        number = utterance.number
        if number in marks:
            paced[number] = min(marks[number] * FRAME_BYTES, utterance.spoken_bytes)
        elif number < last_mark:
            paced[number] = 0  # no frame of it, or its mark would be there
        else:
            paced[number] = min(frames * FRAME_BYTES, utterance.spoken_bytes)
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
