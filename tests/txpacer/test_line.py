"""The line in virtual time: no clock, no socket."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS, SILENCE
from shared.messages import CLEAR
from txpacer.core.line import REBUFFER_BYTES, Line
from txpacer.core.reports import CaughtUp, Finished, Shifted, Started, Starved

MS = 1_000_000
LEAD_MS = 120
GRID_NS = 5 * MS
T0 = 1_000_000 * MS
CALL = 7


def make() -> Line:
    return Line(lead_ns=LEAD_MS * MS, grid_ns=GRID_NS, call=CALL)


def speech(ms: int, seed: int = 1) -> bytes:
    """Bytes in which every frame differs from every other."""
    return random.Random(seed).randbytes(ms * 8)


Piece = tuple[int, bytes, int]


def tick(line: Line, now_ns: int) -> list[Piece]:
    """What leaves at `now_ns`, as `(seq, audio, mark)`."""
    entries = line.tick(now_ns)
    assert {call for call, *_ in entries} <= {CALL}
    return [(seq, audio, mark) for _, seq, audio, mark in entries]


def frame_or_tick(line: Line, now_ns: int) -> list[Piece]:
    """The same, through `frame` at a deadline whenever the line gives one, as the pacer does."""
    due = line.next_due_ns()
    if due is not None and 0 <= now_ns - due < GRID_NS and (entry := line.frame()) is not None:
        return [entry[1:]]
    return tick(line, now_ns)


def run(
    line: Line, until_ns: int, *, start_ns: int = T0, step: Callable[[Line, int], list[Piece]] = tick
) -> list[tuple[int, int, bytes, int]]:
    """Step at every due time on the grid until `until_ns`; what came out, with its time."""
    out = []
    now = start_ns
    while True:
        out += [(now, *piece) for piece in step(line, now)]
        due = line.next_due_ns()
        if due is None:
            return out
        now = max(now, -(-due // GRID_NS) * GRID_NS)
        if now > until_ns:
            return out


def test_the_first_frame_leaves_at_once_and_the_ear_is_filled_up_to_the_lead() -> None:
    line = make()
    line.push(1, speech(1000))
    pieces = tick(line, T0)
    assert sum(len(audio) for _, audio, _ in pieces) == LEAD_MS * 8
    assert line.reports == [Started(1, T0)]


def test_after_the_lead_one_frame_leaves_every_20_ms_without_drift() -> None:
    line = make()
    line.push(1, speech(60_000))
    line.end(1)
    out = run(line, T0 + 60_000 * MS)
    times = [at for at, _, _, _ in out[1:]]
    assert times == [T0 + n * FRAME_NS for n in range(1, len(times) + 1)]
    assert b"".join(audio for _, _, audio, _ in out) == speech(60_000)


def test_the_deadline_grid_is_that_of_the_ticks_whenever_the_first_frame_came() -> None:
    line = make()
    line.push(1, speech(1000))
    tick(line, T0 + 3 * MS + 17)
    assert line.next_due_ns() == T0 + 20 * MS


def test_the_bytes_that_leave_are_the_bytes_that_came_however_ragged() -> None:
    rng = random.Random(7)
    audio = speech(5_003)
    line = make()
    at = 0
    while at < len(audio):
        size = rng.choice([1, 7, 159, 160, 161, 800, 4000])
        line.push(1, audio[at : at + size])
        at += size
    line.end(1)
    out = b"".join(piece for _, _, piece, _ in run(line, T0 + 10_000 * MS))
    assert out == audio + SILENCE * (-len(audio) % FRAME_BYTES)


def test_only_the_end_of_an_utterance_is_padded_and_carries_its_mark() -> None:
    line = make()
    line.push(1, b"\x01" * 250)
    assert tick(line, T0) == [(0, b"\x01" * 160, 0)]
    line.end(1)
    assert tick(line, T0 + 20 * MS) == [(1, b"\x01" * 90 + SILENCE * 70, 1)]


def test_an_end_that_comes_after_the_last_frame_still_sends_the_mark() -> None:
    line = make()
    line.push(1, speech(20))
    tick(line, T0)
    line.end(1)
    assert tick(line, T0 + 5 * MS) == [(1, b"", 1)]


def test_frame_gives_what_tick_would_have_given() -> None:
    lines = [make() for _ in range(2)]
    outs: list[list[tuple[int, int, bytes, int]]] = [[], []]
    rng = random.Random(11)
    now = T0
    for utterance in range(1, 12):
        data = speech(rng.randrange(300, 6_000), utterance)
        whole_at = now + len(data) * BYTE_NS
        at = 0
        while at < len(data) or now < whole_at:
            size = rng.randrange(1, 3_000)
            passed_ns = rng.randrange(1, 300) * MS
            for line, out, step in zip(lines, outs, (tick, frame_or_tick), strict=True):
                line.push(utterance, data[at : at + size])
                if at + size >= len(data):
                    line.end(utterance)
                out += run(line, now + passed_ns, start_ns=now, step=step)
            assert lines[0].ear_ns == lines[1].ear_ns
            assert lines[0].seq == lines[1].seq
            assert lines[0].reservoir_bytes == lines[1].reservoir_bytes
            at += size
            now += passed_ns
        if utterance % 3 == 0:
            for line in lines:
                line.pause()
                line.resume()
    assert outs[0] == outs[1]
    assert lines[0].reports == lines[1].reports


def test_two_items_of_a_response_follow_each_other_without_a_seam() -> None:
    line = make()
    line.push(1, speech(300, 1))
    line.push(2, speech(300, 2))
    line.end(2)
    out = run(line, T0 + 2_000 * MS)
    assert b"".join(audio for _, _, audio, _ in out) == speech(300, 1) + speech(300, 2)
    assert [mark for _, _, _, mark in out if mark] == [1, 2]
    assert not any(isinstance(r, Shifted | Starved) for r in line.reports)


def test_an_utterance_is_finished_when_the_ear_has_played_its_last_sample() -> None:
    line = make()
    line.push(1, speech(200))
    line.end(1)
    run(line, T0 + 1_000 * MS)
    assert line.reports == [Started(1, T0), Finished(1, T0 + 200 * MS)]


@pytest.mark.parametrize("stall_ms", [5, 19, 21, 60, 99])
def test_woken_late_by_less_than_the_ear_holds_nothing_is_heard(stall_ms: int) -> None:
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
def test_woken_after_the_ear_ran_dry_the_lead_is_restored_and_the_gap_counted(stall_ms: int) -> None:
    line = make()
    line.push(1, speech(20_000))
    tick(line, T0)
    late = T0 + 20 * MS + stall_ms * MS
    pieces = tick(line, late)
    assert sum(len(p[1]) for p in pieces) == LEAD_MS * 8
    assert Shifted(1, late - (T0 + LEAD_MS * MS), True) in line.reports
    assert line.ear_ns == late + LEAD_MS * MS


def test_starved_and_fed_before_the_ear_ran_dry_nothing_is_heard() -> None:
    line = make()
    line.push(1, speech(100))
    tick(line, T0)
    assert tick(line, T0 + 20 * MS) == []
    assert Starved(1) in line.reports
    assert line.next_due_ns() is None
    line.push(1, speech(20, 2))
    assert tick(line, T0 + 90 * MS) == [(5, speech(20, 2), 0)]
    assert not any(isinstance(r, Shifted | CaughtUp) for r in line.reports)


def test_starved_until_dry_it_rebuffers_before_it_goes_on() -> None:
    line = make()
    line.push(1, speech(100))
    tick(line, T0)
    tick(line, T0 + 20 * MS)
    line.push(1, speech(40, 2))
    assert tick(line, T0 + 300 * MS) == []
    line.push(1, speech(20, 3))
    pieces = tick(line, T0 + 310 * MS)
    assert sum(len(p[1]) for p in pieces) == REBUFFER_BYTES
    assert Shifted(1, 210 * MS, True) in line.reports


def test_starved_until_dry_an_ended_utterance_is_not_held_back() -> None:
    line = make()
    line.push(1, speech(100))
    tick(line, T0)
    tick(line, T0 + 20 * MS)
    line.push(1, b"\x02" * 30)
    line.end(1)
    assert tick(line, T0 + 300 * MS) == [(5, b"\x02" * 30 + SILENCE * 130, 1)]


def test_a_withdrawal_keeps_what_was_paced_and_nothing_else() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    tick(line, T0 + 20 * MS)
    cut = line.withdraw(1, T0 + 25 * MS)
    assert cut.heard_bytes == ((1, 140 * 8),)
    assert cut.silent_ns == T0 + 140 * MS
    assert tick(line, T0 + 25 * MS) == [(7, b"", 1)]
    assert run(line, T0 + 1_000 * MS, start_ns=T0 + 30 * MS) == []
    assert line.reports[-1] == Finished(1, T0 + 140 * MS)
    assert line.reservoir_bytes == 0


def test_speech_of_a_withdrawn_utterance_that_comes_later_is_refused() -> None:
    line = make()
    line.push(1, speech(100))
    line.withdraw(2, T0)
    assert line.push(1, b"x" * 10) == 10
    assert line.push(2, b"x" * 10) == 10
    assert line.push(3, b"x" * 10) == 0


def test_a_withdrawal_names_the_items_that_nobody_heard() -> None:
    line = make()
    line.push(1, speech(500, 1))
    line.push(2, speech(500, 2))
    tick(line, T0)
    cut = line.withdraw(2, T0 + 1 * MS)
    assert cut.heard_bytes == ((1, LEAD_MS * 8),)


def test_an_item_that_is_paced_but_still_heard_is_named_whole() -> None:
    line = make()
    line.push(1, speech(60, 1))
    line.push(2, speech(500, 2))
    tick(line, T0)
    assert line.withdraw(2, T0 + 1 * MS).heard_bytes == ((1, 60 * 8), (2, 60 * 8))


def test_after_a_withdrawal_new_speech_follows_the_tail() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    line.withdraw(1, T0 + 1 * MS)
    line.push(2, speech(200, 2))
    line.end(2)
    line.reports.clear()
    out = run(line, T0 + 1_000 * MS, start_ns=T0 + 2 * MS)
    assert b"".join(audio for _, _, audio, _ in out) == speech(200, 2)
    assert [r for r in line.reports if isinstance(r, Shifted)] == []


def test_a_clear_takes_from_heard_what_the_ear_still_held() -> None:
    line = make()
    line.push(1, speech(5_000))
    tick(line, T0)
    cut = line.withdraw(1, T0 + 50 * MS, clear=True)
    assert cut.heard_bytes == ((1, 50 * 8),)
    assert cut.silent_ns == T0 + 50 * MS
    assert tick(line, T0 + 50 * MS) == [(6, b"", CLEAR), (6, b"", 1)]


def test_a_clear_with_two_items_in_the_ear_takes_from_the_last_first() -> None:
    line = make()
    line.push(1, b"\x01" * (60 * 8 - 3))
    line.push(2, speech(500, 2))
    tick(line, T0)
    cut = line.withdraw(2, T0 + 20 * MS, clear=True)
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


def test_a_gap_in_one_utterance_moves_those_behind_it_too() -> None:
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
def test_a_frame_of_an_earlier_spurt_that_left_late_moves_what_is_behind_it(late_ms: int, moved_ms: int) -> None:
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


def test_a_line_that_began_again_on_a_wire_that_takes_a_while_has_one_gap() -> None:
    line = make()
    line.push(1, speech(20_000))
    tick(line, T0)
    ((seq, _, _),) = tick(line, T0 + 500 * MS)
    line.wire_late(seq, T0 + 501 * MS)
    shifts = [r for r in line.reports if isinstance(r, Shifted)]
    assert shifts == [Shifted(1, 380 * MS, True), Shifted(1, 1 * MS, True, continued=True)]
    line.wire_late(seq + 1, T0 + 600 * MS)  # and another one
    assert line.reports[-1] == Shifted(1, 79 * MS, True)


def test_a_silence_that_was_meant_stays_so_when_it_turns_out_to_be_longer() -> None:
    line = make()
    line.push(1, speech(20_000))
    run(line, T0 + 100 * MS)
    line.pause()
    line.resume()
    ((seq, _, _),) = tick(line, T0 + 500 * MS)
    line.wire_late(seq, T0 + 501 * MS)
    assert [(r.audible, r.continued) for r in line.reports if isinstance(r, Shifted)] == [(False, False), (False, True)]


def test_a_tail_that_left_after_it_was_thought_heard_is_a_gap() -> None:
    line = make()
    line.push(1, speech(200))
    line.end(1)
    run(line, T0 + 1_000 * MS)
    assert line.reports[-1] == Finished(1, T0 + 200 * MS)
    line.wire_late(8, T0 + 700 * MS)
    assert line.reports[-1] == Shifted(1, 540 * MS, True)


def test_what_a_clear_threw_away_was_late_to_nobody() -> None:
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


def test_a_line_goes_on_where_another_one_stopped_and_the_silence_is_a_gap() -> None:
    line = make()
    line.restore(seq=50, utterance=3, paced_bytes=10 * FRAME_BYTES, ear_ns=T0)
    line.push(3, speech(500))
    pieces = tick(line, T0 + 300 * MS)
    assert pieces[0][0] == 50
    assert line.reports == [Shifted(3, 300 * MS, True)]


def test_a_line_that_is_not_told_when_its_utterance_began_calls_it_begun_and_no_gap() -> None:
    line = make()
    line.restore(seq=50, utterance=3, paced_bytes=10 * FRAME_BYTES, ear_ns=0)
    line.push(3, speech(500))
    assert line.unheard() == [(3, 660 * 8 + 40 * 8, 1_600, False, 0)]
    tick(line, T0)
    assert line.reports == [Started(3, T0 - 200 * MS)]


def test_a_reservoir_takes_ten_minutes_and_says_what_it_refused() -> None:
    line = make()
    assert line.push(1, b"x" * 4_800_000) == 0
    assert line.push(1, b"x" * 100) == 100


steps = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 2), st.integers(1, 3_000)),
    st.tuples(st.just("end"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("withdraw"), st.integers(-1, 1), st.just(0)),
    st.tuples(st.just("clear"), st.integers(-1, 1), st.just(0)),
    st.tuples(st.just("pause"), st.just(0), st.just(0)),
    st.tuples(st.just("resume"), st.just(0), st.just(0)),
    st.tuples(st.just("pass"), st.just(0), st.integers(0, 700)),
    st.tuples(st.just("late"), st.integers(0, 8), st.integers(0, 900)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=60))
def test_any_order_of_events_keeps_bytes_order_and_ear(script: list[tuple[str, int, int]]) -> None:
    """Whatever happens: each utterance's bytes leave in order and unchanged, and the ear is at most a lead ahead."""
    line = make()
    now = T0
    current = 1
    accepted: dict[int, bytes] = {}
    paced: dict[int, bytes] = {}
    cuts: dict[int, int] = {}
    next_seq = pauses = 0
    is_paused = False
    rng = random.Random(3)

    def collect() -> None:
        nonlocal next_seq, pauses
        ear_before = line.ear_ns
        pieces = tick(line, now)
        for seq, audio, _mark in pieces:
            assert 0 <= seq - next_seq <= pauses
            assert len(audio) % FRAME_BYTES == 0
            pauses -= seq - next_seq
            next_seq = seq + len(audio) // FRAME_BYTES
            paced.setdefault(0, b"")
            paced[0] += audio
        if any(audio for _, audio, _ in pieces):
            assert line.ear_ns < max(ear_before + 1, now + LEAD_MS * MS + GRID_NS)

    for kind, a, b in script:
        if kind == "push":
            current = max(current, current + a - 1)
            data = rng.randbytes(b)
            taken = len(data) - line.push(current, data)
            accepted[current] = accepted.get(current, b"") + data[:taken]
        elif kind == "end":
            line.end(current + a - 1)
        elif kind in ("withdraw", "clear"):
            before = {number: size for number, _, size, _, _ in line.unheard() if number <= current + a and size}
            cut = dict(line.withdraw(current + a, now, clear=kind == "clear").heard_bytes)
            assert cut.keys() == before.keys()
            assert all(
                cut[number] == size if kind == "withdraw" else cut[number] <= size for number, size in before.items()
            )
            if kind == "clear":
                assert line.ear_ns <= now
            cuts |= before
            is_paused = False
            for number in accepted:
                if number <= current + a:
                    cuts.setdefault(number, -1)
        elif kind == "pause":
            line.pause()
            is_paused = True
        elif kind == "resume":
            line.resume()
            pauses += is_paused
            is_paused = False
        elif kind == "pass":
            until = now + b * MS
            while (due := line.next_due_ns()) is not None and due <= until:
                now = max(now, -(-due // GRID_NS) * GRID_NS)
                collect()
            now = max(now, until)
        elif next_seq:
            line.wire_late(max(0, next_seq - 1 - a), now - b * MS // 10)
        collect()
    line.resume()
    pauses += is_paused
    line.end(current)
    for _ in range(100_000):
        collect()
        due = line.next_due_ns()
        if due is None:
            break
        now = max(now, -(-due // GRID_NS) * GRID_NS)
    else:
        raise AssertionError("the line never came to rest")
    stream = paced.get(0, b"")
    at = 0
    started = {r.utterance for r in line.reports if isinstance(r, Started)}
    finished = [r.utterance for r in line.reports if isinstance(r, Finished)]
    assert sorted(started) == finished
    for number in sorted(started):
        whole = accepted[number]
        size = cuts.get(number, len(whole))
        if size < 0:  # it had been heard to its end before the withdrawal
            size = len(whole)
        assert stream[at : at + size] == whole[:size]
        at += size + -size % FRAME_BYTES
    assert at == len(stream)
    assert line.reservoir_bytes == 0
    assert BYTE_NS * FRAME_BYTES == FRAME_NS


def test_a_paused_line_goes_on_exactly_where_it_stopped_and_calls_the_silence_no_gap() -> None:
    line = make()
    line.push(1, speech(2_000))
    line.end(1)
    before = run(line, T0 + 500 * MS)
    line.pause()
    assert tick(line, T0 + 520 * MS) == []
    assert line.next_due_ns() is None
    line.resume()
    after = run(line, T0 + 5_000 * MS, start_ns=T0 + 900 * MS)
    assert b"".join(audio for _, _, audio, _ in before + after) == speech(2_000)
    shifts = [report for report in line.reports if isinstance(report, Shifted)]
    assert [shift.audible for shift in shifts] == [False]
    assert not any(isinstance(report, CaughtUp | Starved) for report in line.reports)


def test_a_pause_shorter_than_what_the_ear_holds_is_not_heard() -> None:
    line = make()
    line.push(1, speech(1_000))
    line.end(1)
    run(line, T0 + 500 * MS)
    line.pause()
    line.resume()
    run(line, T0 + 5_000 * MS, start_ns=T0 + 560 * MS)
    assert not any(isinstance(report, Shifted | CaughtUp) for report in line.reports)
    assert line.ear_ns == T0 + 1_000 * MS


def test_a_gap_after_a_resume_is_a_gap_again() -> None:
    line = make()
    line.push(1, speech(1_000))
    run(line, T0 + 100 * MS)
    line.pause()
    line.resume()
    run(line, T0 + 300 * MS, start_ns=T0 + 120 * MS)
    tick(line, line.ear_ns + 50 * MS)
    assert [report.audible for report in line.reports if isinstance(report, Shifted)] == [True]


def test_a_withdrawal_ends_a_pause() -> None:
    line = make()
    line.push(1, speech(1_000))
    run(line, T0 + 100 * MS)
    line.pause()
    cut = line.withdraw(1, T0 + 110 * MS)
    assert cut.heard_bytes == ((1, line.seq * FRAME_BYTES),)
    line.push(2, speech(100, 2))
    assert tick(line, T0 + 120 * MS)
