"""The calls of a worker: their sessions, their tokens, and what becomes of them when a gateway or txpacer is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from aibridge.core.calls import Calls, Setup
from aibridge.core.goodbye_and_fallback import GoodbyeEvent
from aibridge.core.handed_on import why_back
from aibridge.core.rules import Rules, Script
from aibridge.metrics import DEFINITIONS
from aibridge.models.realtime.translator import ABILITIES
from shared.liveness import GATEWAY_LIVES_S, GATEWAY_SILENT_S, GRACE_S, TOKEN_S, ns
from shared.messages import (
    CallAdopted,
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
from shared.plan import CallOrder, Dial, HangUp

from .fake_shell import PLAN, FakeShell


class Desk(FakeShell):
    """A worker, and two gateways."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page.in_memory(DEFINITIONS)
        setup = Setup(0, Script(), Rules(), ABILITIES, "m")
        self.calls = Calls(self, setup, self.page, random.Random(1))
        self.hear("gw", GatewayHello("gw"))
        self.hear("gw2", GatewayHello("gw2"))

    def hear(self, gateway: str, message: Any) -> None:
        self.calls.from_gateway(gateway, message)

    def offer(self, token: str = "token") -> None:
        self.hear("gw", CallOffered(token, "CA1", PLAN, False))

    def start(self, call: int = 1, gateway: str = "gw", token: str = "token", handover: int = 0) -> None:
        self.hear(gateway, CallStarted(call, gateway, token, "CA1", "MZ1", 1, PLAN, handover))

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
    assert desk.calls.has("CA1")


def test_a_session_without_a_media_socket_is_closed_when_its_last_token_expires(desk: Desk) -> None:
    desk.offer("token-a")
    desk.wait(TOKEN_S - 1)
    desk.offer("token-b")
    desk.wait(TOKEN_S - 1)
    assert not desk.models[0].is_closed
    desk.wait(1)
    assert desk.models[0].is_closed
    assert desk.page.counter("bridge_sessions", "unused").value == 1


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
