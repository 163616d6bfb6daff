"""The functions that come with the system, and a transfer from its order to the caller's return."""

from __future__ import annotations

import json

from aibridge.core import built_in, story
from aibridge.core.agent import Agent
from aibridge.core.built_in import BuiltIn
from aibridge.core.commands import EndCall
from aibridge.core.handed_on import HandedOn
from aibridge.core.successor import successor, tell
from aibridge.models.port import AnswerTool, Ask, Tell, TellAnswer, ToolCalled
from shared.agents.destinations import Destination
from shared.plan import CallPlan, Dial
from tests.aibridge.bench import Bench

DESK = Destination("+1 (555) 0123", "Anything about money.", timeout_s=25)
PLAN = CallPlan(from_number="+15005550006", to_number="+15005550001")
ORDER = Dial("+15550123", "+15005550006", 25, "+15005550001")


def bench(plan: CallPlan = PLAN) -> Bench:
    made = Bench(built_in=BuiltIn({"desk": DESK}))
    made.talk.plan = plan
    return made


def transfers(on: Bench, destination: str = "desk", *, number: int = 1) -> None:
    """The model announces the transfer, and calls it."""
    on.began(number)
    on.speech(2_000, number, number, words="I connect you now.")
    on.speech_ended(number)
    on.event(ToolCalled(number, number, "transfer_call", json.dumps({"destination": destination})))
    on.ended(number)
    on.ear(number)


def test_the_model_is_offered_what_the_agents_file_switches_on_and_nothing_else() -> None:
    none = Agent(instructions="x", end_call=False)
    assert built_in.functions(none) == []
    agent = Agent(instructions="x", transfer={"desk": DESK}, hand_off={"sales": "Orders."})
    found = {each.name: each.parameters for each in built_in.functions(agent)}
    assert list(found) == ["end_call", "transfer_call", "hand_off"]
    assert found["transfer_call"]["properties"]["destination"]["enum"] == ["desk"]
    assert "Anything about money." in found["transfer_call"]["properties"]["destination"]["description"]
    assert "0123" not in json.dumps(found), "the model knows no number"


def test_a_transfer_waits_until_its_announcement_was_heard() -> None:
    on = bench()
    transfers(on)
    assert on.all(EndCall) == []
    on.wait(2_000)
    on.heard()
    assert on.all(EndCall) == [EndCall(ORDER, 1, "transfer_call")]
    assert [each.purpose for each in on.all(Ask)] == [], "the model does not speak about the answer"


def test_the_model_can_name_no_destination_that_the_file_does_not_name() -> None:
    on = bench()
    for number, name in enumerate(("+15559999", "", "Desk"), 1):
        transfers(on, name, number=number)
        on.wait(2_000)
        on.heard(number)
    assert on.all(EndCall) == []
    assert [each.output for each in on.all(AnswerTool)] == ['{"error":"there is no such destination"}'] * 3


def test_nobody_can_be_connected_to_a_browser_phone() -> None:
    on = bench(CallPlan(from_number="browser"))
    transfers(on)
    assert [each.output for each in on.all(AnswerTool)] == ['{"error":"this is no telephone call"}']


def test_a_caller_who_speaks_into_the_announcement_keeps_the_agent_and_the_model_learns_it() -> None:
    on = bench()
    transfers(on)
    on.wait(500)
    on.speaks()
    on.withdrawn(1, (1, 600))
    on.wait(5_000)
    assert on.all(EndCall) == []
    assert [each.text for each in on.all(Tell)] == [built_in.NOTE_CALLED_OFF]
    assert on.talk.history.turns[-1].shown_text == f"transfer_call: {built_in.CALLED_OFF}"


def test_the_callers_number_is_shown_where_it_is_one_and_ours_otherwise() -> None:
    sip = Destination("sip:desk@pbx.example.com")
    own = Destination("+15550123", caller_id="own")
    anonymous = CallPlan(from_number="anonymous", to_number="+15005550001")
    assert built_in.dial(DESK, PLAN) == ORDER
    assert built_in.dial(own, PLAN) == Dial("+15550123", "+15005550001", 20)
    assert built_in.dial(sip, PLAN) == Dial("sip:desk@pbx.example.com", "+15005550006", 20, "+15005550001")
    assert built_in.dial(DESK, anonymous) == Dial("+15550123", "+15005550001", 25)
    assert built_in.dial(DESK, CallPlan(from_number="sip:a@b.example")) == Dial("+15550123", "", 25)


def test_a_caller_who_is_back_finds_an_agent_that_knows_why() -> None:
    on = bench()
    transfers(on)
    on.wait(2_000)
    on.heard()
    handed_on = HandedOn()
    handed_on.note("CA1", ORDER, story.encode(*tell(on.talk, 0)))
    after = Bench(built_in=BuiltIn({"desk": DESK}), start=False)
    memory = story.decode(handed_on.take_back("CA1", PLAN, "busy"))
    after.done += successor(after.talk, *memory, [], after.ns, 0)
    after.ready()
    busy = "The call was passed on to somebody else, and the caller is back with you now. The line was busy."
    assert [json.loads(each.output)["state"] for each in after.all(TellAnswer)] == [busy]
    assert after.all(Tell)[-1].text == busy
    assert [each.purpose for each in after.all(Ask)] == ["answer"]
    assert after.talk.history.take_changed(), "the record learns it, too"


def test_a_transfer_survives_the_worker_that_ordered_it() -> None:
    on = bench()
    transfers(on)
    told, line = tell(on.talk, 0)
    after = Bench(built_in=BuiltIn({"desk": DESK}), start=False)
    after.done += successor(after.talk, told, line, [((1, 16_000, 800, True, after.ns), b"")], after.ns, 0)
    assert after.all(EndCall) == []
    after.wait(2_000)
    after.heard()
    assert after.all(EndCall) == [EndCall(ORDER, 1, "transfer_call")]


def test_arguments_that_are_no_json_name_nothing() -> None:
    assert [built_in.argument(text, "agent") for text in ("", "[1]", "{", '{"agent": 1}', '{"agent": "a"}')] == [
        *("", "", "", ""),
        "a",
    ]
