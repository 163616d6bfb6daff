"""What the session of a successor has to be told."""

from __future__ import annotations

from typing import Any

import msgspec

from proofs.alignment import Piece
from proofs.retold import forgotten
from proofs.spoken import ItemTruth, ResponseTruth, Spoken

S = 1_000_000_000
WORDS = "one two three four five six seven eight nine ten"


def heard(ms: int, *, at_s: int = 1) -> Spoken:
    """An item of 5 s with `ms` of it heard."""
    item = Spoken(ItemTruth("item_1", "assistant", "r", b"", transcript=WORDS), ResponseTruth("r"), 0, 10 * S)
    item.coverage = bytearray(b"\1" * (ms * 8)).ljust(40_000, b"\0")
    item.heard = [Piece(0, 0, ms * 8, ms * 8, at_s * S, at_s * S)]
    return item


def sessions(told: str, *, turns: int = 0, deleted: bool = False) -> list[dict[str, Any]]:
    speech = [{"started_ns": 7 * S, "stopped_ns": 8 * S}]
    texts = [{"role": "assistant", "text": told, "deleted": deleted}]
    texts += turns * [{"role": "user", "text": "yes", "deleted": False}]
    return [
        {"closed_ns": 10 * S, "speech": speech},
        {"opened_ns": 12 * S, "closed_ns": 30 * S, "speech": [], "told": texts},
    ]


def test_a_session_that_was_told_what_was_heard_has_forgotten_nothing() -> None:
    assert list(forgotten([heard(5_000)], sessions(WORDS, turns=1))) == []
    assert list(forgotten([heard(2_500)], sessions("one two three four five", turns=1))) == []


def test_words_that_were_not_heard_or_not_told_are_noticed() -> None:
    assert len(list(forgotten([heard(2_000)], sessions(WORDS, turns=1)))) == 1
    assert len(list(forgotten([heard(5_000)], sessions("one two", turns=1)))) == 1
    assert len(list(forgotten([heard(5_000)], sessions("two three four five six seven eight nine ten", turns=1)))) == 1
    assert len(list(forgotten([heard(5_000)], sessions("(something)", turns=1)))) == 1
    assert len(list(forgotten([heard(5_000)], sessions(WORDS, turns=1, deleted=True)))) == 1


def test_a_turn_of_the_caller_that_was_not_told_is_noticed() -> None:
    assert len(list(forgotten([heard(5_000)], sessions(WORDS)))) == 1


def test_words_of_the_last_second_may_be_lost_with_their_session() -> None:
    item = heard(5_000)
    item.truth = msgspec.structs.replace(item.truth, first_delta_ns=8 * S)
    assert list(forgotten([item], sessions("one two three four", turns=1), died={0})) == []
    assert len(list(forgotten([item], sessions("", turns=1), died={0}))) == 1
    # Its worker lives, and knows every word.
    assert len(list(forgotten([item], sessions("one two three four", turns=1)))) == 1


def test_words_that_are_heard_later_need_not_have_been_told() -> None:
    assert list(forgotten([heard(5_000, at_s=13)], sessions("", turns=1))) == []


def test_a_turn_of_the_last_second_may_be_lost_with_its_worker_and_an_earlier_one_may_not() -> None:
    recent = sessions(WORDS)
    recent[0]["speech"][0]["stopped_ns"] = 9 * S
    assert list(forgotten([heard(5_000)], recent, died={0})) == []
    assert len(list(forgotten([heard(5_000)], recent))) == 1
    recent[0]["speech"][0]["stopped_ns"] = 8 * S
    assert len(list(forgotten([heard(5_000)], recent, died={0}))) == 1


def test_a_turn_that_is_heard_again_need_not_be_told() -> None:
    assert list(forgotten([heard(5_000)], sessions(WORDS), heard_from_ns={1: 7 * S})) == []
    assert len(list(forgotten([heard(5_000)], sessions(WORDS), heard_from_ns={1: 7 * S + 1}))) == 1


def test_a_turn_that_is_told_twice_is_noticed() -> None:
    assert len(list(forgotten([heard(5_000)], sessions(WORDS, turns=2)))) == 1


def test_equal_answers_are_distinguished_by_their_order_and_their_heard_part() -> None:
    lost, whole, cut = heard(5_000, at_s=1), heard(5_000, at_s=2), heard(2_500, at_s=3)
    lost.truth = msgspec.structs.replace(
        lost.truth, transcript="one two three four five six seven", first_delta_ns=9 * S
    )
    told = sessions("")
    texts = ("(not written down)", WORDS, "one two three four five")
    told[1]["told"] = [{"role": "assistant", "text": text, "deleted": False} for text in texts]
    told[0]["speech"] = []
    assert list(forgotten([lost, whole, cut], told, died={0})) == []
