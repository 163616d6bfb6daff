"""What one call's path showed, and what the pacer counts and tells of it: in virtual time, over a simulated path."""

from __future__ import annotations

import pytest

from shared.messages import PathSamples, PlayoutStarted
from simulator.network.path import PathBehaviour
from txpacer.core.call_path import CallPath, Sample
from txpacer.core.far_ear import PENDING_MAX
from txpacer.core.pacer import NEEDED_NS

from .cells import histogram
from .far_cell import CALL, MS, FarCell

# A stall that a lead of 120 ms hides, and one that none of 180 ms does.
SHORT = PathBehaviour(delay_ms=30, stall_ms=100, stall_every_ms=3_000)
LONG = PathBehaviour(delay_ms=30, stall_ms=400, stall_every_ms=8_000)


def second_by_second(cell: FarCell, seconds: int) -> list[Sample]:
    """Let time pass, and measure once a second as the loop does; the samples of the call."""
    found = []
    for _ in range(seconds):
        cell.run(1_000)
        for gateway, message in cell.pacer.measure(cell.now_ns):
            assert (gateway, type(message)) == ("gateway", PathSamples)
            for number, *sample in message.samples:
                assert number == CALL
                found.append(Sample(*sample))
    return found


def test_several_pings_of_one_delay_count_as_one_delay_that_the_lead_hid():
    path = CallPath(60 * MS)
    told = [path.pinged((40 + delay) * MS, delay * MS, 120 * MS) for delay in (0, 110, 70, 5, 0, 100)]
    assert told == [False, False, False, True, False, False]
    assert path.ended()
    assert not path.ended()


def test_a_delay_beyond_the_lead_was_not_hidden_although_the_lead_rises_at_once():
    path = CallPath(60 * MS)
    assert not path.pinged(200 * MS, 160 * MS, 120 * MS)
    assert not path.pinged(210 * MS, 170 * MS, 180 * MS)
    assert not path.pinged(40 * MS, 0, 180 * MS)


def test_jitter_makes_no_sample_and_each_gap_makes_one():
    path = CallPath(60 * MS)
    path.pinged(40 * MS, 0, 120 * MS)
    assert path.sample(120 * MS) == Sample(120, 40, 0, 0)
    path.pinged(43 * MS, 3 * MS, 120 * MS)
    assert path.sample(120 * MS) is None
    for _ in range(2):
        path.gap(30 * MS)
        assert path.sample(120 * MS) == Sample(120, 40, 0, 30)
    assert path.sample(120 * MS) == Sample(120, 40, 0, 0)
    assert path.sample(120 * MS) is None


