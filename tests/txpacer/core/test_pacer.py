"""The pacer against a gateway and ears in virtual time: every policy, and hours of calls."""

from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.audio import BYTE_NS, FRAME_BYTES, SILENCE
from shared.messages import PlayoutFinished, PlayoutShifted
from txpacer.core.line import Line
from txpacer.core.outlet import GRID_NS

from ..virtual_lines import HOP_NS, LEAD_MS, MS, T0, Lines
from .cells import STALLS_MS, assert_the_ear_position_was_correct, histogram, speech, talking, told_gap_ms, written


@pytest.mark.parametrize("stall_ms", STALLS_MS)
def test_a_pacer_that_stops_is_heard_only_beyond_the_lead_and_loses_nothing(stall_ms: int) -> None:
    cell = talking(20_000)
    before = cell.metrics.caught_up.value
    cell.stop_pacer(stall_ms)
    cell.run()
    # The stop begins on a deadline: the ear holds the lead then.
    assert cell.gap_ms(1) == max(0, stall_ms - LEAD_MS)
    assert bytes(cell.wire[1]) == speech(20_000)
    cell.pacer.close(1)
    assert cell.metrics.ear_gap["machine"].count == cell.metrics.reanchored.value == (stall_ms > LEAD_MS)
    # The pacer was late, so it blames no gateway.
    assert cell.metrics.held.value == 0
    late = histogram(cell.metrics.lateness)
    frames = (stall_ms - 20) // 20 + 1 if stall_ms <= LEAD_MS else LEAD_MS // 20
    assert late[-1] == pytest.approx(max(0, stall_ms - 20) * frames / 1e3)
    assert cell.metrics.caught_up.value - before == (40 <= stall_ms < LEAD_MS)
    assert max(cell.write_ns[1].count(at) for at in set(cell.write_ns[1])) <= LEAD_MS // 20
    assert_the_ear_position_was_correct(cell)
    gap_ms = max(0, stall_ms - LEAD_MS)
    assert gap_ms <= told_gap_ms(cell) <= gap_ms + (gap_ms > 0)


def test_a_gap_that_grows_is_observed_once_and_whole_after_it_ended() -> None:
    cell = written(talking(20_000))
    cell.stop_socket(1, 1_120)
    seen = []
    for _ in range(4):
        cell.run(500)
        cell.pacer.measure(cell.now_ns)
        seen.append(cell.metrics.ear_gap["path"].count)
    assert seen == [0, 0, 0, 1]
    assert histogram(cell.metrics.ear_gap["path"])[-1] == pytest.approx(1.0, abs=0.02)


def test_a_pause_counts_as_a_gap_nowhere() -> None:
    cell = written(talking(3_000))
    cell.pause(1)
    cell.run(400)
    seq = cell.next_seq[1]
    cell.resume(1)
    cell.run()
    assert bytes(cell.wire[1]) == speech(3_000)
    # The wire measures gaps between consecutive numbers.
    assert cell.next_seq[1] == 3_000 // 20 + 1 > seq
    assert [(r.audible, r.continued) for r in cell.of(PlayoutShifted) if isinstance(r, PlayoutShifted)] == [
        (False, False)
    ]
    cell.pacer.close(1)
    assert cell.metrics.ear_gap["machine"].count == cell.metrics.reanchored.value == 0


