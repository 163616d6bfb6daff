"""A call whose line, media socket or worker is lost, with the real pacer and an ear that plays all frames."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aibridge.core.near_ear.events import SpeechBegan, SpeechEnded
from aibridge.core.rules import Rules
from aibridge.core.utterances import UNHEARD_MAX_BYTES
from aibridge.models.port import (
    CallerSilent,
    CallerSpeaks,
    ResponseBegan,
    Words,
)
from aibridge.models.port import Speech as ModelSpeech
from shared.audio import FRAME_BYTES, SILENCE
from tests.aibridge.core.call_line_cell import MS, SPEECH, Cell, padded, talking

# Where the speech of `talking` continues after the loss of its socket at 3 s: what the ear may have missed is repeated.
REPEATED_FROM = 2_980 * 8


def test_a_lost_line_continues_with_the_next_byte() -> None:
    cell = talking()
    cell.pacer_dies()
    cell.run(9_000)
    assert cell.wire == SPEECH
    assert cell.heard_bytes == len(SPEECH)


def test_after_a_lost_socket_the_line_continues_where_the_ear_stopped() -> None:
    cell = talking()
    cell.socket_dies()
    cell.run(9_000)
    assert cell.wire == SPEECH[REPEATED_FROM:]
    assert cell.heard_bytes == len(SPEECH)


def test_a_worker_that_reads_late_of_a_lost_socket_loses_no_speech() -> None:
    """The caller's last audio came to the gateway 2 s before the worker, which stood still, reads it."""
    cell = talking()
    stopped_ns = cell.now_ns
    cell.now_ns += 2_000 * MS
    cell.call.caller_audio(SILENCE * 160, stopped_ns)
    cell.socket_dies()
    cell.run(9_000)
    assert cell.wire == SPEECH[REPEATED_FROM:]


def test_a_line_that_is_lost_after_its_socket_repeats_nothing() -> None:
    cell = talking()
    cell.socket_dies()
    for _ in range(2):
        cell.run(1_500)
        cell.pacer_dies()
    cell.run(9_000)
    assert cell.wire == SPEECH[REPEATED_FROM:]


def test_a_line_that_was_requested_of_a_lost_txpacer_is_requested_of_the_next_one() -> None:
    cell = talking()
    known = cell.epoch
    cell.pacer_dies(is_noticed=False)
    cell.socket_dies(epoch=known)
    cell.run(300)
    assert cell.wire == b""
    cell.call.ask_again(cell.epoch)
    cell.run(9_000)
    assert cell.wire == SPEECH[REPEATED_FROM:]


def test_a_line_whose_request_was_lost_is_requested_again_and_gets_all_speech() -> None:
    cell = Cell()
    cell.says(30_000)
    cell.said.clear()
    cell.run(500)
    assert cell.wire == b""
    cell.call.ask_again(cell.epoch)
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(12_000)
    assert cell.wire == SPEECH


def test_a_line_whose_request_was_late_gets_no_speech_twice() -> None:
    cell = Cell()
    for _ in range(3):
        cell.says(10_000)
        cell.run(500, deliver=False)
        cell.call.ask_again(cell.epoch)
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(12_000)
    assert cell.wire == SPEECH
    assert cell.call.line.asked_ns == 0


def test_a_line_that_was_opened_before_its_gateway_knew_of_the_restart_continues() -> None:
    cell = Cell()
    cell.pacer_dies(is_noticed=False)
    cell.call.ask_again(cell.epoch)
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(1_000)
    cell.gateway_notices()
    cell.run(12_000)
    assert cell.wire == SPEECH


def test_a_successor_knows_the_speech_that_its_predecessor_left_in_the_line() -> None:
    cell = talking()
    cell.worker_dies()
    cell.run(1_000)
    cell.pacer_dies()
    cell.run(12_000)
    assert cell.wire == SPEECH
    assert cell.heard_bytes == len(SPEECH)


@pytest.mark.parametrize(("dies_at_ms", "n_bytes"), [(500, 8_160), (1_500, 8_000)])
def test_the_part_of_a_frame_that_a_failed_worker_left_is_heard_without_a_gap_or_not_at_all(
    dies_at_ms: int, n_bytes: int
) -> None:
    """The worker fails during an answer. The line has 50 frames and 50 bytes of that answer: 1,006 ms."""
    cell = Cell()
    cell.says(8_050)
    cell.run(dies_at_ms)
    cell.worker_dies()
    cell.run(2_000)
    assert cell.wire == padded(SPEECH[:8_050])[:n_bytes]
    assert cell.heard_bytes == min(n_bytes, 8_050)
    assert cell.gaps_ns == 0
    assert not cell.call.conversation.history.turns[0].interrupted
    assert cell.call.conversation.asking.requested == "continue"


