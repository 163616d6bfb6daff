"""A worker takes over a call from a failed worker, and the conversation continues."""

from __future__ import annotations

from enum import Enum

import pytest
from msgspec import structs

from aibridge.core import successor
from aibridge.core.barge_in import Floor
from aibridge.core.cancel_once import Making
from aibridge.core.commands import EndCall, ResumeSpeech, Speak, WithdrawSpeech
from aibridge.core.conversation import Conversation
from aibridge.core.early_pause import Near
from aibridge.core.goodbye_and_fallback import Goodbye
from aibridge.core.greeting_protection import Opening
from aibridge.core.keypad import Keys
from aibridge.core.owed_and_retry import Owed
from aibridge.core.playout import LineState
from aibridge.core.rules import Line, Rules, Script
from aibridge.core.story import LineMemory, Said, Story
from aibridge.core.successor import REGIONS, InLine, tell
from aibridge.core.tones import SEND_DTMF, Tones
from aibridge.core.tools import Reply
from aibridge.models.port import Ask, CallerWords, Tell
from shared.plan import CallPlan, Conference
from tests.aibridge.bench import MS, T0, Bench

EPOCH_NS = 1_700_000_000_000_000_000
GREETED = Said(1, "ai", 1, "Hello.", 1_000, 2_000, 8_000, 8_000)
ASKED = Said(2, "caller", 1, "A question.", 3_000, 4_000)
AT_REST = {"notice": "OVER", "greeting": "OVER", "making": "IDLE"}


def in_line(number: int, size: int, paced: int = 0, *, ended: bool = True, ear_ns: int = 0) -> InLine:
    return (number, size, paced, ended, ear_ns), bytes(size - paced)


def succeed(story: Story, line: LineMemory | None = None, *held: InLine, script: Script | None = None) -> Bench:
    bench = Bench(start=False, script=script)
    bench.done += successor.successor(bench.talk, story, line or LineMemory(), held, bench.ns, EPOCH_NS)
    bench.ready()
    return bench


def taken_over(bench: Bench, *held: InLine, script: Script | None = None) -> Bench:
    """The successor of this bench's conversation, at the same instant of the same machine."""
    story, line = tell(bench.talk, EPOCH_NS)
    after = Bench(start=False, script=script, rules=Rules())
    after.now = bench.now
    after.done += successor.successor(after.talk, story, line, held, after.ns, EPOCH_NS)
    after.ready()
    return after


def purposes(bench: Bench) -> list[str]:
    bench.wait(5_000)
    return [command.purpose for command in bench.all(Ask)]


# --- what is owed ---


def test_a_successor_answers_an_unanswered_turn() -> None:
    assert purposes(succeed(Story(turns=(GREETED, ASKED), states=AT_REST))) == ["answer"]


def test_a_successor_asks_the_caller_to_repeat_a_turn_whose_words_are_lost() -> None:
    assert purposes(succeed(Story(turns=(GREETED, structs.replace(ASKED, text="")), states=AT_REST))) == ["repeat"]


def test_a_successor_continues_a_sentence_that_broke_off() -> None:
    story = Story(turns=(GREETED, ASKED), states=AT_REST | {"making": "ACTIVE"}, purpose="answer")
    bench = succeed(story, LineMemory({}, 1), in_line(3, 4_000, 800, ended=False))
    bench.heard(3)
    assert purposes(bench) == ["continue"]


def test_a_successor_does_not_request_an_answer_that_the_line_holds_whole() -> None:
    story = Story(turns=(GREETED, ASKED), states=AT_REST | {"owed": "EXPECTED"})
    bench = succeed(story, LineMemory({}, 1), in_line(3, 4_000))
    bench.heard(3)
    assert purposes(bench) == []


def test_a_successor_waits_for_a_caller_who_is_owed_nothing() -> None:
    assert purposes(succeed(Story(turns=(GREETED,), states=AT_REST))) == []


def test_a_successor_asks_the_caller_to_repeat_words_that_only_the_failed_worker_heard() -> None:
    bench = succeed(Story(turns=(GREETED,), states=AT_REST | {"floor": "SPEAKING"}))
    bench.wait(1_900)
    assert bench.all(Ask) == []
    assert purposes(bench) == ["repeat"]


def test_a_turn_that_continues_into_the_new_session_is_answered_there() -> None:
    bench = succeed(Story(turns=(GREETED,), states=AT_REST | {"floor": "SPEAKING"}))
    bench.wait(500)
    bench.speaks()
    bench.wait(300)
    bench.stops()
    bench.began()
    bench.speech(500, 5_000)
    bench.ended()
    assert purposes(bench) == []


