"""A call that an agent hands off to another one: who speaks when, what the other one is told, and failures."""

from __future__ import annotations

import json

from aibridge.core import built_in
from aibridge.core.agent import Agent
from aibridge.core.built_in import BuiltIn
from aibridge.core.commands import DialModel, EndCall, ForgoSession, UseSession
from aibridge.core.hand_off import DEADLINE_NS, NOTE, HandOff, Part
from aibridge.core.rules import Rules, Script
from aibridge.core.silence import Patience
from aibridge.core.successor import successor, tell
from aibridge.core.tools import ToolRule
from aibridge.models.port import AnswerTool, Ask, Tell, TellAnswer, TellCall, ToolCalled
from tests.aibridge.bench import MS, Bench

OFFICE = Agent(instructions="I am the office.", voice="cedar", name="office")
PART = Part(
    OFFICE, Script(), Rules(patience=Patience(silence_ns=5_000 * MS)), {"file": ToolRule(1_000 * MS)}, BuiltIn()
)


def bench(*, start: bool = True) -> Bench:
    return Bench(built_in=BuiltIn(colleagues=("office",)), tools={"look": ToolRule(5_000 * MS)}, start=start)


def hands_off(on: Bench, agent: str = "office", *, tool_call: int = 1) -> None:
    """The model announces the other agent, and calls it; the caller begins to hear that."""
    on.began()
    on.speech(2_000, words="I give you to the office.")
    on.speech_ended()
    on.event(ToolCalled(1, tool_call, "hand_off", json.dumps({"agent": agent})))
    dialled(on)
    on.ended()
    on.ear()


def dialled(on: Bench) -> None:
    """What the call's shell does with DialModel."""
    if on.all(DialModel):
        on.talk.coming = PART if on.all(DialModel)[-1].agent else None


def test_the_other_agents_session_is_dialled_at_once_and_takes_over_while_the_announcement_is_heard() -> None:
    on = bench()
    hands_off(on)
    assert on.all(DialModel) == [DialModel("office")]
    on.take()
    on.wait(300)
    on.ready()
    taken = on.take()
    kinds = [type(command) for command in taken]
    assert kinds[:2] == [AnswerTool, UseSession], "the first agent's session gets its answer; it is left then"
    assert [each.text for each in taken if isinstance(each, Tell)] == ["I give you to the office.", NOTE]
    assert [type(each) for each in taken if isinstance(each, TellCall | TellAnswer)] == [TellCall, TellAnswer]
    assert [each.purpose for each in on.all(Ask)] == ["answer"]
    assert on.talk.hand_off.state is HandOff.NONE
    assert on.count("bridge_hand_offs", "done") == 1


def test_instructions_tools_and_patience_are_the_other_agents_from_then_on() -> None:
    on = bench()
    hands_off(on)
    on.ready()
    assert on.talk.agent == OFFICE.told()
    assert on.talk.tool_rule("file") == ToolRule(1_000 * MS)
    assert on.talk.patience.silence_ns == 5_000 * MS
    on.began(2, "answer")
    on.event(ToolCalled(2, 2, "look", "{}"))
    assert on.all(AnswerTool)[-1].output == '{"error":"no such function"}'


def test_whoever_speaks_meanwhile_is_answered_by_the_first_agent() -> None:
    on = bench()
    hands_off(on)
    on.wait(500)
    on.speaks()
    on.withdrawn(1, (1, 600))
    on.ready()
    assert len(on.all(UseSession)) == 1, "the call's first session"
    on.stops()
    on.began(2)
    on.speech(500, 2, 2)
    on.speech_ended(2)
    assert len(on.all(UseSession)) == 1
    on.ended(2)
    assert len(on.all(UseSession)) == 2


def test_another_tool_is_answered_before_the_other_agent_takes_over() -> None:
    on = bench()
    hands_off(on)
    on.began(2)
    on.event(ToolCalled(2, 2, "look", "{}"))
    on.ended(2)
    on.ready()
    assert len(on.all(UseSession)) == 1
    on.tool_answers(tool_call=2)
    on.wait(200)
    on.began(3, "answer")
    on.ended(3)
    assert len(on.all(UseSession)) == 2


def test_a_model_whose_colleague_cannot_be_reached_learns_it_and_goes_on() -> None:
    on = bench()
    hands_off(on)
    on.dial_failed(refused=True)
    assert on.all(AnswerTool)[-1].output == '{"error":"the other agent cannot be reached"}'
    assert len(on.all(UseSession)) == 1
    assert [each.purpose for each in on.all(Ask)] == ["answer"]
    assert on.count("bridge_hand_offs", "failed") == 1


def test_a_session_that_is_not_ready_in_time_is_forgone() -> None:
    on = bench()
    hands_off(on)
    on.wait(2_000)
    on.heard()
    on.wait(DEADLINE_NS // MS + 1_100)
    assert len(on.all(ForgoSession)) == 1
    assert "took too long" in on.all(AnswerTool)[-1].output
    on.ready()
    assert len(on.all(UseSession)) == 1


def test_a_caller_who_waits_for_the_other_agent_in_silence_hears_why() -> None:
    on = Bench(built_in=BuiltIn(colleagues=("office",), filler_after_ns=3_000 * MS))
    hands_off(on)
    on.wait(2_000)
    on.heard()
    on.wait(1_100)
    assert [each.purpose for each in on.all(Ask)] == ["filler"]


def test_an_agent_that_does_not_come_keeps_no_call_from_its_end() -> None:
    on = bench()
    hands_off(on)
    on.began(2)
    on.calls("end_call", 2, tool_call=2)
    on.ended(2)
    on.wait(2_000)
    on.heard()
    assert len(on.all(EndCall)) == 1


def test_a_lost_session_does_not_lose_the_hand_off() -> None:
    on = bench()
    hands_off(on)
    on.lost()
    on.ready()
    assert on.all(DialModel) == [DialModel("office")]
    assert on.talk.agent == OFFICE.told()
    assert on.all(Tell)[-1].text == NOTE
    assert [each.purpose for each in on.all(Ask)] == ["answer"]


def test_a_call_that_loses_both_sessions_goes_on_with_its_first_agent() -> None:
    on = bench()
    hands_off(on)
    on.lost()
    on.dial_failed(refused=True)
    on.wait(500)
    dialled(on)
    assert on.all(DialModel) == [DialModel("office"), DialModel()]
    on.ready()
    assert on.talk.agent == b""
    assert "cannot be reached" in on.all(TellAnswer)[-1].output


def test_a_successor_of_the_worker_begins_the_hand_off_again() -> None:
    on = bench()
    hands_off(on)
    told, line = tell(on.talk, 0)
    after = bench(start=False)
    after.done += successor(after.talk, told, line, [((1, 16_000, 800, True, after.ns), b"")], after.ns, 0)
    assert after.all(DialModel) == [DialModel("office")]
    dialled(after)
    after.ready()
    assert after.talk.agent == OFFICE.told()
    assert [each.purpose for each in after.all(Ask)] == ["answer"]


def test_the_model_can_name_no_agent_that_the_file_does_not_name_and_one_at_a_time() -> None:
    on = bench()
    hands_off(on, "boss")
    assert on.all(AnswerTool)[-1].output == '{"error":"there is no such agent"}'
    hands_off(on)
    on.began(2)
    on.event(ToolCalled(2, 9, "hand_off", '{"agent": "office"}'))
    assert on.all(AnswerTool)[-1].output == '{"error":"the call is being handed off"}'
    assert built_in.ENDING not in [each.output for each in on.all(AnswerTool)]