def test_a_successor_knows_in_which_utterance_the_media_socket_began() -> None:
    cell = talking()
    cell.socket_dies()
    cell.run(1_000)
    cell.worker_dies()
    cell.run(1_000)
    cell.pacer_dies()
    cell.run(12_000)
    assert cell.wire == SPEECH[REPEATED_FROM:]


def test_an_utterance_that_the_line_finished_between_two_workers_counts_as_heard() -> None:
    cell = Cell()
    cell.says(len(SPEECH))
    cell.event(Words(1, "one two three four"))
    cell.ends()
    cell.run(11_000)
    cell.worker_dies(remembers=False)
    cell.run(100)
    assert list(cell.model.told.values()) == ["one two three four"]
    assert cell.heard_bytes == len(SPEECH)


def test_the_words_that_a_successor_knows_are_not_spread_over_audio_without_words() -> None:
    cell = Cell()
    cell.says(16_000)
    cell.event(Words(1, "one two three four"))
    cell.run(100)
    cell.call.tell_memory()
    cell.says(len(SPEECH))
    cell.run(2_900)
    cell.worker_dies(remembers=False)
    cell.run(100)
    cell.event(CallerSpeaks(1))
    cell.run(200)
    assert list(cell.model.told.values()) == ["one two three four"]


def test_after_an_interruption_a_successor_tells_the_model_no_more_than_was_heard() -> None:
    cell = Cell()
    cell.says(len(SPEECH))
    cell.event(Words(1, "one two three four"))
    cell.ends()
    cell.run(5_000)
    cell.event(CallerSpeaks(1))
    cell.run(200)
    cell.worker_dies(remembers=False)
    cell.run(100)
    assert list(cell.model.told.values()) == ["one two"]


@pytest.mark.parametrize("accident", ["line", "socket"])
def test_a_successor_without_an_answer_requests_the_line_again(accident: str) -> None:
    cell = talking()
    cell.worker_dies()
    if accident == "line":
        cell.pacer_dies()
    else:
        cell.socket_dies()
    cell.run(500)
    assert cell.call.line.asked_ns == 0
    assert cell.call.conversation.sessions.is_live


def test_an_interruption_during_the_restoration_of_a_line_is_answered_with_what_was_heard() -> None:
    cell = talking()
    cell.pacer_dies()
    cell.event(CallerSpeaks(1))
    cell.run(2_000)
    assert not cell.call.conversation.playout.awaits_truth()
    assert cell.wire == SPEECH[: len(cell.wire)]
    assert cell.heard_bytes == len(cell.wire)


def test_a_line_that_is_lost_with_a_clear_counts_as_heard_what_preceded_the_clear() -> None:
    cell = Cell(Rules(barge_in="clear"))
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(3_000)
    cell.event(CallerSpeaks(1))
    cell.pacer_dies()
    cell.run(500)
    assert not cell.call.conversation.playout.awaits_truth()
    assert cell.heard_bytes == pytest.approx(3_000 * 8, abs=320)
    assert len(cell.wire) > 3_050 * 8


@pytest.mark.parametrize("is_new", [True, False])
def test_a_pause_that_ends_during_the_request_of_a_line_does_not_last(is_new: bool) -> None:
    cell = Cell(Rules(confirm_ns=300 * MS))
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(100)
    cell.event(CallerSpeaks(1))
    cell.run(100)
    if is_new:
        cell.pacer_dies()
    else:
        cell.call.ask_again(cell.epoch)
    cell.event(CallerSilent(1))
    cell.run(12_000)
    assert cell.wire == SPEECH


@pytest.mark.parametrize("paused_ms", [100, 480])
def test_a_socket_that_is_lost_in_a_pause_loses_no_speech(paused_ms: int) -> None:
    cell = Cell(Rules(early_ns=500 * MS))
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(1_000)
    cell.near_ear.next.append(SpeechBegan(cell.now_ns))
    before = cell.wire
    cell.run(paused_ms)
    assert cell.call.conversation.playout.is_paused
    assert len(cell.wire) - len(before) <= 2 * FRAME_BYTES
    heard = cell.wire
    cell.socket_dies()
    cell.run(11_000)
    assert not cell.call.conversation.playout.is_paused
    again = len(heard) - SPEECH.index(cell.wire[:FRAME_BYTES])
    assert 0 <= again <= 100 * 8  # the ear's clock may be up to the lead slow
    assert cell.wire == padded(SPEECH)[len(heard) - again :]


