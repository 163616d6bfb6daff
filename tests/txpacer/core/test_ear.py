"""Anchor, deadlines, debt and gaps: the ear of one line, driven through the line."""

from __future__ import annotations

import pytest

from shared.audio import FRAME_BYTES, FRAME_NS
from shared.messages import CLEAR
from txpacer.core.reports import CaughtUp, Finished, Shifted, Started

from ..virtual_lines import LEAD_MS, MS, T0
from .cells import speech
from .lines import make, run, tick, withdraw


def test_the_first_frame_leaves_at_once_and_the_ear_is_filled_up_to_the_lead() -> None:
    line = make()
    line.push(1, speech(1000))
    pieces = tick(line, T0)
    assert sum(len(audio) for _, audio, _ in pieces) == LEAD_MS * 8
    assert line.reports == [Started(1, T0)]


def test_speech_that_follows_while_the_ear_still_plays_is_told_with_how_long_it_waits_there() -> None:
    line = make()
    line.push(1, speech(200))
    line.end(1)
    run(line, T0 + 100 * MS)
    line.push(2, speech(200))
    tick(line, T0 + 100 * MS)
    # The last frame of the first utterance was paced at 80 ms: the ear was filled up to the lead.
    assert line.reports == [Started(1, T0), Started(2, T0 + 200 * MS, 100 * MS)]


def test_after_the_lead_one_frame_leaves_every_20_ms_without_drift() -> None:
    line = make()
    line.push(1, speech(60_000))
    line.end(1)
    out = run(line, T0 + 60_000 * MS)
    times = [at for at, _, _, _ in out[1:]]
    assert times == [T0 + n * FRAME_NS for n in range(1, len(times) + 1)]
    assert b"".join(audio for _, _, audio, _ in out) == speech(60_000)


def test_deadlines_are_on_the_grid_of_ticks_whenever_the_first_frame_came() -> None:
    line = make()
    line.push(1, speech(1000))
    tick(line, T0 + 3 * MS + 17)
    assert line.next_due_ns() == T0 + 20 * MS


def test_an_utterance_is_finished_when_the_ear_has_played_its_last_sample() -> None:
    line = make()
    line.push(1, speech(200))
    line.end(1)
    run(line, T0 + 1_000 * MS)
    assert line.reports == [Started(1, T0), Finished(1, T0 + 200 * MS)]


