"""The far ear: echoes of marks show a lag that the network made; echoes that are late by themselves show none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.network.path import PathBehaviour
from txpacer.core.far_ear import FarEar

from .far_cell import MS, T0, FarCell

STALL = PathBehaviour(delay_ms=30, stall_ms=400, stall_every_ms=8_000)


def test_on_a_clean_path_nothing_moves_and_the_lead_falls_to_its_minimum():
    cell = FarCell()
    cell.say(1, 20_000)
    cell.run(21_000)
    assert cell.gaps_ms() == []
    assert cell.counted_gaps_ms() == []
    assert cell.leads_ms[-2_000] == 60


def test_a_second_after_a_stall_an_interruption_is_silent_as_quickly_as_before_it():
    before = FarCell(STALL, lead_ms=(120, 120, 120))
    before.say(1, 30_000)
    before.run(7_000)
    tail_before = before.tail_ms()
    after = FarCell(STALL, lead_ms=(120, 120, 120))
    after.say(1, 30_000)
    after.run(9_400)
    (gap,) = after.gaps_ms()
    assert gap > 200
    assert after.tail_ms() == pytest.approx(tail_before, abs=20)


def test_gaps_are_counted_as_the_caller_hears_them():
    cell = FarCell(STALL)
    cell.say(1, 60_000)
    cell.run(62_000)
    heard, counted = cell.gaps_ms(), cell.counted_gaps_ms()
    assert len(heard) == len(counted) == 7
    assert sum(counted) == pytest.approx(sum(heard), rel=0.05)


@pytest.mark.parametrize("utterance_ms", [1_300, 2_900])
def test_a_gap_anywhere_in_an_utterance_is_counted(utterance_ms):
    """Stalls and utterances drift against each other, so a stall meets every part of an utterance."""
    cell = FarCell(STALL, lead_ms=(120, 120, 120))
    for utterance in range(1, 60):
        cell.say(utterance, utterance_ms)
        cell.run(utterance_ms + 900)
    heard, counted = [gap for gap in cell.gaps_ms() if gap < 500], cell.counted_gaps_ms()
    assert len(counted) == len(heard) > 5
    assert sum(counted) == pytest.approx(sum(heard), rel=0.05)


def test_echoes_that_are_late_by_themselves_for_a_minute_make_no_gap():
    cell = FarCell()
    cell.say(1, 100_000)
    cell.run(20_000)
    cell.echo_late_ms = 100
    cell.run(60_000)
    cell.echo_late_ms = 0
    cell.run(10_000)
    assert cell.gaps_ms() == []
    assert cell.counted_gaps_ms() == []


@pytest.mark.parametrize(("towards_ms", "back_ms"), [(75, 75), (150, 150), (150, 0), (0, 150)])
def test_a_path_that_gets_longer_makes_no_gap_in_the_sentences_that_follow(towards_ms, back_ms):
    cell = FarCell()
    cell.say(1, 15_000)
    cell.run(5_000)
    cell.lengthen_path(towards_ms=towards_ms, back_ms=back_ms)
    cell.run(15_000)
    gaps = len(cell.gaps_ms())
    assert gaps <= 2
    for utterance in range(2, 10):
        cell.say(utterance, 5_000)
        cell.run(9_000)
    assert len(cell.gaps_ms()) == gaps
    assert cell.leads_ms[-1] == 60


@pytest.mark.parametrize("echoes", [{"double_echoes": True}, {"drop_echoes": True}, {"burst_ms": 1_500}])
def test_echoes_that_are_doubled_missing_or_in_bursts_for_a_minute_make_no_gap(echoes):
    cell = FarCell()
    cell.say(1, 100_000)
    cell.run(20_000, step_ms=2)
    for name, value in echoes.items():
        setattr(cell, name, value)
    cell.run(60_000, step_ms=2)
    cell.burst_ms, cell.double_echoes, cell.drop_echoes = 1, False, False
    cell.run(10_000, step_ms=2)
    assert cell.gaps_ms() == []
    assert cell.counted_gaps_ms() == []


@pytest.mark.parametrize(
    "path",
    [PathBehaviour(delay_ms=30, loss=0.01), PathBehaviour(delay_ms=30, stall_ms=150, stall_every_ms=3_000)],
)
def test_late_echoes_on_a_path_whose_delays_the_lead_hides_cost_at_most_one_gap(path):
    """The pings show delays, but not more than the lead hides: no cause for a lag of as much as the echoes are late."""

    def gaps_ms(late_ms: int) -> float:
        cell = FarCell(path)
        for utterance in range(1, 7):
            cell.say(utterance, 12_000)
            cell.run(3_000, step_ms=2)
            cell.echo_late_ms = late_ms
            cell.run(12_000, step_ms=2)
        return sum(cell.gaps_ms())

    assert gaps_ms(100) <= gaps_ms(0) + 150


def known_path() -> FarEar:
    """A line whose echoes and pings take 60 ms; its second talkspurt began with frame 20 at T0 + 1 s."""
    far = FarEar()
    far.begin(0, T0)
    far.ping(60 * MS, T0 + 60 * MS, 120 * MS)
    far.mark(10, T0 + 200 * MS)
    assert far.echo(10, T0 + 260 * MS) is None
    far.mark(20, T0 + 400 * MS)
    far.begin(20, T0 + 1_000 * MS)
    far.ping(360 * MS, T0 + 1_360 * MS, 120 * MS)
    far.ping(60 * MS, T0 + 1_360 * MS, 120 * MS)
    return far


def test_an_echo_of_the_talkspurt_before_says_nothing_about_this_one():
    far = known_path()
    assert far.echo(20, T0 + 1_060 * MS) is None  # 600 ms late
    far.mark(30, T0 + 1_200 * MS)
    assert far.echo(30, T0 + 1_360 * MS) is None  # 100 ms late, and the first one of this talkspurt


def test_two_late_echoes_and_a_delayed_ping_show_a_lag():
    far = known_path()
    far.mark(30, T0 + 1_200 * MS)
    far.mark(40, T0 + 1_400 * MS)
    assert far.echo(30, T0 + 1_360 * MS) is None
    lag = far.echo(40, T0 + 1_570 * MS)
    assert lag is not None
    assert (lag.lag_ns, lag.audible) == (100 * MS, False)


def line_with_a_delayed_ping() -> FarEar:
    """One punctual echo, a ping that was late by 300 ms at T0 + 600 ms, and a mark that is due at T0 + 460 ms."""
    far = FarEar()
    far.begin(0, T0)
    far.ping(60 * MS, T0 + 60 * MS, 120 * MS)
    far.mark(10, T0 + 200 * MS)
    assert far.echo(10, T0 + 260 * MS) is None
    far.mark(20, T0 + 400 * MS)
    far.ping(360 * MS, T0 + 600 * MS, 120 * MS)
    return far


def test_the_last_echo_of_an_utterance_shows_a_gap_alone_if_a_ping_explains_it():
    lag = line_with_a_delayed_ping().echo(20, T0 + 700 * MS, is_last=True)
    assert lag is not None
    assert (lag.lag_ns, lag.audible) == (240 * MS, True)
    assert line_with_a_delayed_ping().echo(20, T0 + 700 * MS) is None, "a second echo will follow"


def test_a_last_echo_that_came_together_with_late_answers_was_held_up_on_the_way_back():
    assert line_with_a_delayed_ping().echo(20, T0 + 605 * MS, is_last=True) is None


def test_a_last_echo_that_is_late_by_itself_shows_no_gap():
    far = known_path()
    far.mark(30, T0 + 1_500 * MS)
    far.mark(40, T0 + 1_600 * MS)
    assert far.echo(30, T0 + 1_560 * MS) is None  # punctual: the delayed pings made no lag
    assert far.echo(40, T0 + 1_900 * MS, is_last=True) is None


def test_an_echo_that_is_sooner_than_any_ping_is_of_another_line():
    far = known_path()
    far.mark(30, T0 + 1_200 * MS)
    assert far.echo(30, T0 + 1_205 * MS) is None
    assert far.strange == 1
    assert far.way_ns == 60 * MS


def test_a_belief_that_was_wrong_does_not_make_later_echoes_look_late():
    far = known_path()
    for seq in (30, 40, 50):
        far.mark(seq, T0 + (600 + 20 * seq) * MS)
    far.echo(30, T0 + 1_360 * MS)
    assert far.echo(40, T0 + 1_560 * MS) is not None
    far.moved(40, 100 * MS)
    far.echo(50, T0 + 1_700 * MS - 30 * MS)  # sooner than believed
    assert far.way_ns == 60 * MS


def test_without_echoes_the_line_paces_as_ever():
    cell = FarCell(PathBehaviour(delay_ms=60, jitter_ms=40))
    cell.drop_echoes = True
    cell.say(1, 20_000)
    cell.run(22_000)
    assert cell.gaps_ms() == []


def test_without_answered_pings_the_lead_stays_where_it_starts():
    cell = FarCell(answers_pings=False)
    cell.say(1, 20_000)
    cell.run(21_000)
    assert set(cell.leads_ms) == {120}


def test_without_answered_pings_a_long_lag_is_believed_but_for_what_twilio_may_have_made():
    cell = FarCell(STALL, lead_ms=(120, 120, 120), answers_pings=False)
    cell.say(1, 30_000)
    cell.run(9_400)
    (gap,) = cell.gaps_ms()
    assert sum(cell.counted_gaps_ms()) == pytest.approx(gap - 100, abs=20)


@pytest.mark.parametrize("delay", [30, 60])
def test_an_adaptive_lead_hides_what_a_short_one_would_not(delay):
    def gaps(lead_ms: tuple[int, int, int]) -> float:
        cell = FarCell(PathBehaviour(delay_ms=delay, loss=0.01), lead_ms=lead_ms, seed=3)
        cell.say(1, 120_000)
        cell.run(125_000)
        return sum(cell.gaps_ms())

    fixed, adaptive = gaps((60, 60, 60)), gaps((120, 60, 180))
    assert adaptive <= fixed / 4


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), delay=st.integers(5, 100), loss=st.floats(0, 0.02), late=st.integers(0, 90))
def test_no_byte_is_lost_whatever_the_echoes_say(seed, delay, loss, late):
    cell = FarCell(PathBehaviour(delay_ms=delay, jitter_ms=20, loss=loss), seed=seed)
    cell.echo_late_ms = late
    cell.say(1, 5_000)
    cell.run(9_000)
    assert len(cell.ear.record().audio) == 40_000
