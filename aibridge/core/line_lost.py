"""How far the frames of a call had come when its line, or its media socket, was lost.

- txpacer restarted: the gateway knows how many frames it was given since which mark, and every frame but the last of an
  utterance holds 160 bytes of it. Nothing is doubled, and nothing lost.
- The media socket was lost: the ear stopped when the caller was last heard. The ear's clock is not exact: what the ear
  may have missed is repeated, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shared.audio import FRAME_BYTES
from shared.messages import LineLost

from .utterances import Utterance

# The ear's clock may be ahead of the ear by this much: a frame takes time to the ear, and the caller's audio takes time
# back. Both hops are below 1 ms inside a cell, and several ms on a busy machine.
EAR_AHEAD_NS: Final = 10_000_000


def given(
    utterances: Iterable[Utterance], lost: LineLost, base: tuple[int, int] = (0, 0)
) -> tuple[dict[int, int], set[int]]:
    """The bytes of each open utterance that the gateway was given, and the utterances that it was given whole.

    `base`: the utterance that was being heard when the media socket began, and how many of its bytes were heard before.
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
            paced[number] = before  # no frame of it has come since; otherwise its mark would have come
        else:
            paced[number] = min(before + frames * FRAME_BYTES, utterance.spoken_bytes)
            if utterance.spoken_bytes:
                frames = 0  # they belong to the first utterance that has any speech
    return paced, set(marks)


def heard_until(utterances: Iterable[Utterance], at_ns: int) -> tuple[dict[int, int], set[int]]:
    """The bytes of each open utterance that the ear has surely played, in whole frames; and the finished ones.

    `at_ns` is when the caller was last heard.
    """
    heard: dict[int, int] = {}
    finished: set[int] = set()
    for utterance in utterances:
        n_bytes = utterance.estimate_heard(at_ns - EAR_AHEAD_NS, 0)
        if n_bytes < utterance.spoken_bytes:
            n_bytes -= n_bytes % FRAME_BYTES
        elif utterance.ended:
            finished.add(utterance.number)
        heard[utterance.number] = n_bytes
    return heard, finished