def test_without_a_story_the_successor_begins_the_call_again() -> None:
    bench = succeed(Story(), script=Script(greeting=Line("Hello.")))
    assert purposes(bench)[:1] == ["greeting"]


# --- every region ---

# What becomes of a state whose session dies with the worker; all other states stay.
AFTER_THE_LOSS: dict[Enum, Enum] = {
    **dict.fromkeys(Making, Making.IDLE),
    **dict.fromkeys(Floor, Floor.QUIET),
    # Its near ear has heard nothing yet.
    **dict.fromkeys(Near, Near.QUIET),
    # The session that would have answered is gone; one of the caller's turns is owed an answer.
    Owed.EXPECTED: Owed.ANSWER,
    Opening.ASKED: Opening.DUE,
    Opening.MAKING: Opening.DUE,
    Owed.FILLER: Owed.NOTHING,
    Owed.NUDGE: Owed.NOTHING,
    Reply.WAITS: Reply.NONE,
    # The line does not hold them any more: they were heard.
    Tones.PLAYING: Tones.NONE,
    # Nothing is protected any more.
    Keys.WAITING: Keys.PRESSING,
    # txpacer's answer went to the predecessor, and the pause ends with the loss.
    **dict.fromkeys(LineState, LineState.FLOWING),
}


@pytest.mark.parametrize(
    ("region", "state"),
    [(name, state) for name, region in REGIONS.items() for state in type(region(Bench().talk).state)],
    ids=str,
)
def test_a_successor_restores_each_state_of_each_region_and_then_loses_the_session(region: str, state: Enum) -> None:
    bench = Bench(script=Script(notice=Line("Recorded."), greeting=Line("Hello.")))
    bench.talk.asking.requested = "answer"
    for name, value in (("notice", Opening.OVER), ("greeting", Opening.OVER)):
        REGIONS[name](bench.talk).state = value
    bench.began()
    bench.speech(1_000, words="An answer.")
    bench.ended()
    REGIONS[region](bench.talk).state = state
    if state in (Keys.PRESSING, Keys.WAITING):
        bench.talk.keypad.pressed = "1"
    if state in (Tones.WAITING, Tones.PLAYING):
        rule = bench.talk.tool_rule(SEND_DTMF)
        call = bench.talk.tools.begin(1, SEND_DTMF, '{"digits": "1"}', rule, bench.ns, response=1)
        assert call is not None
        bench.talk.history.tool_called(call, bench.ns)
    if region == "line":
        bench.talk.floor.state = Floor.CONFIRMING
    story, line = tell(bench.talk, EPOCH_NS)
    if region in ("notice", "greeting"):
        line = structs.replace(line, purposes={1: region})  # it is what the line holds
    after = Bench(start=False)
    successor.successor(after.talk, story, line, [in_line(1, 8_000, 800)], after.ns, EPOCH_NS)
    expected = AFTER_THE_LOSS.get(state, state)
    if region == "floor" and state not in (Floor.QUIET, Floor.ECHOING):
        assert after.talk.asking.chart.state is Owed.REPEAT  # what was said meanwhile is lost
    if state is Reply.WAITS:
        assert after.talk.asking.chart.state is Owed.ANSWER  # the next session speaks about the answers
    if (region, state) == ("making", Making.REQUESTED):
        assert after.talk.asking.chart.state is Owed.ANSWER
    assert REGIONS[region](after.talk).state is expected


def test_every_region_of_a_conversation_but_hand_off_and_session_which_begin_again_is_in_the_story() -> None:
    charts = {id(region(talk)) for talk in [Bench().talk] for region in REGIONS.values()}
    talk = Bench().talk
    parts = (talk, talk.playout, talk.asking, talk.sessions, talk.tools, talk.keypad, talk.tones)
    regions = [each for part in parts for each in vars(part).values() if type(each).__name__ == "Chart"]
    told = [region(talk) for region in REGIONS.values()]
    assert len(charts) == len(REGIONS)
    assert [each for each in regions if not any(each is one for one in told)] == [talk.hand_off, talk.sessions.chart]


def test_a_successor_knows_who_said_what_and_how_much_of_it_was_heard() -> None:
    bench = Bench()
    bench.talk.plan = CallPlan(from_number="+15005550001", variables={"name": "Ada"})
    bench.answers()
    bench.speaks()
    bench.withdrawn(1, (1, 2_500))
    bench.stops()
    bench.event(CallerWords(1, "Stop."))
    after = taken_over(bench)
    assert [(turn.key, turn.heard_text, turn.interrupted) for turn in after.talk.history.turns] == [
        (turn.key, turn.heard_text, turn.interrupted) for turn in bench.talk.history.turns
    ]
    for was, now in zip(bench.talk.history.turns, after.talk.history.turns, strict=True):
        assert abs(was.started_ns - now.started_ns) < MS
        assert (was.received_bytes, was.heard_bytes) == (now.received_bytes, now.heard_bytes)
    assert [each.text for each in after.all(Tell)] == ["one two three four five", "Stop."]