def test_starvation_at_any_point_of_an_utterance_loses_no_byte_and_the_ear_position_stays_correct() -> None:
    audio = speech(600)
    for at in range(40, len(audio), 397):
        for pause_ms in (30, 110, 130, 400):
            cell = Lines()
            cell.open(1)
            cell.say(1, 1, audio[:at], end=False)
            cell.run(at // 8 + pause_ms)
            cell.say(1, 1, audio[at:])
            cell.run()
            assert bytes(cell.wire[1]) == audio + SILENCE * (-len(audio) % FRAME_BYTES)
            (finished,) = cell.of(PlayoutFinished)
            assert isinstance(finished, PlayoutFinished)
            record = cell.ear(1)
            assert finished.ear_ns + HOP_NS == record.play_start_ns[-1] + record.size_bytes[-1] * BYTE_NS


def test_the_bytes_in_all_reservoirs_follow_speech_withdrawals_and_hang_ups() -> None:
    cell = written(talking())
    held = sum(entry.line.reservoir_bytes for entry in cell.pacer._calls.values())
    assert cell.pacer.reservoir_bytes == held == len(speech(10_000)) - len(cell.wire[1])
    cell.withdraw(1, 1)
    assert cell.pacer.reservoir_bytes == 0
    cell.say(1, 2, speech(100))
    cell.pacer.close(1)
    assert cell.pacer.reservoir_bytes == 0


def test_the_gaps_of_a_call_are_added_up_at_its_end() -> None:
    cell = talking()
    cell.stop_pacer(500)
    cell.run()
    cell.pacer.close(1)
    assert cell.metrics.call_ear_gap.count == 1
    assert sum(cell.metrics.call_ear_gap._cells[cell.metrics.call_ear_gap._at :][:5]) == 0  # over 0.12 s
    cell.open(2)
    cell.pacer.close(2)
    assert cell.metrics.call_ear_gap.count == 2


def test_after_an_hour_the_schedule_has_not_moved_by_a_nanosecond() -> None:
    cell = Lines()
    cell.open(1)
    minute = speech(1_000) * 60
    cell.say(1, 1, minute, end=False)
    for _ in range(60):
        cell.say(1, 1, minute, end=False)
        cell.run(60_000)
    cell.run(HOP_NS // MS)
    lead_frames = LEAD_MS // 20
    assert cell.frames == 3_600_000 // 20 + lead_frames
    assert cell.write_ns[1][lead_frames:] == [
        T0 + n * 20 * MS + HOP_NS for n in range(1, cell.frames - lead_frames + 1)
    ]
    assert cell.gap_ms(1) == 0


class Speaker:
    """One call: what it was given to say, and what its caller must have heard."""

    def __init__(self, cell: Lines, call: int) -> None:
        self.cell, self.call = cell, call
        self.utterance = 1
        self.said: dict[int, bytes] = {}
        self.cut: dict[int, int] = {}
        self.cleared = False
        # When the speech so far ends, if there is no gap.
        self.until_ns = 0
        cell.open(call)

    def push(self, audio: bytes) -> None:
        self.said[self.utterance] = self.said.get(self.utterance, b"") + audio
        self.until_ns = max(self.until_ns, self.cell.now_ns) + len(audio) * 125_000
        self.cell.say(self.call, self.utterance, audio, end=False)

    def end(self) -> None:
        self.cell.pacer.end(self.call, self.utterance, self.cell.now_ns)
        self.utterance += 1

    @property
    def line(self) -> Line:
        return self.cell.pacer._calls[self.call].line

    def withdraw(self, *, clear: bool = False) -> None:
        self.cleared |= clear
        before = {number: size for number, _, size, _, _ in self.line.unheard() if size}
        paced = dict(self.cell.withdraw(self.call, self.utterance, clear=clear).paced)
        assert paced.keys() == before.keys()
        if clear:
            assert all(paced[number] <= size for number, size in before.items())
            paced = before
        for number, audio in self.said.items():
            is_heard = (self.call, number) in self.cell.finished_ns
            self.cut.setdefault(number, paced.get(number, len(audio) if is_heard else 0))
        self.utterance += 1
        self.until_ns = self.cell.now_ns

    def check(self) -> list[int]:
        """Every byte that the caller had to hear left once and in order.

        Returns for each utterance how much later than the pacer reported the ear finished it, ns.
        """
        expected = b""
        end_bytes = {}
        for number in sorted(self.said):
            audio = self.said[number][: self.cut.get(number, len(self.said[number]))]
            expected += audio + SILENCE * (-len(audio) % FRAME_BYTES)
            if audio:
                end_bytes[number] = len(expected)
        assert bytes(self.cell.wire[self.call]) == expected
        record = self.cell.ear(self.call)
        played = 0
        ends_ns = {}
        for at_ns, size in zip(record.play_start_ns, record.size_bytes, strict=True):
            for byte in range(played + FRAME_BYTES, played + size + 1, FRAME_BYTES):
                ends_ns[byte] = at_ns + (byte - played) * 125_000
            played += size
        finished = {number: at for (call, number), at in self.cell.finished_ns.items() if call == self.call}
        assert finished.keys() == end_bytes.keys()
        if self.cleared:  # the ear did not play all of it
            return []
        if played:
            # At rest, the line knows when the ear fell silent. Two things are never reported: a wire that is late by
            # less than 20 ms, and a socket that takes nothing while nothing is written to it.
            blind_ns = self.cell.stopped_ns if self.call in self.cell.socket_stops_ns else 0
            assert -20 * MS <= max(ends_ns.values()) - self.line.ear_ns <= 20 * MS + HOP_NS + blind_ns
        errors_ns = [ends_ns[end_bytes[number]] - at_ns for number, at_ns in finished.items()]
        # A stopped wire reports its lateness when it recovers. By then the line may have reported an utterance as
        # finished whose last frame had not left.
        assert all(-20 * MS <= error_ns <= self.cell.stopped_ns + 20 * MS for error_ns in errors_ns)
        return errors_ns


def test_hours_of_calls_with_stalls_ragged_deltas_and_withdrawals() -> None:
    """Six calls of twelve minutes; the model speaks five times as fast as the ear hears, in deltas of any size."""
    rng = random.Random(20)
    cell = Lines()
    speakers = [Speaker(cell, call) for call in range(1, 7)]
    left_bytes = dict.fromkeys(range(1, 7), 0)
    while cell.now_ns < T0 + 12 * 60_000 * MS:
        for speaker in speakers:
            call = speaker.call
            if left_bytes[call]:
                size = min(left_bytes[call], rng.randrange(1, 8_000))
                speaker.push(rng.randbytes(size))
                left_bytes[call] -= size
                if not left_bytes[call]:
                    speaker.end()
            elif cell.now_ns > speaker.until_ns:
                left_bytes[call] = rng.randrange(8_000, 160_000)
            if rng.random() < 0.003:
                speaker.withdraw()
                left_bytes[call] = 0
        if rng.random() < 0.01:
            stop = rng.choice([cell.stop_pacer, cell.stop_gateway, partial(cell.stop_socket, rng.randrange(1, 7))])
            stop(rng.choice(STALLS_MS))
        cell.run(100)
    for speaker in speakers:
        speaker.end()
    cell.run()
    errors_ns = [error_ns for speaker in speakers for error_ns in speaker.check()]
    assert sum(abs(error_ns) > 20 * MS for error_ns in errors_ns) < len(errors_ns) / 50
    heard = sum(len(wire) for wire in cell.wire.values())
    assert cell.frames == heard // FRAME_BYTES == cell.metrics.frames.value
    assert cell.frames > 6 * 12 * 60 * 50 // 2
    assert cell.pacer.reservoir_bytes == 0


steps = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 5_000)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("withdraw"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("pause"), st.just(0)),
    st.tuples(st.just("resume"), st.just(0)),
    st.tuples(st.just("pass"), st.integers(1, 900)),
    st.tuples(st.just("pacer stops"), st.integers(1, 700)),
    st.tuples(st.just("gateway stops"), st.integers(1, 700)),
    st.tuples(st.just("socket stops"), st.integers(1, 700)),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), steps), max_size=50))
