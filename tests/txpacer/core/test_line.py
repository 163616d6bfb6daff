"""One line in virtual time: no clock, no socket."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS, SILENCE
from txpacer.core.line import REBUFFER_BYTES
from txpacer.core.outlet import GRID_NS
from txpacer.core.reports import CaughtUp, Finished, Shifted, Started, Starved

from ..virtual_lines import LEAD_MS, MS, T0
from .cells import speech
from .lines import frame_or_tick, make, run, tick, withdraw


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


def test_a_starved_line_that_is_fed_before_the_ear_runs_dry_has_no_gap() -> None:
    line = make()
    line.push(1, speech(100))
    tick(line, T0)
    assert tick(line, T0 + 20 * MS) == []
    assert Starved(1) in line.reports
    assert line.next_due_ns() is None
    line.push(1, speech(20, 2))
    assert tick(line, T0 + 90 * MS) == [(5, speech(20, 2), 0)]
    assert not any(isinstance(r, Shifted | CaughtUp) for r in line.reports)


def test_a_line_that_starved_until_the_ear_ran_dry_rebuffers_before_it_continues() -> None:
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


def test_the_rest_of_an_ended_utterance_is_not_held_back_for_rebuffering() -> None:
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
    cut = withdraw(line, 1, T0 + 25 * MS)
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
    cut = withdraw(line, 2, T0 + 1 * MS)
    assert cut.heard_bytes == ((1, LEAD_MS * 8),)


def test_an_item_that_is_paced_but_still_heard_is_named_whole() -> None:
    line = make()
    line.push(1, speech(60, 1))
    line.push(2, speech(500, 2))
    tick(line, T0)
    assert withdraw(line, 2, T0 + 1 * MS).heard_bytes == ((1, 60 * 8), (2, 60 * 8))


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


def test_a_restored_line_continues_where_the_lost_one_stopped_and_the_silence_is_a_gap() -> None:
    line = make()
    line.restore(seq=50, utterance=3, paced_bytes=10 * FRAME_BYTES, ear_ns=T0)
    line.push(3, speech(500))
    pieces = tick(line, T0 + 300 * MS)
    assert pieces[0][0] == 50
    assert line.reports == [Shifted(3, 300 * MS, True)]


def test_a_restored_line_that_does_not_know_when_its_utterance_began_reports_no_gap() -> None:
    line = make()
    line.restore(seq=50, utterance=3, paced_bytes=10 * FRAME_BYTES, ear_ns=0)
    line.push(3, speech(500))
    assert line.unheard() == [(3, 660 * 8 + 40 * 8, 1_600, False, 0)]
    tick(line, T0)
    assert line.reports == [Started(3, T0 - 200 * MS)]


def test_a_paused_line_continues_exactly_where_it_stopped_and_reports_no_gap() -> None:
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
    cut = withdraw(line, 1, T0 + 110 * MS)
    assert cut.heard_bytes == ((1, line.seq * FRAME_BYTES),)
    line.push(2, speech(100, 2))
    assert tick(line, T0 + 120 * MS)


def test_a_pause_that_nobody_ends_ends_by_itself() -> None:
    line = make()
    line.push(1, speech(2_000))
    line.end(1)
    before = run(line, T0 + 500 * MS)
    line.pause(T0 + 1_250 * MS)
    after = run(line, T0 + 5_000 * MS, start_ns=T0 + 500 * MS)
    assert after[0][0] == T0 + 1_250 * MS
    assert b"".join(audio for _, _, audio, _ in before + after) == speech(2_000)
    assert [report.audible for report in line.reports if isinstance(report, Shifted)] == [False]


def test_a_withdrawal_in_a_pause_tells_when_the_ear_fell_silent() -> None:
    line = make()
    line.push(1, speech(1_000))
    run(line, T0 + 100 * MS)
    line.pause()
    paced_ms = line.seq * 20
    assert withdraw(line, 1, T0 + 600 * MS).silent_ns == T0 + paced_ms * MS


def test_a_withdrawal_in_a_pause_before_the_first_frame_is_silent_now() -> None:
    line = make()
    line.push(1, speech(1_000))
    line.pause()
    tick(line, T0)
    assert withdraw(line, 1, T0 + 600 * MS).silent_ns == T0 + 600 * MS


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
def test_in_any_order_of_events_bytes_stay_in_order_and_the_ear_holds_at_most_a_lead(
    script: list[tuple[str, int, int]],
) -> None:
    """Each utterance's bytes leave in order and unchanged, and the ear is at most a lead ahead."""
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
            cut = dict(withdraw(line, current + a, now, clear=kind == "clear").heard_bytes)
            assert cut.keys() == before.keys()
            assert all(
                cut[number] == size if kind == "withdraw" else cut[number] <= size for number, size in before.items()
            )
            if kind == "clear":
                assert line.ear_ns <= now
                pauses += 1
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
