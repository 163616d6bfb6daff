"""What the ear heard, from the ledger."""

from __future__ import annotations

from aibridge.core.near_ear.played import Played
from aibridge.core.utterances import Utterances
from shared.audio import BYTE_NS

MS = 1_000_000
BEGAN_NS = 5_000 * MS


def spoken(*chunks: bytes, began_ns: int = BEGAN_NS) -> tuple[Utterances, Played]:
    utterances = Utterances()
    utterance, _ = utterances.receive(1, 1, sum(map(len, chunks)))
    for chunk in chunks:
        utterances.speak(utterance, chunk)
    utterance.began_ns = began_ns
    return utterances, Played(utterances, is_read=True)


def test_what_the_ear_heard_is_cut_out_of_the_speech_by_time() -> None:
    _, played = spoken(b"a" * 80, b"b" * 80, b"c" * 80)

    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 100) == b"a" * 10 + b"b" * 80 + b"c" * 10


def test_before_the_ear_begins_and_after_it_ends_it_heard_silence() -> None:
    _, played = spoken(b"a" * 80)

    assert played.heard(BEGAN_NS - 10 * BYTE_NS, 20) == b"\xff" * 10 + b"a" * 10
    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 20) == b"a" * 10 + b"\xff" * 10
    assert played.heard(BEGAN_NS + 900 * MS, 20) == b"\xff" * 20


def test_two_utterances_that_follow_each_other_are_heard_one_after_the_other() -> None:
    utterances, played = spoken(b"a" * 80)
    second, _ = utterances.receive(1, 2, 80)
    utterances.speak(second, b"b" * 80)
    second.began_ns = BEGAN_NS + 100 * BYTE_NS

    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 40) == b"a" * 10 + b"\xff" * 20 + b"b" * 10


def test_a_paused_line_is_silent_after_what_was_paced_and_goes_on_later_by_what_the_ear_waited() -> None:
    utterances, played = spoken(b"a" * 80 + b"b" * 80)
    played.paused(BEGAN_NS + 80 * BYTE_NS)

    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 20) == b"a" * 10 + b"\xff" * 10

    played.resumed()
    utterance = utterances.get(1)
    assert utterance is not None
    utterance.gap_ns = 200 * BYTE_NS
    assert played.heard(BEGAN_NS + 270 * BYTE_NS, 20) == b"a" * 10 + b"b" * 10


def test_speech_that_is_no_longer_kept_counts_as_silence() -> None:
    utterances, played = spoken(b"a" * 80, b"b" * 80)
    utterance = utterances.get(1)
    assert utterance is not None
    utterance.forget_before(80)

    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 20) == b"\xff" * 10 + b"b" * 10


def test_the_last_speech_of_an_utterance_is_known_after_the_ledger_has_dropped_it() -> None:
    utterances, played = spoken(b"a" * 80 + b"b" * 80)
    utterance = utterances.get(1)
    assert utterance is not None
    played.settled(utterance, 120)
    utterances.settle(1, 120, BEGAN_NS + 120 * BYTE_NS)

    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 60) == b"a" * 10 + b"b" * 40 + b"\xff" * 10


def test_withdrawn_speech_is_heard_until_what_was_paced_has_drained() -> None:
    utterances, played = spoken(b"a" * 80 + b"b" * 800)
    utterance = utterances.get(1)
    assert utterance is not None
    played.withdrawn(utterance, BEGAN_NS + 160 * BYTE_NS)
    utterance.kept.clear()
    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 100) == b"a" * 10 + b"b" * 80 + b"\xff" * 10

    played.settled(utterance, 100)
    utterances.settle(1, 100, BEGAN_NS + 100 * BYTE_NS)
    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 40) == b"a" * 10 + b"b" * 20 + b"\xff" * 10


def test_speech_that_follows_dropped_speech_is_heard_in_its_place() -> None:
    utterances, played = spoken(b"a" * 80)
    first = utterances.get(1)
    assert first is not None
    second, _ = utterances.receive(1, 2, 80)
    utterances.speak(second, b"b" * 80)
    second.began_ns = BEGAN_NS + 100 * BYTE_NS
    played.settled(first, 80)
    utterances.settle(1, 80, BEGAN_NS + 80 * BYTE_NS)

    assert played.heard(BEGAN_NS + 70 * BYTE_NS, 40) == b"a" * 10 + b"\xff" * 20 + b"b" * 10
