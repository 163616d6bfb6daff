"""A silent caller is asked for and then said goodbye to; a call that lasts too long is ended."""

from __future__ import annotations

import pytest

from aibridge.core.commands import EndCall
from aibridge.core.rules import Rules
from aibridge.core.silence import GRACE_NS, Patience
from aibridge.core.successor import successor, tell
from aibridge.core.tools import ToolRule
from aibridge.models.port import Ask, CallerWords, Tell
from tests.aibridge.bench import MS, Bench

SILENT = Rules(patience=Patience(silence_ns=10_000 * MS, nudges=1))
POLITE = Rules(patience=Patience(silence_ns=60_000 * MS, goodbye_ns=8_000 * MS, goodbyes=("pfiat di",)))
SHORT = Rules(patience=Patience(length_ns=40_000 * MS))


def purposes(bench: Bench) -> list[str]:
    return [ask.purpose for ask in bench.all(Ask)]


def spoken(bench: Bench, number: int, *, heard: bool = True) -> None:
    """The model answers the last request, and the caller hears it."""
    bench.began(number, bench.all(Ask)[-1].purpose)
    bench.speech(1_000, number, number)
    bench.speech_ended(number)
    bench.ended(number)
    bench.ear(number)
    bench.wait(1_000)
    if heard:
        bench.heard(number)


def test_a_silent_caller_is_asked_for_once_then_said_goodbye_to_and_the_call_ends() -> None:
    bench = Bench(rules=SILENT)
    bench.wait(10_100)
    assert purposes(bench) == ["nudge"]
    spoken(bench, 1)
    bench.wait(10_100)
    assert purposes(bench) == ["nudge", "farewell"]
    assert bench.all(EndCall) == []
    spoken(bench, 2)
    assert len(bench.all(EndCall)) == 1


def test_silence_is_counted_from_what_was_heard_and_not_from_what_was_sent() -> None:
    bench = Bench(rules=SILENT)
    bench.began()
    bench.speech(30_000)
    bench.speech_ended()
    bench.ended()
    bench.ear()
    bench.wait(30_000)
    assert purposes(bench) == []
    bench.heard()
    bench.wait(9_900)
    assert purposes(bench) == []
    bench.wait(200)
    assert purposes(bench) == ["nudge"]


def test_a_tool_that_runs_is_no_silence() -> None:
    bench = Bench(rules=SILENT, tools={"look": ToolRule(60_000 * MS)})
    bench.began()
    bench.calls("look")
    bench.ended()
    bench.wait(30_000)
    assert purposes(bench) == []


def test_a_caller_who_answers_is_given_the_whole_time_again() -> None:
    bench = Bench(rules=SILENT)
    bench.wait(10_100)
    spoken(bench, 1)
    bench.speaks()
    bench.stops()
    bench.began(2)
    bench.speech(500, 2, 2)
    bench.ended(2)
    bench.ear(2)
    bench.heard(2)
    bench.wait(10_100)
    assert purposes(bench) == ["nudge", "nudge"]


def test_a_caller_who_speaks_into_the_farewell_keeps_the_call() -> None:
    bench = Bench(rules=SILENT)
    bench.wait(10_100)
    spoken(bench, 1)
    bench.wait(10_100)
    spoken(bench, 2, heard=False)
    bench.speaks()
    bench.withdrawn(2, (2, 1_000))
    bench.wait(5_000)
    assert bench.all(EndCall) == []


def says(bench: Bench, words: str, number: int = 1) -> None:
    bench.began(number)
    bench.speech(1_000, number, number, words=words)
    bench.speech_ended(number)
    bench.ended(number)
    bench.ear(number)
    bench.wait(1_000)
    bench.heard(number)


