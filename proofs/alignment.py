"""Maps each byte at the ear to the item and the position that it came from.

Any 20 ms of the simulated model's speech are unique, because the lowest bit of each sample is seeded noise. The audio
of a call therefore maps back to the items without any help from the system under test, whatever it did to them.

Whole frames at 20 ms steps of an item are recognised anywhere; the short last frame of an item, with and without its
padding. Any other audio is silence (mu-law zero) or belongs to no item of this call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shared.audio import BYTE_NS, FRAME_BYTES, SILENCE
from simulator.carrier.ear import EarRecord

# These stand in place of an item's number.
NO_ITEM: Final = -1
FILL: Final = -2

_SILENT_FRAME: Final = SILENCE * FRAME_BYTES


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio of one media message that is one stretch of one item: `size` bytes from `offset` on."""

    # The item's number, NO_ITEM for audio of none, or FILL for silence.
    item: int
    offset: int
    size: int
    # How many of its bytes were played, from play_start_ns on.
    heard: int
    arrival_ns: int
    play_start_ns: int

    @property
    def play_end_ns(self) -> int:
        return self.play_start_ns + self.heard * BYTE_NS


# A stretch of the received audio: its length, its item, and where in the item it begins.
_Stretch = tuple[int, int, int]


def align(record: EarRecord, items: Sequence[bytes]) -> list[Piece]:
    """All audio at the ear, in order, as pieces of `items`."""
    return list(_pieces(record, _stretches(record.audio, items)))


def _frames(items: Sequence[bytes]) -> dict[bytes, list[tuple[int, int]]]:
    """The places of each frame. A short last frame, mostly silence, may be in several items."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    for number, audio in enumerate(items):
        for offset in range(0, len(audio), FRAME_BYTES):
            frame = audio[offset : offset + FRAME_BYTES].ljust(FRAME_BYTES, SILENCE)
            places.setdefault(frame, []).append((number, offset))
    return places


def _stretches(audio: bytes, items: Sequence[bytes]) -> Iterator[_Stretch]:
    places = _frames(items)
    # The item and offset that come next when nothing goes wrong.
    expected = (0, 0)
    at = 0
    while at < len(audio):
        window = audio[at : at + FRAME_BYTES]
        found = _choose(places.get(window), expected, window)
        if found is not None:
            number, offset = found
            size = min(FRAME_BYTES, len(items[number]) - offset)
            yield size, number, offset
            if size < FRAME_BYTES:
                yield FRAME_BYTES - size, FILL, 0
            at += FRAME_BYTES
        elif tail := _bare_tail(audio, at, items, expected):
            size = tail
            yield size, *expected
            number, offset = expected
            at += size
        elif silent := len(window) - len(window.lstrip(SILENCE)):
            yield silent, FILL, 0
            at += silent
            continue
        else:
            unknown = 1
            while at + unknown < len(audio) and audio[at + unknown : at + unknown + FRAME_BYTES] not in places:
                unknown += 1
            yield unknown, NO_ITEM, 0
            at += unknown
            continue
        expected = (number, offset + size) if offset + size < len(items[number]) else (number + 1, 0)


def _choose(found: list[tuple[int, int]] | None, expected: tuple[int, int], window: bytes) -> tuple[int, int] | None:
    if not found or expected in found:
        return expected if found else None
    if window == _SILENT_FRAME:
        return None
    return next((place for place in found if place > expected), found[0])


def _bare_tail(audio: bytes, at: int, items: Sequence[bytes], expected: tuple[int, int]) -> int:
    """The length of the expected item's short last frame if it is here without padding; otherwise 0."""
    number, offset = expected
    if number >= len(items) or len(items[number]) - offset >= FRAME_BYTES:
        return 0
    tail = items[number][offset:]
    return len(tail) if audio.startswith(tail, at) else 0


def _pieces(record: EarRecord, stretches: Iterator[_Stretch]) -> Iterator[Piece]:
    """Cut the stretches at the ends of their messages, and add the times."""
    size = item = offset = 0
    for arrival_ns, start_ns, message, heard in zip(
        record.arrival_ns, record.play_start_ns, record.size_bytes, record.heard_bytes, strict=True
    ):
        done = 0
        while done < message:
            if not size:
                size, item, offset = next(stretches)
            n = min(size, message - done)
            played = min(max(heard - done, 0), n)
            yield Piece(item, offset, n, played, arrival_ns, start_ns + done * BYTE_NS)
            done += n
            size -= n
            offset += n
