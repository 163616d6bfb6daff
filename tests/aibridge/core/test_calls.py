"""The calls of a worker: their sessions, their tokens, and what becomes of them when a gateway or txpacer is lost."""

from __future__ import annotations

import json
import random
from typing import Any, cast

import pytest
from msgspec import structs

from aibridge.core.agent import Agent, Agents
from aibridge.core.call_config import CallConfigError
from aibridge.core.calls import Calls, Setup
from aibridge.core.goodbye_and_fallback import GoodbyeEvent
from aibridge.core.handed_on import why_back
from aibridge.core.rules import Rules
from aibridge.metrics import DEFINITIONS
from aibridge.models.realtime.translator import ABILITIES
from shared.agents.agent_file import AgentRules
from shared.liveness import GATEWAY_LIVES_S, GATEWAY_SILENT_S, GRACE_S, TOKEN_S, ns
from shared.messages import (
    CallAdopted,
    CallConfigured,
    CallEnded,
    CallMemory,
    CallOffered,
    CallOver,
    CallStarted,
    CallTaken,
    CloseLine,
    EndCall,
    GatewayHello,
    LineState,
    PacerState,
    RefuseCall,
    RestoreLine,
)
from shared.metrics import Page
from shared.plan import CallOrder, CallPlan, Dial, HangUp, Reject

from .fake_shell import PLAN, FakeShell


def agents(voice: str, *, name: str = "sales") -> Agents:
    """The default agent, and another one."""
    rules = AgentRules(barge_in_confirm_ms=7)
    other = Agent(instructions="From {{from_number}}.", name=name, version=voice, voice=voice, rules=rules)
    default = Agent(instructions="x", name="office", version=voice, voice=voice)
    return Agents({name: other, "office": default}, default)


