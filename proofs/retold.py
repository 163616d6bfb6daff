"""Compares what a new session was told about the conversation with what its caller heard and said.

A lost session takes its conversation along. The next session is told every turn as text; of an item of the AI, the
words that were heard. Here their share of the transcript is compared with the heard share of the audio. A turn of the
caller may be heard again instead.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aibridge.core.keypad import IN_WORDS
from shared.audio import BYTES_PER_MS

from .spoken import Spoken

_MS: Final = 1_000_000
# A worker leaves its memory once a second: what the model made within the last second may be lost with the worker.
MEMORY_NS: Final = 1_100 * _MS
# A new session is told again when the end of an item is known.
TELLING_NS: Final = 1_000 * _MS
# Only whole words are told, and letters are an inexact measure of time.
TOLD_MS: Final = 1_500


@dataclass(frozen=True)
class Forgotten:
    """A turn that the session opened at `opened_ns` was not told, or not as far as it was heard."""

    opened_ns: int
    text: str


def forgotten(
    spoken: Sequence[Spoken],
    sessions: Sequence[dict[str, Any]],
    died: Collection[int] = (),
    heard_from_ns: Mapping[int, int] | None = None,
) -> Iterator[Forgotten]:
    """The turns that each session but the first lacks.

    `died` are the numbers of the sessions whose worker died with them. `heard_from_ns` says for each session since when
    it heard the caller: the time at which its first bytes were sent.
    """
    for number, session in enumerate(sessions[1:], start=1):
        told = [each for each in session["told"] if not each["deleted"]]
        words = [each["text"] for each in told if each["role"] == "assistant"]
        for text in (
            *_items(number, session, spoken, words, died),
            *_turns(number, sessions, sum(_is_speech(each) for each in told), died, heard_from_ns or {}),
        ):
            yield Forgotten(session["opened_ns"], f"session {number + 1} {text}")


def _is_speech(told: dict[str, Any]) -> bool:
    """Whether it is a turn of the caller, and not keys."""
    return told["role"] == "user" and not told["text"].startswith(IN_WORDS)


def _turns(
    number: int,
    sessions: Sequence[dict[str, Any]],
    told: int,
    died: Collection[int],
    heard_from_ns: Mapping[int, int],
) -> Iterator[str]:
    """The caller's turns: each told, or heard again, once."""
    known = all_turns = again = 0
    for before in range(number):
        closed_ns = sessions[before]["closed_ns"]
        for speech in sessions[before]["speech"]:
            if closed_ns is None or speech["stopped_ns"] is None:
                continue
            all_turns += 1
            again += heard_from_ns.get(number, 1 << 62) <= speech["started_ns"]
            known += speech["stopped_ns"] < closed_ns - (MEMORY_NS if before in died else 0)
    if told + again < known:
        yield f"was told {told} turns of the caller, and heard {again} again, of {known}"
    if told > all_turns:
        yield f"was told {told} turns of the caller, of {all_turns}"


def _items(
    number: int, session: dict[str, Any], spoken: Sequence[Spoken], told: Sequence[str], died: Collection[int]
) -> Iterator[str]:
    before = [
        item
        for item in spoken
        if item.session < number
        and item.heard
        and item.began_ns < session["opened_ns"]
        and (session["closed_ns"] is None or item.ended_ns < session["closed_ns"] - TELLING_NS)
    ]
    items = sorted(before, key=lambda each: each.began_ns)
    for item, text in zip(items, _pairs(items, told), strict=True):
        heard_ms = item.heard_bytes / BYTES_PER_MS
        told_ms = _ms_of(item, text)
        if not item.truth.transcript.startswith(text):
            yield f"was told {item.truth.item_id} without its first words"
        known_ms = _known_ms(item) if item.session in died else heard_ms
        if told_ms > heard_ms + TOLD_MS or told_ms < min(heard_ms, known_ms) - TOLD_MS:
            yield f"was told {told_ms:.0f} ms of {item.truth.item_id}, and {heard_ms:.0f} ms of it were heard"


def _ms_of(item: Spoken, text: str) -> float:
    """The length of an item's first words, estimated by their letters."""
    return len(text) * len(item.coverage) / BYTES_PER_MS / max(1, len(item.truth.transcript))


def _pairs(items: Sequence[Spoken], told: Sequence[str]) -> list[str]:
    """The told text of each item, "" for none. Order and length distinguish equal answers."""
    # For each number of texts that are taken, the best way so far: its worth, and what its items were told as.
    best: list[tuple[float, list[str]]] = [(0.0, []) for _ in range(len(told) + 1)]
    for item in items:
        heard_ms = item.heard_bytes / BYTES_PER_MS
        following: list[tuple[float, list[str]]] = []
        for taken, (worth, texts) in enumerate(best):
            ways = [(worth, [*texts, ""])]
            if taken and (text := told[taken - 1]).strip() in item.truth.transcript:
                fits = 1 + 1 / (1 + abs(_ms_of(item, text) - heard_ms))
                ways.append((best[taken - 1][0] + fits, [*best[taken - 1][1], text]))
            if following:
                ways.append(following[-1])
            following.append(max(ways, key=lambda way: way[0]))
        best = following
    return best[-1][1]


def _known_ms(item: Spoken) -> float:
    """The least that a successor knows of an item: what had been made when the memory was last left."""
    made_ms = len(item.coverage) / BYTES_PER_MS
    if item.closed_ns is None:
        return made_ms
    began_ns = item.truth.first_delta_ns
    until_ns = item.response.done_ns or item.closed_ns
    share = (item.closed_ns - MEMORY_NS - began_ns) / max(1, until_ns - began_ns)
    return made_ms * min(1.0, max(0.0, share))
