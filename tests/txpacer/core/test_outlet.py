"""Flow control and phases: one gateway that stops, recovers, restarts or leaves, in virtual time."""

from __future__ import annotations

import pytest

from shared.audio import BYTE_NS, FRAME_BYTES
from shared.messages import GatewayHello, PlayoutFinished, PlayoutShifted
from shared.metrics import Page
from txpacer.core.metrics import DEFINITIONS, PacerMetrics
from txpacer.core.outlet import GRID_NS
from txpacer.core.pacer import Pacer

from ..virtual_lines import HOP_NS, LEAD_MS, MS, T0, Lines
from .cells import STALLS_MS, assert_the_ear_position_was_correct, histogram, speech, talking, told_gap_ms, written


@pytest.mark.parametrize("stall_ms", STALLS_MS)
def test_a_gateway_that_stops_is_heard_only_beyond_the_lead_and_the_ear_position_stays_correct(stall_ms: int) -> None:
    cell = written(talking(20_000))
    cell.stop_gateway(stall_ms)
    cell.run()
    gap_ms = max(0, stall_ms - LEAD_MS)
    assert cell.gap_ms(1) == gap_ms
    assert bytes(cell.wire[1]) == speech(20_000)
    assert cell.marks[1] == [1]
    assert gap_ms <= told_gap_ms(cell) <= gap_ms + (gap_ms > 0)
    assert_the_ear_position_was_correct(cell)
    cell.pacer.close(1)
    assert cell.metrics.ear_gap["machine"].count == cell.metrics.reanchored.value == (gap_ms > 0)


def test_a_gateway_that_does_not_acknowledge_gets_nothing_beyond_the_lead() -> None:
    cell = talking()
    cell.stop_gateway(3_000)
    cell.run(2_900)
    under_way = sum(len(audio) for _, batch in cell.inbox for _, _, audio, _ in batch.entries)
    assert under_way <= (LEAD_MS + 20) * 8
    assert cell.metrics.held.value == 1
    cell.pacer.measure(cell.now_ns)
    assert cell.metrics.held_lines._cells[cell.metrics.held_lines._at] == 1


def test_a_barge_in_while_the_gateway_is_stopped_reports_exactly_what_the_caller_hears() -> None:
    cell = talking()
    cell.stop_gateway(3_000)
    cell.run(2_000)
    withdrawn = cell.withdraw(1, 1)
    cell.run()
    assert withdrawn.paced == ((1, len(cell.wire[1])),)
    assert bytes(cell.wire[1]) == speech(10_000)[: len(cell.wire[1])]


def test_a_stopped_gateway_delays_no_line_of_another_gateway() -> None:
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


def test_a_restarted_gateway_releases_the_lines_that_waited_for_lost_batches() -> None:
    cell = written(talking())
    cell.stop_gateway(3_000)
    cell.run(2_500)
    lost = len(cell.inbox) + 1  # one more was written, and is not acknowledged yet
    cell.inbox.clear()
    for _ in range(2):
        assert cell.metrics.lost_batches.value == 0
        cell.pacer.from_gateway("gateway", GatewayHello("gateway"), cell.now_ns)
    assert cell.metrics.lost_batches.value == lost
    assert cell.pacer.next_due_ns() is not None


def test_a_gateway_that_says_hello_before_it_reads_its_backlog_loses_no_batch() -> None:
    cell = written(talking(20_000))
    cell.stop_gateway(3_000)
    cell.run(2_999)
    cell.pacer.from_gateway("gateway", GatewayHello("gateway"), cell.now_ns)
    cell.run()
    assert cell.metrics.lost_batches.value == 0
    assert cell.gap_ms(1) == 3_000 - LEAD_MS
    assert_the_ear_position_was_correct(cell)


def test_a_gateway_that_is_gone_is_forgotten_with_its_batches() -> None:
    cell = written(talking())
    cell.stop_gateway(60_000)
    cell.run(5_000)
    pacer, metrics = cell.pacer, cell.metrics
    lost = len(cell.inbox) + 1  # one more was written, and is not acknowledged yet
    for call, (name, frames) in enumerate(zip(("gateway", "another"), (cell.inbox[0][1],) * 2, strict=True), start=1):
        pacer.open(call, name, "bridge", T0)
        pacer.refused(name, frames)
    cell.run(10_000)
    pacer.from_gateway("another", GatewayHello("another"), cell.now_ns)
    pacer.measure(cell.now_ns)
    assert metrics.lost_batches.value == 0  # its call has not ended
    pacer.close(1)
    pacer.close(2)
    pacer.measure(cell.now_ns)
    assert metrics.lost_batches.value == lost
    assert [name for name, _ in pacer.retry()] == ["another"]


