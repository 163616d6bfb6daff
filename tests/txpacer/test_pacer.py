"""The pacer against a gateway and ears in virtual time: every policy, and hours of calls."""

from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.audio import BYTE_NS, FRAME_BYTES, SILENCE
from shared.messages import PlayoutFinished, PlayoutShifted
from shared.metrics import Histogram, Page
from txpacer.core.line import Line
from txpacer.core.metrics import DEFINITIONS, PacerMetrics
from txpacer.core.outlet import GRID_NS
from txpacer.core.pacer import Pacer

from .virtual_cell import HOP_NS, LEAD_MS, MS, T0, Cell


def speech(ms: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(ms * 8)


def talking(ms: int = 10_000) -> Cell:
    """One call in the middle of an utterance of `ms`, one second after it began: a frame has just been paced."""
    cell = Cell()
    cell.open(1)
    cell.say(1, 1, speech(ms))
    cell.run(1_000)
    return cell


def written(cell: Cell) -> Cell:
    """The frame that was paced is on the wire now."""
    cell.run(HOP_NS // MS)
    return cell


def assert_the_ear_was_known(cell: Cell) -> None:
    """The last utterance was reported as heard when it was, but for the hop that no gateway reports."""
    record = cell.ear(1)
    (*_, finished) = cell.of(PlayoutFinished)
    assert isinstance(finished, PlayoutFinished)
    assert 0 <= record.play_start_ns[-1] + record.size_bytes[-1] * BYTE_NS - finished.ear_ns <= HOP_NS


def told_gap_ms(cell: Cell) -> float:
    return sum(r.gap_ns for r in cell.of(PlayoutShifted) if isinstance(r, PlayoutShifted) and r.audible) / MS


def histogram(metric: Histogram) -> list[float]:
    """Counts for each bucket, and the sum."""
    return list(metric._cells[metric._at : metric._sum_at + 1])


STALLS_MS = [5, 19, 21, 60, 119, 121, 500, 5_000]


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
    assert cell.metrics.ear_gap.count == cell.metrics.reanchored.value == (stall_ms > LEAD_MS)
    # It was the pacer that was late, and no gateway is blamed for it.
    assert cell.metrics.held.value == 0
    late = histogram(cell.metrics.lateness)
    frames = (stall_ms - 20) // 20 + 1 if stall_ms <= LEAD_MS else LEAD_MS // 20
    assert late[-1] == pytest.approx(max(0, stall_ms - 20) * frames / 1e3)
    assert cell.metrics.caught_up.value - before == (40 <= stall_ms < LEAD_MS)
    assert max(cell.write_ns[1].count(at) for at in set(cell.write_ns[1])) <= LEAD_MS // 20
    assert_the_ear_was_known(cell)
    gap_ms = max(0, stall_ms - LEAD_MS)
    assert gap_ms <= told_gap_ms(cell) <= gap_ms + (gap_ms > 0)


@pytest.mark.parametrize("stall_ms", STALLS_MS)
def test_a_gateway_that_stops_is_heard_only_beyond_the_lead_and_the_ear_stays_true(stall_ms: int) -> None:
    cell = written(talking(20_000))
    cell.stop_gateway(stall_ms)
    cell.run()
    gap_ms = max(0, stall_ms - LEAD_MS)
    assert cell.gap_ms(1) == gap_ms
    assert bytes(cell.wire[1]) == speech(20_000)
    assert cell.marks[1] == [1]
    assert gap_ms <= told_gap_ms(cell) <= gap_ms + (gap_ms > 0)
    assert_the_ear_was_known(cell)
    cell.pacer.close(1)
    assert cell.metrics.ear_gap.count == cell.metrics.reanchored.value == (gap_ms > 0)


def test_a_gateway_that_does_not_acknowledge_gets_nothing_beyond_the_lead() -> None:
    cell = talking()
    cell.stop_gateway(3_000)
    cell.run(2_900)
    under_way = sum(len(audio) for _, batch in cell.inbox for _, _, audio, _ in batch.entries)
    assert under_way <= (LEAD_MS + 20) * 8
    assert cell.metrics.held.value == 1
    cell.pacer.measure(cell.now_ns)
    assert cell.metrics.held_lines._cells[cell.metrics.held_lines._at] == 1


def test_a_barge_in_while_the_gateway_stands_still_names_exactly_what_will_be_heard() -> None:
    cell = talking()
    cell.stop_gateway(3_000)
    cell.run(2_000)
    withdrawn = cell.withdraw(1, 1)
    cell.run()
    assert withdrawn.paced == ((1, len(cell.wire[1])),)
    assert bytes(cell.wire[1]) == speech(10_000)[: len(cell.wire[1])]


def test_lines_of_another_gateway_do_not_notice() -> None:
    pacer = Pacer(lead_ns=LEAD_MS * MS, metrics=PacerMetrics(Page.in_memory(DEFINITIONS)))
    for call, gateway in ((1, "dead"), (2, "alive")):
        pacer.open(call, gateway, "bridge", T0)
        pacer.speech(call, 1, speech(5_000), T0)
    now, frames = T0, {"dead": 0, "alive": 0}
    while now < T0 + 4_000 * MS:
        for name, batch in pacer.tick(now):
            frames[name] += sum(len(audio) for _, _, audio, _ in batch.entries) // FRAME_BYTES
            if name == "alive":
                pacer.acknowledge(name, batch.batch, now, (), now)
        now = pacer.next_due_ns() or now + GRID_NS
    assert frames["alive"] == 4_000 // 20 + LEAD_MS // 20 - 1
    assert frames["dead"] <= LEAD_MS // 20 * 2 + 1


def test_a_batch_that_the_socket_refuses_goes_first_and_nothing_overtakes_it() -> None:
    pacer = Pacer(lead_ns=LEAD_MS * MS, metrics=PacerMetrics(Page.in_memory(DEFINITIONS)))
    pacer.open(1, "gateway", "bridge", T0)
    pacer.speech(1, 1, speech(1_000), T0)
    ((name, first),) = pacer.tick(T0)
    pacer.refused(name, first)
    assert pacer.tick(T0 + 20 * MS) == []
    assert pacer.retry() == [(name, first)]
    assert pacer.retry() == []
    pacer.acknowledge(name, first.batch, T0 + 25 * MS, (), T0 + 25 * MS)
    ((_, second),) = pacer.tick(T0 + 25 * MS)
    assert [entry[1] for entry in second.entries] == [6]


def test_a_gateway_that_came_anew_frees_what_was_lost_on_the_way() -> None:
    cell = written(talking())
    cell.stop_gateway(3_000)
    cell.run(2_500)
    lost = len(cell.inbox) + 1  # one was written, and not acknowledged yet
    cell.inbox.clear()
    for _ in range(2):
        assert cell.metrics.lost_batches.value == 0
        cell.pacer.hello("gateway", cell.now_ns)
    assert cell.metrics.lost_batches.value == lost
    assert cell.pacer.next_due_ns() is not None


def test_a_gateway_that_wakes_says_hello_before_it_reads_and_loses_nothing() -> None:
    cell = written(talking(20_000))
    cell.stop_gateway(3_000)
    cell.run(2_999)
    cell.pacer.hello("gateway", cell.now_ns)
    cell.run()
    assert cell.metrics.lost_batches.value == 0
    assert cell.gap_ms(1) == 3_000 - LEAD_MS
    assert_the_ear_was_known(cell)


def test_a_gateway_that_is_gone_is_forgotten_with_what_was_meant_for_it() -> None:
    cell = written(talking())
    cell.stop_gateway(60_000)
    cell.run(5_000)
    pacer, metrics = cell.pacer, cell.metrics
    lost = len(cell.inbox) + 1  # one was written, and not acknowledged yet
    for call, (name, frames) in enumerate(zip(("gateway", "another"), (cell.inbox[0][1],) * 2, strict=True), start=1):
        pacer.open(call, name, "bridge", T0)
        pacer.refused(name, frames)
    cell.run(10_000)
    pacer.hello("another", cell.now_ns)
    pacer.measure(cell.now_ns)
    assert metrics.lost_batches.value == 0  # its call has not ended
    pacer.close(1)
    pacer.close(2)
    pacer.measure(cell.now_ns)
    assert metrics.lost_batches.value == lost
    assert [name for name, _ in pacer.retry()] == ["another"]


def test_a_held_line_is_held_once_whatever_is_asked_of_it_and_not_any_more_when_it_is_closed() -> None:
    cell = talking(20_000)
    cell.open(2)
    cell.say(2, 1, speech(20_000))
    cell.stop_gateway(3_000)
    for n in range(20):
        cell.run(100)
        cell.say(1, 1, speech(20, n), end=False)
        cell.resume(1)
        cell.pacer.end(1, 1, cell.now_ns)
    assert cell.metrics.held.value == 2
    held = cell.metrics.held_lines
    cell.pacer.measure(cell.now_ns)
    assert held.value == 2
    cell.pacer.close(2)
    cell.pacer.measure(cell.now_ns)
    assert held.value == 1


def test_a_line_is_held_until_nothing_old_is_unacknowledged() -> None:
    pacer = Pacer(lead_ns=LEAD_MS * MS, metrics=PacerMetrics(Page.in_memory(DEFINITIONS)))
    pacer.open(1, "gateway", "bridge", T0)
    pacer.speech(1, 1, speech(5_000), T0)
    sent = [pacer.tick(T0 + n * 20 * MS)[0][1].batch for n in range(3)]
    assert pacer.tick(T0 + 200 * MS) == []
    pacer.acknowledge("gateway", sent[0], T0 + 200 * MS, (), T0 + 200 * MS)
    assert pacer.next_due_ns() is None
    pacer.acknowledge("gateway", sent[-1], T0 + 201 * MS, (), T0 + 201 * MS)
    assert len(pacer.tick(T0 + 201 * MS)) == 1


def test_a_batch_that_went_late_is_awaited_from_when_it_went() -> None:
    metrics = PacerMetrics(Page.in_memory(DEFINITIONS))
    pacer = Pacer(lead_ns=LEAD_MS * MS, metrics=metrics)
    for call in (1, 2):
        pacer.open(call, "gateway", "bridge", T0)
        pacer.speech(call, 1, speech(5_000), T0 + call * 10 * MS)
        ((_, batch),) = pacer.tick(T0 + call * 10 * MS)
        pacer.acknowledge("gateway", batch.batch, T0, (), T0 + call * 10 * MS)
    assert len(pacer.tick(T0 + 500 * MS)) == 1
    assert pacer.next_due_ns() == T0 + 520 * MS
    assert len(pacer.tick(T0 + 520 * MS)) == 1
    assert metrics.held.value == 0


def test_a_frame_that_its_gateway_held_up_is_as_late_as_it_is() -> None:
    cell = written(talking(20_000))
    cell.stop_gateway(1_000)
    cell.run(500)
    cell.open(2)
    cell.say(2, 1, speech(1_000))
    cell.run(1_000)
    assert cell.metrics.held.value == 2
    # The first line's frames were on time by what their gateway then said; the other's first ones waited for it.
    assert histogram(cell.metrics.lateness)[-1] == pytest.approx(0.5 * LEAD_MS / 20, abs=0.1)


def test_an_overdue_line_is_late_since_its_deadline_whatever_comes_in_between() -> None:
    cell = talking()
    pacer = cell.pacer
    cell.open(2)
    due_ns = pacer.next_due_ns()
    assert due_ns is not None
    pacer.end(1, 1, due_ns + 3 * MS)
    pacer.speech(2, 1, speech(100), due_ns + 4 * MS)
    ((_, batch),) = pacer.tick(due_ns + 5 * MS)
    assert batch.deadline_ns == due_ns
    # One frame for the first, five for the second.
    assert histogram(cell.metrics.lateness)[-1] == pytest.approx((1 * 5 + 5 * 1) / 1e3)


@pytest.mark.parametrize("stall_ms", [19, 60, 119])
def test_a_socket_that_takes_nothing_for_less_than_the_lead_changes_nothing(stall_ms: int) -> None:
    cell = written(talking(20_000))
    cell.stop_socket(1, stall_ms)
    cell.run()
    assert cell.gap_ms(1) == 0
    assert cell.of(PlayoutShifted) == []
    assert bytes(cell.wire[1]) == speech(20_000)


@pytest.mark.parametrize("stall_ms", [150, 1_000, 5_000])
def test_a_socket_that_takes_nothing_stops_its_line_and_the_ear_stays_true(stall_ms: int) -> None:
    cell = written(talking(20_000))
    cell.stop_socket(1, stall_ms)
    cell.run(stall_ms - 1)
    assert len(cell.unsent[1]) <= LEAD_MS // 20 + 1
    cell.run()
    assert bytes(cell.wire[1]) == speech(20_000)
    gap_ms = stall_ms - LEAD_MS
    assert cell.gap_ms(1) == gap_ms
    assert abs(told_gap_ms(cell) - gap_ms) <= 20
    assert [r.audible for r in cell.of(PlayoutShifted) if isinstance(r, PlayoutShifted) and not r.continued] == [True]
    cell.pacer.close(1)
    assert cell.metrics.ear_gap.count == cell.metrics.reanchored.value == 1
    assert abs(histogram(cell.metrics.ear_gap)[-1] - gap_ms / 1e3) <= 0.02


def test_a_socket_that_takes_nothing_stops_its_line_behind_a_clear_too() -> None:
    cell = written(talking(20_000))
    cell.stop_socket(1, 2_000)
    cell.run(300)
    before = len(cell.unsent[1])
    cell.withdraw(1, 1, clear=True)
    cell.say(1, 2, speech(5_000, 2))
    cell.run(1_500)
    assert len(cell.unsent[1]) <= before + 1 + LEAD_MS // 20 + 1
    cell.run()
    record = cell.ear(1)
    assert record.clears[0].cut_bytes == before * FRAME_BYTES
    assert abs(record.play_start_ns[-1] + record.size_bytes[-1] * BYTE_NS - cell.finished_ns[1, 2]) <= 20 * MS


def test_what_a_socket_has_not_taken_is_not_called_heard() -> None:
    cell = Cell()
    cell.open(1)
    cell.say(1, 1, speech(200))
    cell.run(70)
    cell.stop_socket(1, 2_000)
    cell.run(1_900)
    assert cell.of(PlayoutFinished) == []
    cell.run()
    ((_, finished_ns),) = cell.finished_ns.items()
    record = cell.ear(1)
    assert abs(record.play_start_ns[-1] + record.size_bytes[-1] * BYTE_NS - finished_ns) <= 20 * MS


def test_a_gap_that_grew_is_observed_once_and_whole_when_it_has_ended() -> None:
    cell = written(talking(20_000))
    cell.stop_socket(1, 1_120)
    seen = []
    for _ in range(4):
        cell.run(500)
        cell.pacer.measure(cell.now_ns)
        seen.append(cell.metrics.ear_gap.count)
    assert seen == [0, 0, 0, 1]
    assert histogram(cell.metrics.ear_gap)[-1] == pytest.approx(1.0, abs=0.02)


def test_a_pause_is_no_gap_to_anyone() -> None:
    cell = written(talking(3_000))
    cell.pause(1)
    cell.run(400)
    seq = cell.next_seq[1]
    cell.resume(1)
    cell.run()
    assert bytes(cell.wire[1]) == speech(3_000)
    # The wire measures from one number to the next.
    assert cell.next_seq[1] == 3_000 // 20 + 1 > seq
    assert [(r.audible, r.continued) for r in cell.of(PlayoutShifted) if isinstance(r, PlayoutShifted)] == [
        (False, False)
    ]
    cell.pacer.close(1)
    assert cell.metrics.ear_gap.count == cell.metrics.reanchored.value == 0


def test_starved_at_every_point_of_an_utterance_nothing_is_lost_and_the_ear_stays_true() -> None:
    audio = speech(600)
    for at in range(40, len(audio), 397):
        for pause_ms in (30, 110, 130, 400):
            cell = Cell()
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


def test_calls_keep_their_own_phase() -> None:
    cell = Cell()
    for call in range(1, 5):
        cell.open(call)
        cell.say(call, 1, speech(2_000, call))
        cell.run(5)
    cell.run()
    phases = {call: {at % (20 * MS) for at in times[6:]} for call, times in cell.write_ns.items()}
    # Of the grid of 10 ms, and a hop.
    assert sorted(phases.values(), key=min) == [{HOP_NS}, {HOP_NS}, {10 * MS + HOP_NS}, {10 * MS + HOP_NS}]


def test_what_is_in_the_reservoirs_is_known_without_counting_it() -> None:
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
    cell = Cell()
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
    """What one call was given to say, and what of it must have been heard."""

    def __init__(self, cell: Cell, call: int) -> None:
        self.cell, self.call = cell, call
        self.utterance = 1
        self.said: dict[int, bytes] = {}
        self.cut: dict[int, int] = {}
        self.cleared = False
        # Until when what was said lasts, were there no gap.
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
        """Every byte that was to be heard left once and in order.

        Returns for each utterance how much later than the pacer said the ear was done with it, ns.
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
            # At rest, the line knows when the ear fell silent. A wire that is late by less than 20 ms does not say so,
            # nor does a socket that takes nothing for a while in which nothing is written to it.
            blind_ns = self.cell.stopped_ns if self.call in self.cell.socket_stops_ns else 0
            assert -20 * MS <= max(ends_ns.values()) - self.line.ear_ns <= 20 * MS + HOP_NS + blind_ns
        errors_ns = [ends_ns[end_bytes[number]] - at_ns for number, at_ns in finished.items()]
        # A wire that is late by less than 20 ms does not say so; one that stands still says so when it goes on, and by
        # then the last frame of an utterance may have been thought heard.
        assert all(-20 * MS <= error_ns <= self.cell.stopped_ns + 20 * MS for error_ns in errors_ns)
        return errors_ns


def test_hours_of_calls_with_stalls_ragged_deltas_and_withdrawals() -> None:
    """Six calls of twelve minutes; the model speaks five times as fast as the ear hears, in deltas of any size."""
    rng = random.Random(20)
    cell = Cell()
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
def test_whatever_happens_bytes_are_kept_and_the_ear_is_known(script: list[tuple[int, tuple[str, int]]]) -> None:
    cell = Cell()
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
    for speaker in speakers:
        cell.resume(speaker.call)
        speaker.end()
    cell.run()
    for speaker in speakers:
        speaker.check()
    assert cell.pacer.reservoir_bytes == 0
