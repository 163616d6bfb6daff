"""What a fresh session was told of the conversation before it, against what its caller heard and said.

A worker that dies takes the model's session with it. Its successor tells a new one every turn as text, and of an item
of the AI the words that were heard: here their share of its transcript is compared with the share of its audio.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from shared.audio import BYTES_PER_MS

from .judge import Spoken

_MS: Final = 1_000_000
# A worker hands its memory on once a second: what the model made within the last one may have died with it.
MEMORY_NS: Final = 1_100 * _MS
# A fresh session is told once more when the end of an item is known.
TELLING_NS: Final = 1_000 * _MS
# Only whole words are told, and letters are no measure of time.
TOLD_MS: Final = 1_500


def forgotten(spoken: Sequence[Spoken], sessions: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A sentence for each turn before a session that it was not told, or not as far as it was heard."""
    for number, session in enumerate(sessions[1:], start=1):
        told = [each for each in session["told"] if not each["deleted"]]
        yield from _items(number, session, spoken, [each["text"] for each in told if each["role"] == "assistant"])
        turns = sum(
            speech["stopped_ns"] is not None and speech["stopped_ns"] < before["closed_ns"] - MEMORY_NS
            for before in sessions[:number]
            for speech in before["speech"]
            if before["closed_ns"] is not None
        )
        heard = sum(each["role"] == "user" for each in told)
        if heard < turns:
            yield f"session {number + 1} was told {heard} turns of the caller, of {turns}"


def _items(number: int, session: dict[str, Any], spoken: Sequence[Spoken], told: Sequence[str]) -> Iterator[str]:
    before = [
        item
        for item in spoken
        if item.session < number
        and item.heard
        and item.began_ns < session["opened_ns"]
        and (session["closed_ns"] is None or item.ended_ns < session["closed_ns"] - TELLING_NS)
    ]
    at = 0
    for item in sorted(before, key=lambda each: each.began_ns):
        words = item.truth.transcript
        ms_of_a_letter = len(item.coverage) / BYTES_PER_MS / max(1, len(words))
        heard_ms = item.heard_bytes / BYTES_PER_MS
        # Answers repeat, so that the order has to tell them apart.
        found = next((n for n in range(at, len(told)) if told[n].strip() in words), None)
        told_ms = 0.0
        if found is not None:
            at = found + 1
            told_ms = len(told[found]) * ms_of_a_letter
            if not words.startswith(told[found]):
                yield f"session {number + 1} was told {item.truth.item_id} without its first words"
        if told_ms > heard_ms + TOLD_MS or told_ms < min(heard_ms, _known_ms(item)) - TOLD_MS:
            yield (
                f"session {number + 1} was told {told_ms:.0f} ms of {item.truth.item_id},"
                f" of which {heard_ms:.0f} ms were heard"
            )


def _known_ms(item: Spoken) -> float:
    """How much of an item a successor knows at least: what had been made when the memory was last handed on."""
    made_ms = len(item.coverage) / BYTES_PER_MS
    if item.closed_ns is None:
        return made_ms
    began_ns = item.truth.first_delta_ns
    until_ns = item.response.done_ns or item.closed_ns
    share = (item.closed_ns - MEMORY_NS - began_ns) / max(1, until_ns - began_ns)
    return made_ms * min(1.0, max(0.0, share))