def test_a_held_line_counts_once_whatever_is_asked_of_it_until_it_is_closed() -> None:
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


def test_a_line_is_held_until_every_overdue_batch_is_acknowledged() -> None:
    pacer = Pacer(lead_ns=LEAD_MS * MS, metrics=PacerMetrics(Page.in_memory(DEFINITIONS)))
    pacer.open(1, "gateway", "bridge", T0)
    pacer.speech(1, 1, speech(5_000), T0)
    sent = [pacer.tick(T0 + n * 20 * MS)[0][1].batch for n in range(3)]
    assert pacer.tick(T0 + 200 * MS) == []
    pacer.acknowledge("gateway", sent[0], T0 + 200 * MS, (), T0 + 200 * MS)
    assert pacer.next_due_ns() is None
    pacer.acknowledge("gateway", sent[-1], T0 + 201 * MS, (), T0 + 201 * MS)
    assert len(pacer.tick(T0 + 201 * MS)) == 1


def test_the_wait_for_an_acknowledgement_begins_when_the_batch_was_sent() -> None:
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


def test_a_held_frame_is_late_since_its_deadline() -> None:
    cell = written(talking(20_000))
    cell.stop_gateway(1_000)
    cell.run(500)
    cell.open(2)
    cell.say(2, 1, speech(1_000))
    cell.run(1_000)
    assert cell.metrics.held.value == 2
    # The gateway reported the first line's frames late, which moved its deadlines; the second line's frames waited.
    assert histogram(cell.metrics.lateness)[-1] == pytest.approx(0.5 * LEAD_MS / 20, abs=0.1)


def test_an_overdue_line_is_late_since_its_deadline_whatever_message_arrives_meanwhile() -> None:
    cell = talking()
    pacer = cell.pacer
    cell.open(2)
    due_ns = pacer.next_due_ns()
    assert due_ns is not None
    pacer.end(1, 1, due_ns + 3 * MS)
    pacer.speech(2, 1, speech(100), due_ns + 4 * MS)
    ((_, batch),) = pacer.tick(due_ns + 5 * MS)
    assert batch.deadline_ns == due_ns
    # One frame of the first line, five of the second.
    assert histogram(cell.metrics.lateness)[-1] == pytest.approx((1 * 5 + 5 * 1) / 1e3)


def test_calls_keep_their_own_phase() -> None:
    cell = Lines()
    for call in range(1, 5):
        cell.open(call)
        cell.say(call, 1, speech(2_000, call))
        cell.run(5)
    cell.run()
    phases = {call: {at % (20 * MS) for at in times[6:]} for call, times in cell.write_ns.items()}
    # Two phases of the 10 ms grid, each a hop later.
    assert sorted(phases.values(), key=min) == [{HOP_NS}, {HOP_NS}, {10 * MS + HOP_NS}, {10 * MS + HOP_NS}]


@pytest.mark.parametrize("stall_ms", [19, 60, 119])
def test_a_socket_that_takes_nothing_for_less_than_the_lead_changes_nothing(stall_ms: int) -> None:
    cell = written(talking(20_000))
    cell.stop_socket(1, stall_ms)
    cell.run()
    assert cell.gap_ms(1) == 0
    assert cell.of(PlayoutShifted) == []
    assert bytes(cell.wire[1]) == speech(20_000)


@pytest.mark.parametrize("stall_ms", [150, 1_000, 5_000])
def test_a_socket_that_takes_nothing_stops_its_line_and_the_ear_position_stays_correct(stall_ms: int) -> None:
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
    assert cell.metrics.ear_gap["path"].count == cell.metrics.reanchored.value == 1
    assert cell.metrics.ear_gap["machine"].count == 0
    assert abs(histogram(cell.metrics.ear_gap["path"])[-1] - gap_ms / 1e3) <= 0.02


def test_a_socket_that_takes_nothing_stops_its_line_after_a_clear_too() -> None:
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


def test_speech_that_a_socket_has_not_taken_is_not_reported_as_heard() -> None:
    cell = Lines()
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
