"""A `clear` is answered once, with what the caller heard of the speech that it cut, whatever the echoes do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.liveness import CLEAR_ECHO_S
from shared.messages import PlayoutFinished, PlayoutStarted, Withdrawn
from simulator.network.path import PathBehaviour

from .far_cell import CALL, MS, FarCell

LONG_LEAD = (400, 400, 400)
ECHOES = {
    "punctual": {},
    "late": {"echo_late_ms": 100},
    "missing": {"drop_echoes": True},
    "doubled": {"double_echoes": True},
    "in bursts": {"burst_ms": 200},
}
PATHS = {
    "near": PathBehaviour(delay_ms=5),
    "far": PathBehaviour(delay_ms=100),
    "jittery": PathBehaviour(delay_ms=40, jitter_ms=20),
    "lossy": PathBehaviour(delay_ms=60, loss=0.01),
    "stalling": PathBehaviour(delay_ms=30, stall_ms=300, stall_every_ms=1_100),
}


def talking(
    path: PathBehaviour | None = None, echoes: str = "punctual", *, lead_ms=LONG_LEAD, seed: int = 1, ping_ms: int = 100
) -> FarCell:
    """A call in its second sentence: a first one is over, and the path is known."""
    cell = FarCell(path, lead_ms=lead_ms, seed=seed, ping_ms=ping_ms)
    cell.say(1, 1_000)
    cell.run(2_500, step_ms=2)
    for name, value in ECHOES[echoes].items():
        setattr(cell, name, value)
    cell.say(2, 20_000)
    return cell


def told_ms(cell: FarCell, utterance: int) -> float:
    (told,) = (dict(answer.paced).get(utterance, 0) / 8 for answer in cell.answers() if answer.through == utterance)
    return told


def error_ms(cell: FarCell, utterance: int) -> float:
    """How much more the model is told than the caller heard."""
    return told_ms(cell, utterance) - cell.heard_ms(utterance)


def sent_ms(cell: FarCell, utterance: int) -> float:
    return cell.ear.record().audio.count(utterance) / 8


@pytest.mark.parametrize(("path", "echoes"), list(itertools.product(PATHS, ECHOES)))
def test_whenever_a_clear_comes_it_is_answered_once_and_new_speech_is_untouched(path, echoes):
    for at_ms, pause_ms in itertools.product((0, 30, 200, 520, 1_030), (0, 90)):
        cell = talking(PATHS[path], echoes, seed=at_ms)
        cell.run(at_ms)
        cell.clear(2)
        cell.run(pause_ms)
        cell.say(3, 1_800)  # longer than an echo is waited for
        cell.run(3_000, step_ms=2)
        assert [answer.through for answer in cell.answers()] == [2]
        assert told_ms(cell, 2) <= sent_ms(cell, 2)
        assert cell.heard_ms(3) == 1_800
        finished = [each.utterance for each in cell.reports if isinstance(each, PlayoutFinished)]
        assert [number for number in (1, 2, 3) if sent_ms(cell, number)] == finished
        # Which of a talkspurt's first segments was lost is unknown before its first mark.
        if echoes in ("punctual", "doubled") and (path != "lossy" or at_ms >= 200):
            assert abs(error_ms(cell, 2)) <= 40
        if path in ("near", "far"):
            assert cell.counted_gaps_ms() == []
            assert abs(error_ms(cell, 2)) <= 1 + (echoes == "late") * 100 + (echoes == "in bursts") * 200


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 999),
    delay=st.integers(5, 100),
    jitter=st.integers(0, 30),
    loss=st.floats(0, 0.01),
    at_ms=st.integers(0, 3_000),
    lead_ms=st.sampled_from([120, 400, 1_000]),
)
def test_the_answer_never_claims_more_than_was_paced(seed, delay, jitter, loss, at_ms, lead_ms):
    path = PathBehaviour(delay_ms=delay, jitter_ms=jitter, loss=loss)
    cell = talking(path, lead_ms=(lead_ms, 60, 1_000), seed=seed)
    cell.run(at_ms)
    cell.clear(2)
    cell.run(2_500)
    assert len(cell.answers()) == 1
    assert told_ms(cell, 2) <= sent_ms(cell, 2)


def test_a_clear_that_a_lost_segment_delays_is_answered_with_what_was_heard_until_it_came():
    cell = talking(PathBehaviour(delay_ms=30, stall_ms=400, stall_every_ms=4_000), lead_ms=(600, 600, 600))
    cell.run(1_600)  # the stall begins at 4,000: 100 ms ago
    cell.clear(2)
    cell.run(1_500)
    assert cell.heard_ms(2) > 1_600 + 200
    assert error_ms(cell, 2) == pytest.approx(0, abs=2)


def test_a_clear_cuts_an_ear_that_lags_where_it_was():
    """The far ear believes a lag at the second echo. The first one is enough to answer a clear."""
    cell = talking(PathBehaviour(delay_ms=30, stall_ms=400, stall_every_ms=3_000), lead_ms=(120, 120, 120))
    cell.run(1_200)  # stalled until 900 ms
    assert cell.counted_gaps_ms() == []
    cell.clear(2)
    cell.run(1_000)
    assert cell.heard_ms(2) < 1_200 - 250
    assert error_ms(cell, 2) == pytest.approx(0, abs=20)


@pytest.mark.parametrize("stall_ms", [400, 1_000])
@pytest.mark.parametrize("lead_ms", [120, 600])
def test_a_clear_before_during_or_after_a_stall_is_answered_exactly(stall_ms, lead_ms):
    """Pings follow every third frame, as the gateway sends them after the first `clear` of a call."""
    path = PathBehaviour(delay_ms=30, stall_ms=stall_ms, stall_every_ms=5_000)
    for into_ms in range(-90, stall_ms + 600, 87):
        cell = talking(path, lead_ms=(lead_ms, lead_ms, lead_ms), ping_ms=60)
        cell.run(2_500 + into_ms)  # the stall began `into_ms` ago
        cell.clear(2)
        cell.run(2_500)
        assert error_ms(cell, 2) == pytest.approx(0, abs=30), f"{into_ms} ms after the beginning of the stall"


@pytest.mark.parametrize("before_ms", [10, 40, 80])
def test_a_clear_after_a_stall_that_met_an_ear_which_was_still_filling_is_answered_exactly(before_ms):
    """The model's first delta is short, so the ear holds less than the lead when the path stalls."""
    for next_ms, into_ms in itertools.product((20, 60, 100), (1_017, 1_200, 1_600)):
        path = PathBehaviour(delay_ms=30, stall_ms=1_000, stall_every_ms=5_000)
        cell = FarCell(path, lead_ms=(600, 600, 600), ping_ms=60)
        cell.say(1, 1_000)
        cell.run(5_000 - before_ms - 30)
        cell.say(2, 150, end=False)
        cell.run(next_ms)
        cell.say(2, 8_000)
        cell.run(before_ms + 30 - next_ms + into_ms)
        cell.clear(2)
        cell.run(2_500)
        assert error_ms(cell, 2) == pytest.approx(0, abs=40)


