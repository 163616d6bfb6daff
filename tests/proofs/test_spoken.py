"""What the ear heard of each item: whole, late, lost, twice, out of order or invented."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS, SILENCE

from .judged_call import LEAD_MS, START, Line, speech


def test_a_whole_greeting_breaks_no_promise() -> None:
    line = Line()
    line.pace(line.item(3000), 200)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert verdict.first_audio_ms == 200
    assert verdict.speech_ms == 3000
    assert verdict.greeting is not None
    assert verdict.greeting.heard_ms == 3000


def test_a_short_last_frame_is_heard_to_its_end_and_its_fill_is_not_invented() -> None:
    line = Line()
    end = line.pace(line.item(1007), 200)
    line.pace(line.item(501.5, created_ms=100), end)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert verdict.speech_ms == 1508.5


def test_frames_of_any_grouping_and_unfilled_ends_are_recognised() -> None:
    line = Line()
    whole = line.item(1007) + line.item(503)
    at = 0
    rng = random.Random(3)
    while at < len(whole):
        size = rng.randint(1, 900)
        line.ear.media(whole[at : at + size], START)
        at += size
    assert line.verdict().problems() == []


def test_a_pause_in_the_middle_of_an_item_is_a_gap() -> None:
    line = Line()
    line.pace(line.item(3000), 200, late_ms=LEAD_MS + 45)
    verdict = line.verdict()
    assert [gap.ms for gap in verdict.gaps] == [45]
    assert len(verdict.problems()) == 1


def test_lateness_within_the_lead_is_a_wire_gap_and_no_gap_at_the_ear() -> None:
    line = Line()
    line.pace(line.item(3000), 200, late_ms=LEAD_MS)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert verdict.wire_gaps_100 == 1
    assert verdict.wire_gap_max_ms == LEAD_MS + 20


@pytest.mark.parametrize(
    ("harm", "figure", "n_bytes"),
    [
        (lambda frames: frames[:20] + frames[21:], "lost", 160),
        (lambda frames: frames[:21] + frames[20:], "twice", 160),
        (lambda frames: [*frames[:20], frames[21], frames[20], *frames[22:]], "order", 160),
        (lambda frames: [*frames[:20], speech(20, 999), *frames[20:]], "invented", 160),
        (lambda frames: [*frames[:20], frames[20][:150] + frames[21], *frames[22:]], "lost", 160),
    ],
    ids=["lost", "doubled", "swapped", "foreign", "bytes lost inside a frame"],
)
def test_damage_is_counted_in_bytes(harm: Callable[[list[bytes]], list[bytes]], figure: str, n_bytes: int) -> None:
    line = Line()
    line.pace(line.item(1000), 200, harm)
    verdict = line.verdict()
    assert verdict.damaged_bytes(figure) == n_bytes
    assert verdict.problems()


def test_items_heard_in_the_wrong_order_are_out_of_order() -> None:
    line = Line()
    first, second = line.item(400), line.item(600)
    end = line.pace(second, 200)
    line.pace(first, end)
    assert line.verdict().damaged_bytes("order") == 3200


def test_silence_sent_in_the_middle_of_an_item_is_a_gap() -> None:
    line = Line()
    line.pace(line.item(1000), 200, lambda frames: [*frames[:20], SILENCE * FRAME_BYTES, *frames[20:]])
    assert [gap.ms for gap in line.verdict().gaps] == [20]


def test_speech_that_was_paced_but_not_played_when_the_call_ended_is_not_heard() -> None:
    line = Line()
    line.ear.media(line.item(3000), START)
    assert line.verdict(end_ms=1000).speech_ms == 1000


def test_the_end_of_an_item_is_known_to_the_sample() -> None:
    line = Line()
    line.ear.media(line.item(1000), START)
    line.ear.close(START + 400 * FRAME_NS // 160 + 1)
    assert line.ear.record().heard_bytes[0] == 400 * FRAME_NS // 160 // BYTE_NS + 1