@pytest.mark.parametrize("loss", ["txpacer", "worker"])
def test_a_line_that_is_lost_in_a_pause_continues_with_the_next_byte(loss: str) -> None:
    cell = Cell(Rules(early_ns=500 * MS))
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(1_000)
    cell.near_ear.next.append(SpeechBegan(cell.now_ns))
    cell.run(300)
    assert cell.call.conversation.playout.is_paused
    if loss == "txpacer":
        cell.pacer_dies()
    else:
        cell.worker_dies(remembers=False)  # it did when it paused the line
    cell.run(11_000)
    assert not cell.call.conversation.playout.is_paused
    assert cell.wire == padded(SPEECH)


def test_speech_that_exceeds_a_line_is_not_sent_and_does_not_count_as_heard() -> None:
    cell = Cell()
    cell.event(ResponseBegan(1))
    for _ in range(12 * 60):
        cell.event(ModelSpeech(1, 1, bytes(8_000)))
        cell.run(20)
    assert cell.metrics.refused_bytes.value == 0
    assert cell.pacer.reservoir_bytes == pytest.approx(UNHEARD_MAX_BYTES, rel=0.01)
    cell.ends()
    cell.event(CallerSpeaks(1))
    cell.run(500)
    assert cell.heard_bytes == len(cell.wire) < 20 * 8_000


def kept(cell: Cell) -> bytes:
    utterance = cell.call.conversation.utterances.get(1)
    assert utterance is not None
    return utterance.rest(0)


def test_speech_is_not_kept_long_after_the_ear_has_passed_it() -> None:
    cell = Cell()
    while cell.sent < len(SPEECH):
        cell.says(400)
    cell.ends()
    cell.run(8_000)
    assert 2 * 8_000 <= len(kept(cell)) <= 4 * 8_000
    cell.run(3_000)
    assert kept(cell) == b""


acts = st.one_of(
    st.tuples(st.just("says"), st.integers(1, 9_000)),
    st.tuples(st.just("run"), st.integers(10, 900)),
    st.tuples(st.just("late"), st.integers(10, 900)),
    st.tuples(st.just("ask again"), st.just(0)),
    st.tuples(st.just("pacer dies"), st.just(0)),
    st.tuples(st.just("pacer dies unnoticed"), st.integers(0, 300)),
    st.tuples(st.just("socket dies"), st.just(0)),
    st.tuples(st.just("first sound"), st.just(0)),
    st.tuples(st.just("sound ends"), st.just(0)),
)


# The ear waited for speech, and txpacer died before the worker knew.
@example([("says", 161), ("run", 890), ("says", 8_000), ("pacer dies unnoticed", 210)])
@example([("says", 161), ("run", 210), ("says", 8_000), ("late", 730), ("pacer dies unnoticed", 160)])
@settings(max_examples=400, deadline=None)
@given(st.lists(acts, max_size=25))
def test_after_any_loss_each_socket_continues_the_speech_where_the_ear_was(script: list[tuple[str, int]]) -> None:
    cell = Cell(Rules(early_ns=500 * MS))
    begin = 0
    for what, amount in script:
        if what == "says":
            if cell.sent < len(SPEECH):
                cell.says(amount)
        elif what == "run":
            cell.run(amount)
        elif what == "late":
            cell.run(amount, deliver=False)
        elif what == "ask again":
            if cell.call.line.asked_ns:
                cell.call.ask_again(cell.epoch)
        elif what == "pacer dies":
            cell.pacer_dies()
        elif what == "pacer dies unnoticed":
            cell.pacer_dies(is_noticed=False)
            cell.run(amount)
            cell.gateway_notices()
        elif what == "first sound":
            cell.near_ear.next.append(SpeechBegan(cell.now_ns))
        elif what == "sound ends":
            cell.near_ear.next.append(SpeechEnded(cell.now_ns, 100 * MS))
        elif what == "socket dies":
            assert padded(SPEECH[begin : cell.sent]).startswith(cell.wire)
            cell.socket_dies()
            begin = cell.call.line.base[1] if cell.call.line.base[0] else begin + len(cell.wire)
    if cell.call.line.asked_ns:
        cell.call.ask_again(cell.epoch)
    if cell.sent:
        cell.ends()
    cell.run(12_000)
    assert cell.wire == padded(SPEECH[begin : cell.sent])
    assert cell.call.line.asked_ns == 0
