"""The small parts of the core: the record, the caller's audio, the policy of dialling again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.core.caller_audio import HELD_BYTES, CallerAudio
from aibridge.core.history import REPLAY_TURNS, UNKNOWN_CALLER, History, cut_text
from aibridge.core.realtime import MalformedEventError, decode_event
from aibridge.core.recovery import SESSION_TABLE, TRIES_MAX, Action, Event, Line, Sessions
from aibridge.core.responses import RESPONSE_TABLE, Server, Step
from aibridge.core.timers import Due, Timers
from simulator.voice import clips

from .bench import LOUD, QUIET

S = 1_000_000_000


# --- the record ---


@given(st.text(alphabet="ab \n", max_size=60), st.floats(0, 1))
def test_words_are_cut_whole_and_only_at_the_end(text: str, share: float) -> None:
    head = cut_text(text, share)
    assert text.startswith(head)
    assert len(head) <= round(len(text) * share) or head == text
    assert not head or head == text or text[len(head)].isspace()


def test_nothing_is_cut_from_what_was_heard_whole() -> None:
    assert cut_text("all of it", 1.0) == "all of it"
    assert cut_text("all of it", 0.0) == ""


def test_a_replay_holds_what_was_heard_and_says_what_it_does_not_know() -> None:
    history = History()
    whole, cut, unheard = (history.turn("ai", name) for name in ("whole", "cut", "unheard"))
    for turn, heard in ((whole, 800), (cut, 400), (unheard, 0)):
        turn.text, turn.received_bytes, turn.heard_bytes = "one two three four", 800, heard
    history.speech_started("u", 5)
    history.speech_stopped("u", 9)
    history.committed("u")
    assert [text for _, text in history.replay()] == ["one two three four", "one two", UNKNOWN_CALLER]
    assert history.turns[-1].ended_ns == 9


def test_a_commit_without_speech_is_no_turn() -> None:
    history = History()
    history.committed("idle")
    assert history.turns == []


def test_a_replay_is_bounded_and_keeps_the_end() -> None:
    history = History()
    for number in range(2 * REPLAY_TURNS):
        history.turn("caller", f"u{number}").text = f"{number} " + "word " * 40
    told = history.replay()
    assert len(told) <= REPLAY_TURNS
    assert told[-1][0] is history.turns[-1]
    assert sum(len(text) for _, text in told) <= 24_000


def test_changes_are_given_out_once() -> None:
    history = History()
    history.turn("caller", "u")
    assert [turn.item_id for turn in history.take_changed()] == ["u"]
    assert history.take_changed() == []
    history.find("u")
    assert len(history.take_changed()) == 1


# --- the caller's audio ---


def test_speech_is_heard_while_it_lasts_and_160_ms_longer() -> None:
    caller = CallerAudio()
    assert not caller.is_speaking()
    for _ in range(10):
        caller.take(LOUD)
    assert caller.is_speaking()
    for _ in range(7):
        caller.take(QUIET)
    assert caller.is_speaking()
    for _ in range(2):
        caller.take(QUIET)
    assert not caller.is_speaking()


@pytest.mark.parametrize("clip", clips("caller"), ids=lambda clip: clip.name)
def test_recorded_speech_is_speech_nearly_all_the_time_and_its_noise_afterwards_is_not(clip) -> None:
    caller = CallerAudio()
    heard = total = 0
    loud = [
        at
        for at in range(0, len(clip.audio) - 160, 160)
        if any(code & 0x7F < 0x40 for code in clip.audio[at : at + 160])
    ]
    for at in range(0, loud[-1] + 160, 160):
        caller.take(clip.audio[at : at + 160])
        if at >= loud[0] + 640:
            total += 1
            heard += caller.is_speaking()
    assert heard / total > 0.9
    for _ in range(60):
        caller.take(b"\xfe\x7e" * 80)  # the least noise that mu-law can say
    assert not caller.is_speaking()


def test_a_turn_that_a_lost_session_had_begun_to_hear_is_delivered_from_its_beginning() -> None:
    caller = CallerAudio()
    caller.deliver()
    for number in range(100):
        caller.take(bytes([number]) * 160)
    caller.turn_started()
    caller.take(b"s" * 160)
    caller.session_lost()
    caller.take(b"t" * 160)
    audio = caller.deliver()
    assert audio.endswith(b"s" * 160 + b"t" * 160)
    assert len(audio) == 27 * 160
    assert caller.deliver() == b""


def test_what_waits_is_bounded_the_oldest_goes() -> None:
    caller = CallerAudio()
    for number in range(2_000):
        caller.take(bytes([number % 256]) * 160)
    audio = caller.deliver()
    assert HELD_BYTES <= len(audio) <= HELD_BYTES + 8_000
    assert audio.endswith(bytes([1_999 % 256]) * 160)
    assert caller.dropped_bytes == 2_000 * 160 - len(audio)


# --- dialling again ---


def make(reconnect_s: int = 10) -> tuple[Timers, Sessions]:
    timers = Timers()
    sessions = Sessions(timers, reconnect_ns=reconnect_s * S, renew_ns=3_300 * S, rng=random.Random(3))
    sessions.start(0)
    return timers, sessions


def test_pauses_grow_with_jitter_until_the_time_is_over() -> None:
    timers, sessions = make()
    sessions.step(Event.READY, 0)
    sessions.step(Event.LOST, 60 * S)
    now_ns, tries = 60 * S, []
    while sessions.line is not Line.GONE:
        due_ns = timers.next_due_ns()
        assert due_ns is not None
        for due in timers.take(due_ns):
            now_ns = due_ns
            if due is Due.DIAL:
                tries.append((due_ns - 60 * S) / 1e9)
                assert sessions.step(Event.DIAL_DUE, now_ns) is Action.DIAL
                sessions.step(Event.FAILED, now_ns)
            else:
                assert due is Due.GIVE_UP
                assert sessions.step(Event.GIVE_UP_DUE, now_ns) is Action.GIVE_UP
    assert now_ns == 70 * S
    assert tries[0] <= 0.05
    assert 4 <= len(tries) <= 7
    assert timers.next_due_ns() is None


def test_two_calls_do_not_dial_in_the_same_instant() -> None:
    firsts = set()
    for seed in range(20):
        timers = Timers()
        sessions = Sessions(timers, reconnect_ns=10 * S, renew_ns=3_300 * S, rng=random.Random(seed))
        sessions.step(Event.READY, 0)
        sessions.step(Event.LOST, S)
        firsts.add(timers.next_due_ns())
    assert len(firsts) == 20


def test_sessions_that_come_and_go_end_in_the_fallback_too() -> None:
    timers, sessions = make()
    for number in range(2 * TRIES_MAX):
        sessions.step(Event.READY, number * S)
        if sessions.step(Event.LOST, number * S) is Action.GIVE_UP:
            break
        timers.cancel(Due.DIAL)
        sessions.step(Event.DIAL_DUE, number * S)
    assert sessions.line is Line.GONE


def test_illegal_events_change_nothing() -> None:
    for line in Line:
        for event in Event:
            _, sessions = make()
            sessions.line = line
            if (line, event) not in SESSION_TABLE:
                assert sessions.step(event, 0) is Action.NOTHING
                assert sessions.line is line


def test_nothing_leads_out_of_gone_and_every_state_can_be_lost() -> None:
    assert not any(line is Line.GONE for line, _ in SESSION_TABLE)
    assert all((state, Step.LOST) in RESPONSE_TABLE for state in Server)


# --- what the model sends ---


@pytest.mark.parametrize("number", ["-1", "9007199254740993", "1e300", "1" + 400 * "0"])
@pytest.mark.parametrize(
    "event",
    [
        '{"type": "conversation.item.truncated", "item_id": "i", "audio_end_ms": %s}',
        '{"type": "response.done", "response": {"usage": {"input_token_details": {"text_tokens": %s}}}}',
    ],
)
def test_a_number_that_counts_nothing_makes_an_event_malformed(event: str, number: str) -> None:
    with pytest.raises(MalformedEventError):
        decode_event((event % number).encode())
