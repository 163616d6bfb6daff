"""The playout buffer, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS
from simulator.carrier.ear import BUFFER_BYTES, Clear, Ear

FRAME = bytes(range(FRAME_BYTES))


def test_audio_that_arrives_early_is_played_after_the_buffered_audio() -> None:
    ear = Ear()
    ear.media(FRAME, 1_000)
    ear.media(FRAME, 2_000)
    record = ear.record()
    assert list(record.arrival_ns) == [1_000, 2_000]
    assert list(record.play_start_ns) == [1_000, 1_000 + FRAME_NS]
    assert record.audio == FRAME * 2


def test_audio_that_arrives_late_is_played_on_arrival() -> None:
    ear = Ear()
    ear.media(FRAME, 0)
    ear.media(FRAME, FRAME_NS + 7)
    assert list(ear.record().play_start_ns) == [0, FRAME_NS + 7]


def test_a_mark_comes_back_when_the_audio_before_it_was_played_and_not_a_nanosecond_earlier() -> None:
    ear = Ear()
    ear.media(FRAME, 0)
    ear.mark("a", 10)
    ear.media(FRAME, 20)
    ear.mark("b", 30)
    assert ear.next_due_ns() == FRAME_NS
    assert ear.advance(FRAME_NS - 1) == []
    assert ear.advance(FRAME_NS) == ["a"]
    assert ear.advance(10 * FRAME_NS) == ["b"]
    assert ear.next_due_ns() is None


def test_a_mark_on_an_idle_line_comes_back_at_once() -> None:
    ear = Ear()
    ear.media(FRAME, 0)
    ear.mark("late", 5 * FRAME_NS)
    assert ear.advance(5 * FRAME_NS) == ["late"]


def test_clear_discards_unplayed_audio_and_returns_every_waiting_mark() -> None:
    ear = Ear()
    ear.media(FRAME, 0)
    ear.mark("a", 0)
    ear.media(FRAME, 0)
    ear.mark("b", 0)
    now_ns = FRAME_NS // 2
    assert ear.clear(now_ns) == ["a", "b"]
    record = ear.record()
    assert list(record.heard_bytes) == [80, 0]
    assert record.clears == (Clear(now_ns, 240),)
    assert not ear.is_playing(now_ns)
    assert ear.advance(10 * FRAME_NS) == []


def test_audio_after_a_clear_is_played_at_once() -> None:
    ear = Ear()
    ear.media(FRAME * 10, 0)
    ear.clear(FRAME_NS)
    ear.media(FRAME, FRAME_NS + 1)
    record = ear.record()
    assert list(record.heard_bytes) == [160, 160]
    assert list(record.play_start_ns) == [0, FRAME_NS + 1]


def test_the_end_of_the_stream_discards_unplayed_audio_and_no_mark_comes_back() -> None:
    ear = Ear()
    ear.media(FRAME * 2, 0)
    ear.mark("never", 0)
    ear.close(FRAME_NS + 1)
    assert list(ear.record().heard_bytes) == [161]  # the sample that had begun is heard
    assert ear.advance(10 * FRAME_NS) == []
    assert ear.record().clears == ()


def test_more_than_ten_minutes_are_refused_and_counted() -> None:
    ear = Ear()
    assert ear.media(bytes(BUFFER_BYTES), 0)
    assert not ear.media(b"\0", 0)
    assert ear.media(b"\0", BYTE_NS)
    record = ear.record()
    assert (record.discarded_messages, record.discarded_bytes) == (1, 1)


@given(st.lists(st.tuples(st.integers(0, 50_000_000), st.integers(0, 800)), max_size=40), st.integers(0, 10**9))
def test_no_byte_is_played_before_its_arrival_and_no_two_at_once(parts: list[tuple[int, int]], clear_ns: int) -> None:
    ear = Ear()
    now_ns = 0
    for wait_ns, size in parts:
        now_ns += wait_ns
        ear.media(bytes(size), now_ns)
    ear.clear(now_ns + clear_ns)
    record = ear.record()
    free_ns = 0
    for arrival_ns, start_ns, heard in zip(record.arrival_ns, record.play_start_ns, record.heard_bytes, strict=True):
        assert start_ns == max(arrival_ns, free_ns) or heard == 0
        free_ns = start_ns + heard * BYTE_NS
    assert sum(record.heard_bytes) + record.clears[0].cut_bytes == len(record.audio)