@pytest.mark.parametrize(("answers_pings", "round_trip_ms"), [(True, 60), (False, 0)])
def test_an_utterance_that_begins_is_told_with_the_paths_last_round_trip(answers_pings, round_trip_ms):
    cell = FarCell(PathBehaviour(delay_ms=30), answers_pings=answers_pings)
    for utterance in (1, 2):
        cell.say(utterance, 400)
        cell.run(1_500)
    began = [each for each in cell.reports if isinstance(each, PlayoutStarted)]
    assert [each.round_trip_ns // MS for each in began] == [0, round_trip_ms]


def test_the_end_of_a_delay_makes_a_sample_although_no_ping_follows():
    cell = FarCell()
    told = []
    for pings in ([40], [200], [], []):
        cell.pacer.path_seen((), [(CALL, ms * MS, cell.now_ns) for ms in pings], cell.now_ns)
        told += [message.samples for _, message in cell.pacer.measure(cell.now_ns)]
    assert [[sample[2:] for sample in samples] for samples in told] == [[(40, 0, 0)], [(40, 160, 0)], [(40, 0, 0)]]


def test_on_a_clean_path_samples_end_when_the_lead_has_fallen_to_its_minimum():
    cell = FarCell()
    cell.say(1, 60_000)
    samples = second_by_second(cell, 60)
    assert len(samples) < 8
    assert samples[-1] == Sample(60, 60, 0, 0)
    metrics = cell.pacer._metrics
    assert [gauge.value for gauge in metrics.leads.values()] == [0.06, 0.06, 0.06]
    cell.pacer.close(CALL)
    assert (metrics.gaps_avoided.value, metrics.lead_short.value, metrics.lead_needed.count) == (0, 0, 1)
    assert histogram(metrics.path_delay)[-1] < 0.1


def test_delays_that_only_a_longer_lead_than_the_minimum_hides_are_counted_and_nobody_hears_them():
    cell = FarCell(SHORT, lead_ms=(180, 60, 180), ping_ms=20)
    cell.say(1, 20_000)
    second_by_second(cell, 21)
    metrics = cell.pacer._metrics
    assert cell.gaps_ms() == []
    assert metrics.gaps_avoided.value == 6
    assert metrics.ear_gap["path"].count == metrics.ear_gap["machine"].count == 0


def test_gaps_that_the_path_made_are_observed_as_the_caller_hears_them_and_drawn_beside_the_lead():
    cell = FarCell(LONG)
    cell.say(1, 60_000)
    samples = second_by_second(cell, 62)
    heard = cell.gaps_ms()
    cell.pacer.close(CALL)
    metrics = cell.pacer._metrics
    assert metrics.ear_gap["path"].count == len(heard) == 7
    assert metrics.ear_gap["machine"].count == 0
    assert histogram(metrics.ear_gap["path"])[-1] == pytest.approx(sum(heard) / 1e3, rel=0.05)
    assert sum(sample.gap_ms for sample in samples) == pytest.approx(sum(heard), rel=0.05)
    assert max(sample.delay_ms for sample in samples) > 200
    assert max(sample.lead_ms for sample in samples) == 180


def test_a_gap_that_this_machine_made_is_counted_once_although_echoes_show_it_too():
    cell = FarCell(lead_ms=(120, 120, 120))
    cell.say(1, 20_000)
    cell.run(5_000)
    cell.now_ns += 300 * MS  # txpacer stands still
    cell.run(16_000)
    cell.pacer.close(CALL)
    metrics = cell.pacer._metrics
    (heard,) = cell.gaps_ms()
    assert (metrics.ear_gap["machine"].count, metrics.ear_gap["path"].count) == (1, 0)
    assert histogram(metrics.ear_gap["machine"])[-1] == pytest.approx(heard / 1e3, abs=0.02)


def test_a_path_that_needs_more_than_the_longest_lead_is_counted_at_the_end_and_while_a_long_call_lives():
    cell = FarCell(LONG)
    metrics = cell.pacer._metrics
    assert metrics.lead_max.value == 0.18
    cell.say(1, 30_000)
    second_by_second(cell, 20)
    assert metrics.lead_needed.count == 0
    cell.run(900)
    cell.pacer.measure(cell.now_ns + NEEDED_NS)
    assert (metrics.lead_needed.count, metrics.lead_short.value) == (1, 1)
    assert histogram(metrics.lead_needed)[-1] > 0.3
    cell.pacer.close(CALL)
    assert metrics.lead_needed.count == 1, "no ping since: nothing is known of what was needed"


def test_without_a_live_call_the_leads_show_where_the_next_one_starts():
    cell = FarCell()
    cell.pacer.measure(cell.now_ns)
    assert cell.pacer._metrics.leads["median"].value == 0.12
    cell.say(1, 20_000)
    second_by_second(cell, 10)
    cell.pacer.path_seen((), [(CALL, 141 * MS, cell.now_ns)], cell.now_ns)
    cell.pacer.close(CALL)
    cell.pacer.measure(cell.now_ns)
    assert cell.pacer._metrics.leads["median"].value == 0.13


def test_echoes_that_never_come_or_come_twice_are_counted():
    cell = FarCell()
    metrics = cell.pacer._metrics
    cell.say(1, 60_000)
    cell.drop_echoes = True
    second_by_second(cell, 40)
    assert (metrics.marks_unechoed.value, metrics.echoes_strange.value) == (
        pytest.approx(40 * 2 - PENDING_MAX, abs=2),
        0,
    )
    cell.pacer.path_seen([(CALL, 1, cell.now_ns)] * 2, (), cell.now_ns)
    cell.pacer.close(CALL)
    assert metrics.echoes_strange.value == 2