class Desk(FakeShell):
    """A worker, and two gateways."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page.in_memory(DEFINITIONS)
        setup = Setup(0, lambda agent: Rules(confirm_ns=agent.rules.barge_in_confirm_ms or 0), ABILITIES)
        self.calls = Calls(self, setup, agents("marin"), self.page, random.Random(1))
        self.hear("gw", GatewayHello("gw"))
        self.hear("gw2", GatewayHello("gw2"))

    def hear(self, gateway: str, message: Any) -> None:
        self.calls.from_gateway(gateway, message)

    def offer(self, token: str = "token", plan: CallPlan = PLAN) -> None:
        self.hear("gw", CallOffered(token, "CA1", plan, False))

    def start(
        self,
        call: int = 1,
        gateway: str = "gw",
        token: str = "token",
        handover: int = 0,
        plan: CallPlan = PLAN,
        memory: bytes = b"",
    ) -> None:
        self.hear(gateway, CallStarted(call, gateway, token, "CA1", "MZ1", 1, plan, handover, memory))

    def ask(self, gateway: str = "gw", token: str = "token") -> None:
        """A webhook whose answer waits for CALL_CONFIG_URL."""
        self.hear(gateway, CallOffered(token, "CA1", PLAN, False, asks=True))

    def answer(self, **said: Any) -> CallConfigured:
        """CALL_CONFIG_URL answers: what the gateway gets."""
        ((_, then),) = self.questions
        then(json.dumps({"call_inbound": said}).encode())
        (configured,) = self.of(CallConfigured, "gw")
        return cast(CallConfigured, configured)

    def dialled(self) -> list[tuple[str, str]]:
        """The agent of each session, and its voice."""
        return [(model.agent.name, model.agent.voice) for model in self.models]

    def hand_on(self, order: CallOrder) -> None:
        """Everything was said, and the conversation hands call 1 on."""
        talk = self.calls.by_number[1].conversation
        talk.order = order
        talk.goodbye.step(GoodbyeEvent.ORDERED)
        self.calls.by_number[1].advance()
        assert self.of(EndCall) == [EndCall(1, order, 0)]

    def others(self) -> int:
        return self.calls.state("gw", is_ready=True, epoch=1).others

    def wait(self, seconds: float, *hellos: str) -> None:
        """Time passes, in sweeps; the gateways of `hellos` are alive."""
        for _ in range(round(seconds)):
            self.now_ns += ns(1)
            for gateway in hellos:
                self.hear(gateway, GatewayHello(gateway))
            self.calls.sweep()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_repeated_webhook_dials_the_model_once_and_any_of_its_tokens_gets_the_session(desk: Desk) -> None:
    desk.offer("token-a")
    desk.offer("token-b")
    desk.start(token="token-a")
    assert len(desk.models) == 1
    assert [call.call_sid for call in desk.calls.by_number.values()] == ["CA1"]


def test_a_session_without_a_media_socket_is_closed_when_its_last_token_expires(desk: Desk) -> None:
    desk.offer("token-a")
    desk.wait(TOKEN_S - 1)
    desk.offer("token-b")
    desk.wait(TOKEN_S - 1)
    assert not desk.models[0].is_closed
    desk.wait(1)
    assert desk.models[0].is_closed
    assert desk.page.counter("aibridge_sessions", "unused").value == 1


def test_a_session_dialled_ahead_is_closed_when_the_call_begins_at_another_worker(desk: Desk) -> None:
    desk.offer()
    desk.hear("gw", CallTaken("CA2"))
    assert not desk.models[0].is_closed
    desk.hear("gw", CallTaken("CA1"))
    assert desk.models[0].is_closed


def test_a_token_that_was_used_at_another_gateway_is_refused_and_the_call_goes_on(desk: Desk) -> None:
    desk.start(1)
    desk.start(2, "gw2")
    assert desk.of(RefuseCall, "gw2") == [RefuseCall(2)]
    assert list(desk.calls.by_number) == [1]


def test_a_gateway_learns_that_its_offer_was_used_at_another_gateway(desk: Desk) -> None:
    desk.offer()
    desk.start(1, "gw2")
    assert desk.of(CallTaken, "gw") == [CallTaken("CA1")]
    assert not desk.of(CallTaken, "gw2")


def test_a_gateway_learns_whether_another_gateway_takes_calls(desk: Desk) -> None:
    assert desk.others() == 1
    desk.now_ns += ns(GATEWAY_LIVES_S)
    assert desk.others() == 0
    desk.hear("gw2", GatewayHello("gw2"))
    assert desk.others() == 1
    desk.hear("gw2", GatewayHello("gw2", draining=True))
    assert desk.others() == 0


def test_a_new_gateway_learns_the_calls_that_were_taken_over_from_another_worker(desk: Desk) -> None:
    desk.start(handover=1)
    desk.hear("gw3", GatewayHello("gw3"))
    assert desk.of(CallAdopted, "gw3") == [CallAdopted("CA1")]


def test_a_call_that_returned_on_another_socket_leaves_its_memory_with_that_gateway_at_once(desk: Desk) -> None:
    desk.start(7)
    desk.hear("gw", CallEnded(7, "lost"))
    desk.start(9, "gw2", "token-2")
    assert [memory.call for memory in desk.of(CallMemory, "gw2")] == [9]
    assert CloseLine(7) in desk.said
    desk.wait(GRACE_S + 1, "gw", "gw2")
    assert list(desk.calls.by_number) == [9]


def test_a_call_that_does_not_return_is_given_up_after_its_grace_period(desk: Desk) -> None:
    desk.start()
    desk.hear("gw", CallEnded(1, "lost"))
    desk.wait(GRACE_S - 1, "gw")
    assert desk.calls.by_number
    desk.wait(1, "gw")
    assert not desk.calls.by_number


@pytest.mark.parametrize("resumes", [True, False])
def test_a_call_of_a_silent_gateway_is_kept_until_its_gateway_resumes_or_its_grace_period_ends(resumes: bool) -> None:
    desk = Desk()
    desk.start()
    desk.wait(GATEWAY_SILENT_S + GRACE_S - 1)
    assert desk.calls.by_number
    desk.wait(GRACE_S + 2, *(["gw"] if resumes else []))
    assert bool(desk.calls.by_number) is resumes


@pytest.mark.parametrize("is_told_late", [False, True])
def test_a_call_that_comes_back_from_its_order_goes_on_and_the_model_knows_why(is_told_late: bool) -> None:
    desk = Desk()
    desk.start()
    history = desk.calls.by_number[1].conversation.history
    history.speech_started(1, desk.now_ns)
    history.taken(1)
    history.caller_words(1, "Connect me, please.")
    desk.hand_on(Dial("+15005550009"))
    if not is_told_late:
        desk.hear("gw", CallEnded(1, "hung-up"))
    desk.hear("gw2", CallOffered("token-2", "CA1", PLAN, True, "busy"))
    desk.hear("gw2", CallStarted(2, "gw2", "token-2", "CA1", "MZ2", 1, PLAN, returned="busy"))
    desk.hear("gw", CallEnded(1, "hung-up"))
    desk.calls.from_pacer(LineState(2, (), 1))
    assert len(desk.of(EndCall)) == 1
    assert len(desk.models) == 2  # the second one was dialled ahead
    words, note = desk.models[1].told.values()
    assert words == "Connect me, please."
    assert note == "The call was passed on to somebody else, and the caller is back with you now. The line was busy."
    assert [ask.purpose for ask in desk.models[1].asked] == ["answer"]
    # Now it is a call like any other: its socket may be lost.
    desk.hear("gw2", CallEnded(2, "lost"))
    desk.start(3, "gw", "token-3")
    assert list(desk.calls.by_number) == [3]


def test_a_call_that_comes_back_to_another_worker_is_not_greeted_again(desk: Desk) -> None:
    desk.hear("gw", CallStarted(1, "gw", "token", "CA1", "MZ1", 1, PLAN, returned="over"))
    desk.calls.from_pacer(LineState(1, (), 1))
    assert list(desk.models[0].told.values()) == [why_back("over")]
    assert [ask.purpose for ask in desk.models[0].asked] == ["answer"]


@pytest.mark.parametrize("order", [HangUp(), Dial("+15005550009")])
def test_a_call_whose_gateway_does_not_know_its_order_gets_it_again(order: CallOrder) -> None:
    desk = Desk()
    desk.start()
    desk.hand_on(order)
    desk.hear("gw", CallEnded(1, "hung-up"))
    desk.start(2, "gw2", "token-2")
    assert desk.of(EndCall, "gw2") == [EndCall(2, order, 0)]
    assert not desk.calls.by_number


def test_the_order_of_another_workers_call_is_told_to_the_other_gateways(desk: Desk) -> None:
    desk.hear("gw", CallOver("CA1", HangUp()))
    assert desk.of(CallOver) == desk.of(CallOver, "gw2") == [CallOver("CA1", HangUp())]
    desk.start(2, "gw2")
    assert desk.of(EndCall, "gw2") == [EndCall(2, HangUp(), 0)]


def test_a_line_that_was_requested_of_a_lost_txpacer_is_requested_of_its_successor_at_once(desk: Desk) -> None:
    desk.start(7)
    desk.calls.from_pacer(PacerState(1, 0))
    desk.calls.from_pacer(LineState(7, (), 1))
    desk.hear("gw", CallEnded(7, "lost"))
    desk.start(9, "gw", "token-2")
    desk.calls.from_pacer(PacerState(2, 0))
    assert [each.epoch for each in desk.said if isinstance(each, RestoreLine)] == [1, 2]


SALES = structs.replace(PLAN, agent="sales")


def test_a_call_has_the_agent_of_its_plan_from_the_dial_on(desk: Desk) -> None:
    desk.offer(plan=SALES)
    desk.start(plan=SALES)
    (model,) = desk.models
    assert model.agent.instructions == "From +15005550006."
    assert desk.calls.by_number[1].conversation.rules.confirm_ns == 7


def test_a_session_that_was_dialled_for_another_plan_is_not_used(desk: Desk) -> None:
    desk.offer()
    desk.start(plan=SALES)
    assert desk.dialled() == [("office", "marin"), ("sales", "marin")]
    assert desk.models[0].is_closed


def test_an_agent_that_the_worker_does_not_have_is_counted_and_the_default_answers(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.start(plan=structs.replace(PLAN, agent="new"))
    assert desk.dialled() == [("office", "marin")]
    assert desk.page.counter("aibridge_agents_unknown").value == 1
    assert "there is no agent new here" in caplog.text


def test_a_live_call_keeps_its_agent_when_the_agents_are_read_again(desk: Desk) -> None:
    desk.start(plan=SALES)
    desk.calls.agents = agents("cedar")
    desk.receivers[0].gone(refused=False)
    desk.wait(1, "gw")
    desk.calls.by_number[1].advance()
    assert desk.dialled() == [("sales", "marin")] * 2


@pytest.mark.parametrize("name", ["sales", "renamed"])
def test_a_successor_with_other_agents_goes_on_with_the_agent_of_the_call(desk: Desk, name: str) -> None:
    desk.start(plan=SALES)
    desk.calls.by_number[1].tell_memory()
    (memory,) = desk.of(CallMemory)
    after = Desk()
    after.calls.agents = agents("cedar", name=name)
    after.start(plan=PLAN, handover=1, memory=memory.memory)
    assert after.models[0].agent == desk.models[0].agent
    call = after.calls.by_number[1].conversation
    assert (call.plan, call.rules.confirm_ns) == (SALES, 7)


def test_a_successor_without_a_story_has_the_agent_of_the_plan(desk: Desk) -> None:
    desk.start(plan=SALES, handover=1)
    assert desk.dialled() == [("sales", "marin")]


def test_the_dial_does_not_wait_for_call_config_url(desk: Desk) -> None:
    desk.ask()
    assert desk.dialled() == [("office", "marin")]
    ((question, _),) = desk.questions
    assert question["call_inbound"]["agent_id"] == "office"


def test_a_call_that_is_configured_for_another_agent_is_dialled_again(desk: Desk) -> None:
    desk.ask()
    plan = desk.answer(override_agent_id="sales").plan
    assert (plan.agent, plan.agent_version) == ("sales", "marin")
    assert desk.dialled() == [("office", "marin"), ("sales", "marin")]
    assert desk.models[0].is_closed
    desk.start(plan=plan)
    assert len(desk.models) == 2


def test_other_words_of_the_same_agent_reach_the_session_that_is_dialled(desk: Desk) -> None:
    desk.ask()
    plan = desk.answer(agent_override={"voice": "cedar"}).plan
    desk.start(plan=plan)
    assert desk.dialled() == [("office", "cedar")]
    assert desk.calls.by_number[1].agent.voice == "cedar"


def test_another_model_of_the_same_agent_is_dialled_again(desk: Desk) -> None:
    desk.ask()
    desk.answer(agent_override={"model": "other"})
    assert [model.agent.model for model in desk.models] == ["", "other"]


def test_an_order_of_call_config_url_reaches_the_gateway(desk: Desk) -> None:
    desk.ask()
    assert desk.answer(reject="busy") == CallConfigured("CA1", PLAN, Reject("busy"))


@pytest.mark.parametrize(
    ("answer", "cause"),
    [(CallConfigError("timeout", "late"), "timeout"), (b"<html>", "malformed")],
)
def test_a_call_keeps_its_agent_when_call_config_url_fails_which_is_counted_and_logged_once(
    desk: Desk, answer: bytes | CallConfigError, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    desk.ask()
    desk.questions[0][1](answer)
    assert desk.of(CallConfigured) == [CallConfigured("CA1", PLAN)]
    assert desk.page.counter("aibridge_call_configs", cause).value == 1
    assert [record.message.partition(": ")[0] for record in caplog.records] == ["call CA1"]
    desk.start()
    assert desk.dialled() == [("office", "marin")]


def test_repeated_webhooks_ask_once_and_each_gateway_gets_the_answer(desk: Desk) -> None:
    desk.ask("gw", "a")
    desk.ask("gw2", "b")
    configured = desk.answer(agent_override={"voice": "cedar"})
    assert desk.of(CallConfigured, "gw2") == [configured]
    desk.ask("gw2", "c")
    assert desk.of(CallConfigured, "gw2") == [configured] * 2
    assert len(desk.questions) == 1


def test_an_answer_that_comes_after_the_call_began_changes_nothing(desk: Desk) -> None:
    desk.ask()
    desk.start()
    desk.answer(override_agent_id="sales")
    assert desk.dialled() == [("office", "marin")]
    assert desk.calls.by_number[1].agent.name == "office"