def test_the_answer_waits_for_the_echo_and_not_longer():
    cell = talking(PathBehaviour(delay_ms=80))
    cell.run(1_000)
    cell.clear(2)
    cell.run(150)
    assert cell.answers() == []
    cell.run(20)
    assert len(cell.answers()) == 1


def test_without_the_echo_the_answer_comes_after_a_while_and_is_counted():
    cell = talking(PathBehaviour(delay_ms=80), "missing")
    cell.run(1_000)
    cell.clear(2)
    cell.run(1_490)
    assert cell.answers() == []
    cell.run(30)
    assert abs(error_ms(cell, 2)) < 20
    assert cell.pacer._metrics.clears_unanswered.value == 1


def test_before_the_path_is_known_the_answer_comes_at_once():
    cell = FarCell(lead_ms=LONG_LEAD)
    cell.say(1, 5_000)
    cell.run(20)
    cell.clear(1)
    cell.run(10)
    assert len(cell.answers()) == 1
    assert abs(error_ms(cell, 1)) <= 20


def test_a_ping_is_enough_to_know_the_path():
    cell = FarCell(PathBehaviour(delay_ms=30, stall_ms=400, stall_every_ms=500), lead_ms=(800, 800, 800))
    cell.say(1, 20_000)
    cell.run(450)  # the first mark follows the lead, and is not played yet
    cell.clear(1)
    cell.run(1_000)
    assert error_ms(cell, 1) == pytest.approx(0, abs=10)


def test_a_clear_of_a_silent_line_is_answered_at_once():
    cell = talking()
    cell.pacer.withdraw(CALL, 2, False, cell.now_ns)
    cell.run(1_000)
    cell.clear(3)
    cell.run(1)
    assert cell.answers()[-1].through == 3


