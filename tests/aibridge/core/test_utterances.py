"""The ledger: bytes received, spoken and heard, and the speech that a line may still need."""

from __future__ import annotations

import pytest

from aibridge.core.utterances import KEEP_UTTERANCES, UNHEARD_MAX_BYTES, Utterance, Utterances

S = 1_000_000_000


def speaking(ledger: Utterances, number: int = 1, n_bytes: int = 8_000) -> Utterance:
    utterance, _ = ledger.receive(1, number, n_bytes)
    ledger.speak(utterance, bytes(n_bytes))
    return utterance


def test_audio_of_one_utterance_is_booked_together() -> None:
    ledger = Utterances()
    first, is_new = ledger.receive(1, 1, 100)
    again, is_new_again = ledger.receive(1, 1, 60)
    assert (is_new, is_new_again) == (True, False)
    assert first is again
    assert first.received_bytes == 160


def test_more_than_was_spoken_cannot_be_heard() -> None:
    ledger = Utterances()
    utterance = speaking(ledger)
    ledger.settle(1, 9_000, 5)
    assert (utterance.heard_bytes, utterance.settled_ns, utterance.cut) == (8_000, 5, False)


def test_an_utterance_is_settled_once() -> None:
    ledger = Utterances()
    speaking(ledger)
    assert ledger.settle(1, 100, 5) is not None
    assert ledger.settle(1, 200, 6) is None
    assert ledger.last_open() == 0


def test_late_audio_makes_a_settled_utterance_a_cut_one() -> None:
    ledger = Utterances()
    utterance = speaking(ledger)
    ledger.settle(1, 8_000, 5)
    ledger.receive(1, 1, 800)
    assert utterance.cut


@pytest.mark.parametrize(("now_ms", "heard"), [(0, 0), (500, 4_000), (1_200, 5_600), (9_000, 8_000)])
def test_the_ear_is_estimated_by_its_clock_without_its_gaps(now_ms: int, heard: int) -> None:
    utterance = Utterance(1, 1, 8_000, 8_000, began_ns=10 * S)
    if now_ms == 1_200:
        utterance.gap_ns = S // 2
    assert utterance.estimate_heard(10 * S + now_ms * 1_000_000, 0) == heard


def test_an_utterance_that_the_ear_has_not_begun_is_not_heard() -> None:
    assert Utterance(1, 1, 8_000, 8_000).estimate_heard(10 * S, S) == 0


def test_speech_is_kept_from_the_first_byte_that_a_line_may_need() -> None:
    ledger = Utterances()
    utterance, _ = ledger.receive(1, 1, 300)
    for chunk in (b"a" * 100, b"b" * 100, b"c" * 100):
        ledger.speak(utterance, chunk)
    utterance.forget_before(150)
    assert utterance.kept_from == 100
    assert utterance.rest(0) == b"b" * 100 + b"c" * 100
    assert utterance.rest(250) == b"c" * 50
    ledger.settle(1, 300, 5)
    assert utterance.rest(0) == b""


def test_the_room_in_the_line_grows_with_what_the_ear_has_passed() -> None:
    ledger = Utterances()
    utterance = speaking(ledger, n_bytes=UNHEARD_MAX_BYTES)
    assert ledger.room_bytes(10 * S) == 0
    utterance.began_ns = 10 * S
    assert ledger.room_bytes(11 * S) == 8_000


def test_old_utterances_are_forgotten_when_they_are_settled() -> None:
    ledger = Utterances()
    for number in range(1, 2 * KEEP_UTTERANCES):
        speaking(ledger, number)
        ledger.settle(number, 8_000, 5)
    assert ledger.get(1) is None
    assert ledger.get(2 * KEEP_UTTERANCES - 1) is not None


def test_an_adopted_utterance_is_open_and_numbers_go_on_after_it() -> None:
    ledger = Utterances()
    ledger.adopt(Utterance(7, 1, 800, 800))
    assert [each.number for each in ledger.open()] == [7]
    assert (ledger.last, ledger.last_open(), ledger.unheard_bytes(0)) == (7, 7, 800)