@pytest.mark.parametrize("stall_ms", [5, 19, 21, 60, 99])
def test_a_line_woken_late_by_less_than_the_ear_holds_is_not_heard_to_be_late(stall_ms: int) -> None:
    line = make()
    line.push(1, speech(2_000))
    tick(line, T0)
    late = T0 + 20 * MS + stall_ms * MS
    pieces = tick(line, late)
    assert sum(len(p[1]) for p in pieces) == (stall_ms // 20 + 1) * FRAME_BYTES
    assert not any(isinstance(r, Shifted) for r in line.reports)
    assert any(isinstance(r, CaughtUp) for r in line.reports) == (stall_ms > 20)
    assert line.next_due_ns() == T0 + 20 * MS + (stall_ms // 20 + 1) * FRAME_NS


@pytest.mark.parametrize("stall_ms", [101, 121, 500, 5_000])
def test_a_line_woken_after_the_ear_ran_dry_restores_the_lead_and_counts_the_gap(stall_ms: int) -> None:
    line = make()
    line.push(1, speech(20_000))
    tick(line, T0)
    late = T0 + 20 * MS + stall_ms * MS
    pieces = tick(line, late)
    assert sum(len(p[1]) for p in pieces) == LEAD_MS * 8
    assert Shifted(1, late - (T0 + LEAD_MS * MS), True) in line.reports
    assert line.ear_ns == late + LEAD_MS * MS


def test_a_clear_takes_from_heard_what_the_ear_still_held() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    cut = withdraw(line, 1, T0 + 50 * MS, clear=True)
    assert cut.heard_bytes == ((1, 50 * 8),)
    assert cut.silent_ns == T0 + 50 * MS
    assert tick(line, T0 + 50 * MS) == [(7, b"", 0), (7, b"", CLEAR), (7, b"", 1)]


def test_a_clear_with_two_items_in_the_ear_takes_from_the_last_first() -> None:
    line = make()
    line.push(1, b"\x01" * (60 * 8 - 3))
    line.push(2, speech(500, 2))
    tick(line, T0)
    cut = withdraw(line, 2, T0 + 20 * MS, clear=True)
    assert cut.heard_bytes == ((1, 20 * 8), (2, 0))


def test_a_wire_that_fell_behind_moves_ear_and_schedule_by_the_gap() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    tick(line, T0 + 20 * MS)  # frame 6; the ear is thought to hold until T0 + 140
    line.wire_late(6, T0 + 400 * MS)
    assert Shifted(1, 280 * MS, True) in line.reports
    assert line.ear_ns == T0 + 420 * MS
    assert line.next_due_ns() == T0 + 320 * MS


def test_a_wire_that_was_late_within_the_ear_changes_nothing() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    tick(line, T0 + 20 * MS)
    line.wire_late(6, T0 + 119 * MS)
    assert line.ear_ns == T0 + 140 * MS
    assert line.reports == [Started(1, T0)]


def test_a_gap_in_one_utterance_moves_the_utterances_after_it_too() -> None:
    line = make()
    line.push(1, speech(60))
    line.push(2, speech(500, 2))
    tick(line, T0)
    line.wire_late(1, T0 + 100 * MS)
    shifts = [r for r in line.reports if isinstance(r, Shifted)]
    assert shifts == [Shifted(1, 80 * MS, True), Shifted(2, 80 * MS, False)]


def test_late_reports_of_one_burst_count_one_gap() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    for n in range(1, 6):
        tick(line, T0 + n * 20 * MS)
    for seq in range(6, 11):
        line.wire_late(seq, T0 + 400 * MS)
    assert [r for r in line.reports if isinstance(r, Shifted)] == [Shifted(1, 280 * MS, True)]
    # Five frames were written at 400 ms, so the ear holds 100 ms then.
    assert line.ear_ns == T0 + 500 * MS


def test_a_first_frame_that_left_late_moves_the_start_but_is_no_gap() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    line.wire_late(0, T0 + 50 * MS)
    assert line.reports == [Started(1, T0), Shifted(1, 50 * MS, False)]


@pytest.mark.parametrize(("late_ms", "moved_ms"), [(900, 0), (1_000, 0), (1_100, 100)])
def test_a_late_frame_from_before_a_silence_moves_the_frames_after_the_silence(late_ms: int, moved_ms: int) -> None:
    line = make()
    line.push(1, speech(20))
    line.end(1)
    run(line, T0 + 500 * MS)
    line.push(2, speech(200))
    tick(line, T0 + 1_000 * MS)
    line.reports.clear()
    line.wire_late(0, T0 + late_ms * MS)
    assert line.reports == ([Shifted(2, moved_ms * MS, False)] if moved_ms else [])
    assert line.ear_ns == T0 + (1_000 + LEAD_MS + moved_ms) * MS


def test_a_gap_that_the_wire_makes_longer_is_still_one_gap() -> None:
    line = make()
    line.push(1, speech(20_000))
    tick(line, T0)
    ((seq, _, _),) = tick(line, T0 + 500 * MS)
    line.wire_late(seq, T0 + 501 * MS)
    shifts = [r for r in line.reports if isinstance(r, Shifted)]
    assert shifts == [Shifted(1, 380 * MS, True), Shifted(1, 1 * MS, True, continued=True)]
    line.wire_late(seq + 1, T0 + 600 * MS)  # a second gap
    assert line.reports[-1] == Shifted(1, 79 * MS, True)


def test_a_pause_that_the_wire_makes_longer_is_still_no_gap() -> None:
    line = make()
    line.push(1, speech(20_000))
    run(line, T0 + 100 * MS)
    line.pause()
    line.resume()
    ((seq, _, _),) = tick(line, T0 + 500 * MS)
    line.wire_late(seq, T0 + 501 * MS)
    assert [(r.audible, r.continued) for r in line.reports if isinstance(r, Shifted)] == [(False, False), (False, True)]


def test_a_tail_that_left_after_it_was_reported_as_heard_is_a_gap() -> None:
    line = make()
    line.push(1, speech(200))
    line.end(1)
    run(line, T0 + 1_000 * MS)
    assert line.reports[-1] == Finished(1, T0 + 200 * MS)
    line.wire_late(8, T0 + 700 * MS)
    assert line.reports[-1] == Shifted(1, 540 * MS, True)


def test_frames_that_a_clear_threw_away_are_late_to_nobody() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    tick(line, T0 + 20 * MS)
    line.withdraw(1, T0 + 30 * MS, clear=True)
    line.push(2, speech(500, 2))
    line.reports.clear()
    line.wire_late(6, T0 + 400 * MS)
    assert line.reports == []
    assert line.ear_ns == T0 + 30 * MS
    tick(line, T0 + 31 * MS)
    line.wire_late(6, T0 + 40 * MS)
    assert line.reports == [Started(2, T0 + 31 * MS), Finished(1, T0 + 30 * MS), Shifted(2, 9 * MS, False)]
