"""One call: what it tells its gateway, and how it takes the place of a worker that died."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aibridge.core import story
from aibridge.core.commands import CallTool
from aibridge.core.rules import Rules
from aibridge.models.port import (
    CallerSpeaks,
    ModelEvent,
    ResponseBegan,
    ResponseEnded,
    Speech,
    ToolCalled,
    Words,
)
from shared.facts import ConversationBegan
from shared.messages import CallMemory, CallNote, EndCall, LineState, OpenLine, PauseLine, PlayoutFinished, ResumeLine
from shared.plan import HangUp

from .fake_shell import MS, PLAN, T0, FakeModel, FakeShell, make_call


class Desk(FakeShell):
    """A call, and what it said to both sides."""

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__()
        self.model = FakeModel()
        self.call = make_call(self, rules=rules)

    def say(self, *events: ModelEvent) -> None:
        for event in events:
            self.call.model_event(self.model, event)

    def notes(self) -> list[Any]:
        return [json.loads(each.note) for each in self.of(CallNote)]

    def memory(self) -> bytes:
        return self.of(CallMemory)[-1].memory


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.call.start(desk.model)
    desk.call.line_state(LineState(1, (), 1))
    return desk


def succeed(desk: Desk, *unheard: tuple[int, int, int, bool, int], is_followed: bool = False) -> Desk:
    after = Desk()
    after.call.resume(after.model, desk.memory(), 1)
    if is_followed:
        after.call.follow()
    speech = tuple(bytes(size - paced) for _, size, paced, _, _ in unheard)
    after.call.line_state(LineState(1, unheard, 1, speech))
    return after


def test_the_model_of_a_call_is_what_its_session_says(desk: Desk) -> None:
    desk.call.reporter.first_frame(T0)
    assert [fact.model for fact in desk.noted if isinstance(fact, ConversationBegan)] == ["the-model"]


def test_somebody_who_asks_repeatedly_to_follow_a_call_is_told_each_thing_once(desk: Desk) -> None:
    desk.call.follow()
    desk.say(ResponseBegan(1), Speech(1, 1, bytes(800)))
    for _ in range(3):
        desk.call.follow()
    desk.say(Words(1, "Hello."))
    turns = [note["turn"]["text"] for note in desk.notes() if "turn" in note]
    assert turns == ["", "Hello."]
    assert [note for note in desk.notes() if "response" in note] == [{"response": "created"}]


def test_a_successor_that_is_asked_to_follow_before_its_line_answers_tells_what_was_said(desk: Desk) -> None:
    desk.say(ResponseBegan(1), Speech(1, 1, bytes(8_000)), Words(1, "Hello."), ResponseEnded(1))
    after = succeed(desk, (1, 8_000, 800, True, T0), is_followed=True)
    assert [note["turn"]["text"] for note in after.notes() if "turn" in note] == ["Hello."]


def test_the_story_with_the_gateway_holds_the_plan_and_changes_only_with_the_call(desk: Desk) -> None:
    desk.call.tell_memory()
    told, _ = story.decode(desk.memory())
    assert told.plan == PLAN
    before = len(desk.told)
    desk.now_ns += 5_000 * MS
    desk.call.tell_memory()
    assert len(desk.told) == before


def test_a_line_that_was_paused_when_its_worker_died_is_resumed_by_the_next_one() -> None:
    desk = Desk(Rules(confirm_ns=300 * MS))
    desk.call.start(desk.model)
    desk.call.line_state(LineState(1, (), 1))
    desk.say(ResponseBegan(1), Speech(1, 1, bytes(40_000)), ResponseEnded(1), CallerSpeaks(1))
    assert PauseLine(1, 550) in desk.said
    after = succeed(desk, (1, 40_000, 8_000, True, T0))
    assert [type(each) for each in after.said] == [OpenLine, ResumeLine]


def test_a_goodbye_that_a_worker_died_with_is_said_and_carried_out_by_the_next_one(desk: Desk) -> None:
    desk.say(ResponseBegan(1), Speech(1, 1, bytes(8_000)), ToolCalled(1, 1, "end_call"))
    after = succeed(desk, (1, 8_000, 800, True, T0))
    assert not after.of(EndCall)
    after.call.playout(PlayoutFinished(1, 1, T0))
    assert after.of(EndCall) == [EndCall(1, HangUp(), 1)]


def test_an_end_that_a_worker_had_ordered_is_ordered_again_by_the_next_one(desk: Desk) -> None:
    desk.say(ResponseBegan(1), Speech(1, 1, bytes(8_000)), ToolCalled(1, 1, "end_call"), ResponseEnded(1))
    desk.call.playout(PlayoutFinished(1, 1, T0))
    after = succeed(desk)
    assert [each.order for each in after.of(EndCall)] == [HangUp()]


def test_a_tool_is_asked_for_after_the_story_knows_of_it_and_of_the_toolbox_that_was_asked(desk: Desk) -> None:
    desk.say(ResponseBegan(1), ToolCalled(1, 1, "look", "{}"))
    assert desk.called == [("CA1", CallTool(1, "look", "{}"))]
    told, _ = story.decode(desk.memory())
    assert [(said.role, said.name, said.asked_of) for said in told.turns] == [("tool", "look", 7)]
    desk.call.tool_answered(1, "sunny", "done")
    told, _ = story.decode(desk.memory())
    assert [(said.text, said.outcome, bool(said.ended_ms)) for said in told.turns] == [("sunny", "done", True)]
