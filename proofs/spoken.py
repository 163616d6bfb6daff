"""What the simulated model said, item by item, and what the ear heard of each item. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import msgspec

from shared.audio import BYTE_NS
from simulator.carrier.call import CallRecord

from .alignment import FILL, NO_ITEM, Piece, align
from .verdict import Damage, Gap

_MS: Final = 1_000_000
# An AI that has been silent for this long in the middle of an item is no longer "being heard" when someone speaks.
_STARVED_NS: Final = 500 * _MS


class ItemTruth(msgspec.Struct, frozen=True):
    """An item of the model's conversation: `audio_b64` is all of it that was sent, `held_ms` what it holds now."""

    item_id: str
    role: str | None = None
    response_id: str | None = None
    audio_b64: bytes = b""
    held_ms: float = 0
    deleted: bool = False
    truncated_ms: float | None = None
    transcript: str = ""
    first_delta_ns: int = 0


class ResponseTruth(msgspec.Struct, frozen=True):
    id: str
    status: str = ""
    cancels: int = 0
    created_ns: int = 0
    done_ns: int | None = None


class SpeechTruth(msgspec.Struct, frozen=True):
    """The caller's speech as the model noticed it; `stopped_ns` is None when it never noticed the end."""

    started_ns: int
    stopped_ns: int | None = None


class ErrorTruth(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str = ""
    at_ns: int = 0


class SessionTruth(msgspec.Struct, frozen=True):
    """The model server's record of one session of the call."""

    items: list[ItemTruth] = []
    responses: list[ResponseTruth] = []
    speech: list[SpeechTruth] = []
    errors: list[ErrorTruth] = []
    opened_ns: int = 0
    closed_ns: int | None = None
    # All that the session heard of the caller; None: its server does not keep it.
    input_b64: bytes | None = None


@dataclass
class Spoken:
    """One audio item of the model, and what the ear heard of it."""

    truth: ItemTruth
    response: ResponseTruth
    # Number of its session within the call, and when that was closed.
    session: int
    closed_ns: int | None
    heard: list[Piece] = field(default_factory=list)
    # One byte for each byte of audio: 1 where it was heard.
    coverage: bytearray = field(default_factory=bytearray)
    # The interruption that withdrew the rest of it, or could have; None: none.
    withdrawn_ns: int | None = None
    # The call ended before it did.
    ended_with_call: bool = False

    @property
    def heard_bytes(self) -> int:
        return self.coverage.count(1)

    @property
    def reach(self) -> int:
        """The offset after the last heard byte."""
        return self.coverage.rfind(1) + 1

    @property
    def began_ns(self) -> int:
        return self.heard[0].play_start_ns

    @property
    def ended_ns(self) -> int:
        return max(piece.play_end_ns for piece in self.heard)

    def reach_at(self, at_ns: int) -> int:
        """The bytes of the item that had been heard at `at_ns`."""
        reach = 0
        for piece in self.heard:
            if piece.play_start_ns < at_ns:
                played = -(-(min(at_ns, piece.play_end_ns) - piece.play_start_ns) // BYTE_NS)
                reach = max(reach, piece.offset + played)
        return reach

    def is_being_heard(self, at_ns: int) -> bool:
        """Whether the item has begun, and is neither finished nor silent for long."""
        if not self.heard or self.began_ns > at_ns:
            return False
        return at_ns < self.ended_ns or (self.reach < len(self.coverage) and at_ns < self.ended_ns + _STARVED_NS)


def read_sessions(sessions: Sequence[dict[str, Any]]) -> list[SessionTruth]:
    """The records of the model server. Raises msgspec.ValidationError for other data."""
    return msgspec.convert(list(sessions), list[SessionTruth])


def listen(call: CallRecord, sessions: Sequence[SessionTruth]) -> tuple[list[Spoken], list[Piece]]:
    """Every audio item of the model with what was heard of it, and all pieces of the received audio in order."""
    spoken: list[Spoken] = []
    for number, session in enumerate(sessions):
        responses = {each.id: each for each in session.responses}
        for item in session.items:
            if item.role == "assistant" and item.audio_b64:
                response_id = item.response_id or ""
                response = responses.get(response_id) or ResponseTruth(response_id)
                coverage = bytearray(len(item.audio_b64))
                spoken.append(Spoken(item, response, number, session.closed_ns, coverage=coverage))
    pieces = align(call.ear, [each.truth.audio_b64 for each in spoken])
    for piece in pieces:
        if piece.item >= 0 and piece.heard:
            each = spoken[piece.item]
            each.heard.append(piece)
            stretch = slice(piece.offset, piece.offset + piece.heard)
            each.coverage[stretch] = b"\1" * piece.heard
    return spoken, pieces


def gaps(spoken: Sequence[Spoken], heard: Sequence[Piece]) -> tuple[Gap, ...]:
    return tuple(
        Gap(before.play_end_ns, (after.play_start_ns - before.play_end_ns) / _MS, spoken[after.item].truth.item_id)
        for before, after in pairwise(heard)
        if before.item == after.item and after.play_start_ns > before.play_end_ns
    )


def wire_gaps_ms(pieces: Iterable[Piece]) -> list[float]:
    received = (piece for piece in pieces if piece.item != FILL)
    return [
        (after.arrival_ns - before.arrival_ns) / _MS
        for before, after in pairwise(received)
        if before.item == after.item >= 0
    ]


def damages(spoken: Sequence[Spoken], pieces: Sequence[Piece]) -> Iterator[Damage]:
    """Bytes that were lost, heard twice, out of order, or of no item; each where the ear noticed it.

    A repetition of heard bytes does not count as out of order.
    """
    furthest = (-1, 0)
    seen = [bytearray(len(each.coverage)) for each in spoken]
    for piece in pieces:
        if not piece.heard or piece.item == FILL:
            continue
        if piece.item == NO_ITEM:
            yield Damage("invented", piece.play_start_ns, "", piece.heard)
            continue
        item_id = spoken[piece.item].truth.item_id
        stretch = slice(piece.offset, piece.offset + piece.heard)
        again = seen[piece.item][stretch].count(1)
        if again:
            yield Damage("twice", piece.play_start_ns, item_id, again)
        # What was not heard yet although something later was.
        passed = piece.heard if piece.item < furthest[0] else min(piece.heard, max(0, furthest[1] - piece.offset))
        if piece.item <= furthest[0] and (late := seen[piece.item][piece.offset : piece.offset + passed].count(0)):
            yield Damage("order", piece.play_start_ns, item_id, late)
        seen[piece.item][stretch] = b"\1" * piece.heard
        furthest = max(furthest, (piece.item, piece.offset + piece.heard))
    for each in spoken:
        for hole in re.finditer(b"\0+", each.coverage[: each.reach]):
            at_ns = min(piece.play_start_ns for piece in each.heard if piece.offset >= hole.end())
            yield Damage("lost", at_ns, each.truth.item_id, len(hole[0]))