def test_a_successor_resumes_a_line_that_was_paused_to_confirm_an_interruption() -> None:
    bench = Bench(rules=Rules(confirm_ns=300 * MS))
    bench.answers()
    bench.speaks()
    assert bench.talk.playout.is_paused
    after = taken_over(bench, in_line(1, 40_000, 8_000, ear_ns=T0))
    assert after.all(ResumeSpeech) == [ResumeSpeech()]
    assert not after.talk.playout.is_paused


def test_a_successor_ends_the_call_after_a_goodbye_that_waits_to_be_heard() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.calls("end_call")
    bench.ended()
    bench.talk.order = Conference("room")
    after = taken_over(bench, in_line(1, 8_000, 800, ear_ns=T0))
    assert after.all(EndCall) == []
    after.heard()
    assert after.all(EndCall) == [EndCall(Conference("room"), 1, "transfer_call")]


def test_a_successor_repeats_the_order_of_a_call_that_was_handed_on() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000)
    bench.calls("end_call")
    bench.ended()
    bench.ear()
    bench.heard()
    assert bench.talk.goodbye.state is Goodbye.OVER
    after = taken_over(bench)
    assert [each.order for each in after.all(EndCall)] == [bench.talk.order]
    assert after.talk.ended


def test_a_successor_repeats_a_recording_notice_that_broke_off() -> None:
    script = Script(notice=Line("This call is recorded."), greeting=Line("Hello."))
    bench = Bench(script=script)
    bench.began(1, "notice")
    bench.speech(400)
    after = taken_over(bench, in_line(1, 3_200, 800, ended=False, ear_ns=T0), script=script)
    assert purposes(after)[:1] == ["notice"]


def test_a_successor_keeps_the_protection_of_a_greeting() -> None:
    script = Script(greeting=Line("Hello."))
    bench = Bench(script=script)
    bench.began(1, "greeting")
    bench.speech(3_000)
    bench.ended()
    bench.ear()
    after = taken_over(bench, in_line(1, 24_000, 800, ear_ns=bench.ns), script=script)
    after.now += 200
    after.speaks()
    assert after.all(WithdrawSpeech) == []
    after.wait(400)
    assert len(after.all(WithdrawSpeech)) == 1


def test_a_notice_that_the_line_finished_between_two_workers_counts_as_heard() -> None:
    bench = succeed(Story(turns=(GREETED,), states=AT_REST | {"notice": "MADE"}))
    assert bench.talk.notice.state is Opening.OVER


def test_a_successor_draws_no_number_that_the_failed_worker_may_have_drawn() -> None:
    bench = Bench()
    bench.answers()
    bench.speaks()
    after: Conversation = taken_over(bench, in_line(1, 40_000, 8_000, ear_ns=T0)).talk
    assert after.numbers.utterance >= 1_000
    assert after.numbers.turn >= 1_000


def test_a_story_holds_only_the_turns_that_a_new_session_is_told() -> None:
    bench = Bench()
    for number in range(1, 11):
        bench.speaks(number)
        bench.stops(number)
        bench.event(CallerWords(number, "word " * 2_000))
    story, _ = tell(bench.talk, EPOCH_NS)
    assert [said.number for said in story.turns] == [9, 10]


def test_a_turn_that_changes_after_its_end_is_told_as_it_is_then() -> None:
    bench = Bench()
    bench.began()
    bench.speech(1_000, words="one two")
    bench.ear()
    bench.speaks()
    bench.withdrawn(1, (1, 500))
    tell(bench.talk, EPOCH_NS)
    bench.speech(1_000, words=" three four")
    said = tell(bench.talk, EPOCH_NS)[0].turns[0]
    assert (said.text, said.made_bytes, said.heard_bytes) == ("one two three four", 16_000, 4_000)


def test_a_successor_without_a_story_continues_what_the_line_has_and_repeats_no_number() -> None:
    script = Script(greeting=Line("Hello.", bytes(8_000)))
    bench = succeed(Story(), LineMemory(), in_line(1, 8_000, 800, ear_ns=T0), script=script)
    assert bench.all(Speak) == []
    assert purposes(bench) == []
    fresh = succeed(Story(), script=script)
    assert [each.utterance > 1_000 for each in fresh.all(Speak)] == [True]