def test_whatever_stops_no_byte_is_lost_and_the_ear_position_stays_correct(
    script: list[tuple[int, tuple[str, int]]],
) -> None:
    cell = Lines()
    speakers = (Speaker(cell, 1), Speaker(cell, 2))
    rng = random.Random(5)
    for number, (what, amount) in script:
        speaker = speakers[number]
        if what == "push":
            speaker.push(rng.randbytes(amount))
        elif what == "end":
            speaker.end()
        elif what == "withdraw":
            speaker.withdraw()
        elif what == "clear":
            speaker.withdraw(clear=True)
        elif what == "pause":
            cell.pause(speaker.call)
        elif what == "resume":
            cell.resume(speaker.call)
        elif what == "socket stops":
            cell.stop_socket(speaker.call, amount)
        elif what == "pacer stops":
            cell.stop_pacer(amount)
        elif what == "gateway stops":
            cell.stop_gateway(amount)
        else:
            cell.run(amount)
            # Never paced early: the ear holds the lead and a tick, and two frames more after a wire that was late.
            latest_ns = cell.now_ns + (LEAD_MS + 40) * MS + GRID_NS + HOP_NS
            assert all(each.line.ear_ns <= latest_ns for each in speakers)
    for speaker in speakers:
        cell.resume(speaker.call)
        speaker.end()
    cell.run()
    for speaker in speakers:
        speaker.check()
    assert cell.pacer.reservoir_bytes == 0