def test_a_second_clear_is_answered_after_the_first():
    cell = talking(PathBehaviour(delay_ms=100))
    cell.run(1_000)
    cell.clear(2)
    cell.say(3, 5_000)
    cell.run(50)
    cell.clear(3)
    cell.clear(4)
    cell.run(1_000)
    assert [answer.through for answer in cell.answers()] == [2, 3, 4]
    assert error_ms(cell, 2) == pytest.approx(0, abs=2)
    assert error_ms(cell, 3) == pytest.approx(0, abs=2)


def test_a_line_that_closes_answers_with_what_is_known():
    cell = talking(PathBehaviour(delay_ms=100))
    cell.run(1_000)
    cell.clear(2)
    cell.run(20)
    cell.pacer.close(CALL)
    (answer,) = [each for _, reports in cell.pacer.take_reports() for each in reports if isinstance(each, Withdrawn)]
    assert answer.through == 2
    assert dict(answer.paced)[2] == pytest.approx(1_000 * 8, abs=160)


def test_a_successor_finds_the_cut_utterance_as_it_was_heard():
    cell = talking(PathBehaviour(delay_ms=100))
    cell.run(1_000)
    cell.clear(2)
    cell.run(20)
    cell.pacer.open(CALL, "gateway", "successor", cell.now_ns, handover=1)
    reports = dict(cell.pacer.take_reports())
    assert [type(each) for each in reports["bridge"]] == [Withdrawn]
    (state,) = reports["successor"]
    assert [(number, size) for number, size, *_ in state.unheard] == [(2, pytest.approx(1_000 * 8, abs=160))]
    cell.run(1_000)
    assert cell.answers() == []
    assert [each.utterance for each in cell.reports if isinstance(each, PlayoutFinished)] == [1, 2]


def test_frames_that_the_gateway_wrote_with_the_clear_were_not_heard():
    """A frozen gateway writes the last frames and the `clear` at the same time. Its ear had run dry before."""
    cell = talking(lead_ms=(120, 120, 120))
    cell.run(1_000)
    line = cell.pacer._calls[CALL].line
    written_ms = (line.seq - 50) * 20 - 40  # 50 frames were of the first sentence
    late_seq, written_ns = line.seq - 2, line.ear_ns + 260 * MS
    cell.clear(2)
    cell.run(1)
    cell.pacer.acknowledge("gateway", 0, written_ns, [(CALL, late_seq)], cell.now_ns)
    cell.pacer.path_seen([(CALL, line.seq, written_ns + 60 * MS)], (), cell.now_ns)
    cell.run(20)
    assert told_ms(cell, 2) == pytest.approx(written_ms, abs=1)


def test_new_speech_begins_while_the_answer_is_awaited():
    cell = talking(PathBehaviour(delay_ms=200))
    cell.run(1_000)
    cell.clear(2)
    cell.say(3, 1_000)
    cell.run(100)
    assert [each.utterance for each in cell.reports if isinstance(each, PlayoutStarted)] == [1, 2, 3]
    assert cell.answers() == []
    cell.run(500)
    assert error_ms(cell, 2) == pytest.approx(0, abs=2)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(["say", "clear", "withdraw", "pause", "resume", "run"]), st.integers(0, 700)),
        max_size=12,
    ),
    st.sampled_from(list(ECHOES)),
)
@example([("say", 700), ("pause", 0), ("clear", 0), ("say", 100)], "punctual")
@example([("say", 1), ("clear", 0)], "missing")
def test_in_any_order_every_withdrawal_is_answered_in_turn(script, echoes):
    cell = talking(PathBehaviour(delay_ms=60, jitter_ms=10), echoes)
    number, asked = 2, []
    for what, amount in script:
        if what == "say":
            number += 1
            cell.say(number, 20 * amount, end=amount % 2 == 0)
        elif what in ("clear", "withdraw"):
            cell.pacer.withdraw(CALL, number, what == "clear", cell.now_ns)
            asked.append(number)
        elif what == "pause":
            cell.pacer.pause(CALL)
        elif what == "resume":
            cell.pacer.resume(CALL, cell.now_ns)
        cell.run(amount)
    cell.run(round(1_000 * CLEAR_ECHO_S) + 500)
    assert [answer.through for answer in cell.answers()] == asked