@pytest.mark.parametrize("words", ["Thank you for calling. Goodbye!", "Alles Gute, auf Wiederhören.", "Pfiat di!"])
def test_a_goodbye_that_no_end_call_follows_ends_the_call_when_both_are_silent(words: str) -> None:
    bench = Bench(rules=POLITE)
    says(bench, words)
    bench.wait(7_900)
    assert bench.all(EndCall) == []
    bench.wait(200)
    assert len(bench.all(EndCall)) == 1
    assert purposes(bench) == [], "nothing more is said"


@pytest.mark.parametrize("words", ["Shall I say goodbye?", "Goodbye is a word. " + "Now listen to this. " * 6, "Yes."])
def test_words_that_are_no_goodbye_wait_as_long_as_any(words: str) -> None:
    bench = Bench(rules=POLITE)
    says(bench, words)
    bench.wait(30_000)
    assert bench.all(EndCall) == []


def test_a_caller_who_speaks_after_the_goodbye_keeps_the_call() -> None:
    bench = Bench(rules=POLITE)
    says(bench, "Goodbye!")
    bench.wait(7_000)
    bench.speaks()
    bench.stops()
    says(bench, "Yes, we are open on Sunday.", 2)
    bench.wait(30_000)
    assert bench.all(EndCall) == []


MACHINE = Rules(patience=Patience(ends_voicemail=True))
GREETINGS = [
    "Hi, you've reached Ada. I can't take your call right now. Please leave a message after the beep.",
    "Your call has been forwarded to an automated voice messaging system.",
    "Dies ist die Mailbox von Ada. Bitte sprechen Sie nach dem Signalton.",
]


def caller_says(bench: Bench, words: str, turn: int = 1) -> None:
    bench.speaks(turn)
    bench.stops(turn)
    bench.event(CallerWords(turn, words))


@pytest.mark.parametrize("words", GREETINGS)
def test_a_voicemail_greeting_ends_the_call_where_the_agent_wants_that(words: str) -> None:
    bench, patient = Bench(rules=MACHINE), Bench()
    caller_says(bench, words)
    caller_says(patient, words)
    assert [each.reason for each in bench.all(EndCall)] == ["a voicemail greeting"]
    assert bench.count("bridge_voicemails") == 1
    assert patient.all(EndCall) == []


@pytest.mark.parametrize("words", ["I would like to leave a message.", "My voicemail does not work.", "Hello?"])
def test_a_person_is_no_voicemail(words: str) -> None:
    bench = Bench(rules=MACHINE)
    caller_says(bench, words)
    assert bench.all(EndCall) == []


def test_who_has_talked_for_a_minute_is_no_voicemail() -> None:
    bench = Bench(rules=MACHINE)
    bench.wait(61_000)
    caller_says(bench, GREETINGS[0])
    assert bench.all(EndCall) == []


def test_the_model_is_warned_before_the_longest_call_ends_and_the_caller_hears_a_goodbye() -> None:
    bench = Bench(rules=SHORT)
    bench.wait(19_900)
    assert bench.all(Tell) == []
    bench.wait(200)
    assert [each.text for each in bench.all(Tell)] == [
        "This call may last 20 more seconds. Bring it to an end, and say goodbye before that."
    ]
    bench.wait(20_000)
    assert purposes(bench) == ["farewell"]
    spoken(bench, 1)
    assert len(bench.all(EndCall)) == 1


def test_a_caller_who_talks_on_after_the_longest_call_is_cut_off_after_the_grace_period() -> None:
    bench = Bench(rules=SHORT)
    bench.wait(40_100)
    bench.speaks()
    bench.wait(GRACE_NS // MS - 1_000)
    assert bench.all(EndCall) == []
    bench.wait(2_000)
    assert len(bench.all(EndCall)) == 1


def test_a_successor_counts_the_length_from_the_beginning_of_the_call() -> None:
    bench = Bench(rules=SHORT)
    bench.wait(30_000)
    story, line = tell(bench.talk, 0)
    after = Bench(start=False, rules=SHORT)
    after.now = bench.now
    after.done += successor(after.talk, story, line, [], after.ns, 0)
    after.ready()
    after.wait(10_100)
    assert purposes(after) == ["farewell"]
