"""A worker on real sockets with the simulated model: sessions dialled ahead, matched and closed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from openai import AsyncOpenAI

from aibridge import agent, worker
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import ResponseBegan
from aibridge.models.realtime.sessions import Sessions
from shared import bus, liveness
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.messages import (
    BridgeToGateway,
    BridgeToPacer,
    CallEnded,
    CallerAudio,
    CallMemory,
    CallOffered,
    CallOver,
    CallStarted,
    CallTaken,
    EndCall,
    GatewayHello,
    LineState,
    OpenLine,
    PacerState,
    RefuseCall,
    RestoreLine,
    WorkerState,
)
from shared.metrics import Page
from shared.plan import CallPlan, Fallback
from shared.settings import Settings
from simulator.model.behaviour import Behaviour
from simulator.model.server import ModelServer

PLAN = CallPlan(from_number="+15005550006", to_number="+15005550001")


class Cell:
    """A worker, the model, and this test as the gateway."""

    def __init__(
        self,
        model: ModelServer,
        link: ChannelLink,
        page: Page,
        told: list[Any],
        join: Callable[..., ChannelLink],
        stop: Callable[[], None],
    ) -> None:
        self.model = model
        self.stop = stop
        self.page = page
        self.told = told
        # Another gateway's link, by name, and what it shall do with each message.
        self.join = join
        # What the worker says to txpacer, and the way back.
        self.asked: list[Any] = []
        self.pacer: ChannelLink
        self.gateway = link

    def say(self, *messages: Any) -> None:
        assert self.gateway.send(messages)

    def offer(self, token: str, call_sid: str) -> None:
        self.say(CallOffered(token, call_sid, PLAN, False))

    def start(self, call: int, token: str, call_sid: str) -> None:
        self.say(CallStarted(call, "gw", token, call_sid, "MZ1", 1, PLAN))

    def sessions(self, outcome: str) -> float:
        return self.page.counter("bridge_sessions", outcome).value


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until `holds` is true; fail when it does not become true in time."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  # the condition depends on another process
            await asyncio.sleep(0.005)


@asynccontextmanager
async def cell(behaviour: Behaviour | None = None, **settings: Any) -> AsyncIterator[Cell]:
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        context: zmq.Context[Any] = zmq.Context()
        model = ModelServer(behaviour_for=lambda request_id: Behaviour() if request_id == "probe" else chosen)
        chosen = behaviour or Behaviour()
        async with model:
            config = Settings(_env_file=None, run_dir=Path(directory), **settings)  # type: ignore[call-arg]
            page = Page.in_memory(DEFINITIONS)
            client = AsyncOpenAI(api_key="sk-test", base_url=f"http://127.0.0.1:{model.port}/v1")
            chosen_agent = agent.load(None)
            sessions = Sessions(config, chosen_agent, client, page)
            under_test = worker.Worker(
                config, number=0, agent=chosen_agent, sessions=sessions, page=page, context=context
            )
            stop = asyncio.Event()
            running = asyncio.create_task(under_test.run(stop))
            told: list[Any] = []
            links = []

            def join(name: str, told: list[Any]) -> ChannelLink:
                links.append(
                    ChannelLink(
                        bus.dealer(context, bus.calls_url(config.run_dir, 0), name=name, hwm=100),
                        types=BridgeToGateway,
                        make=lambda: Channel(bus.draw_epoch(), max_weight=100),
                        on_message=lambda _, message: told.append(message),
                        refused=page.counter("bridge_dropped"),
                        lost=page.counter("bridge_dropped"),
                        undecodable=page.counter("bridge_undecodable"),
                    )
                )
                links[-1].start()
                return links[-1]

            link = join("gw", told)
            try:
                await until(lambda: link.send((GatewayHello("gw"),)))
                await until(lambda: any(isinstance(each, WorkerState) and each.ready for each in told))
                await until(lambda: model.open_sessions == 0)  # the probe's
                under_way = Cell(model, link, page, told, join, stop.set)
                under_way.pacer = ChannelLink(
                    bus.router(context, bus.speech_url(config.run_dir), hwm=100),
                    types=BridgeToPacer,
                    make=lambda: Channel(bus.draw_epoch(), max_weight=100),
                    on_message=lambda _, message: under_way.asked.append(message),
                    refused=page.counter("bridge_dropped"),
                    lost=page.counter("bridge_dropped"),
                    undecodable=page.counter("bridge_undecodable"),
                )
                under_way.pacer.start()
                yield under_way
                under_way.pacer.close()
            finally:
                stop.set()
                await running
                for each in links:
                    each.close()
                context.destroy(linger=0)
                await client.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_session_is_dialled_at_the_webhook_and_used_by_the_media_socket_of_its_token() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            under_test.offer("token-a", "CAa")
            under_test.offer("token-b", "CAb")
            await until(lambda: under_test.model.open_sessions == 2)
            under_test.start(7, "token-b", "CAb")
            await until(lambda: any(each["responses"] for each in under_test.model.records("CAb")))
            assert not any(each["responses"] for each in under_test.model.records("CAa"))
            assert under_test.model.open_sessions == 2  # nothing was dialled again

    run(scenario)


def test_a_repeated_webhook_dials_the_model_once_and_any_of_its_tokens_gets_the_session() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            under_test.offer("token-a", "CA1")
            await until(lambda: under_test.model.open_sessions == 1)
            under_test.offer("token-b", "CA1")
            under_test.start(1, "token-a", "CA1")
            await until(lambda: under_test.page.gauge("bridge_calls").value == 1)
            assert under_test.page.counter("bridge_sessions", "opened").value == 1

    run(scenario)


def test_a_session_dialled_ahead_is_closed_when_the_call_begins_at_another_worker() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            under_test.offer("token", "CA1")
            await until(lambda: under_test.model.open_sessions == 1)
            under_test.say(CallTaken("CA1"), CallTaken("CA2"))
            await until(lambda: under_test.model.open_sessions == 0)
            assert under_test.page.counter("bridge_sessions", "unused").value == 1

    run(scenario)


def test_a_session_without_a_media_socket_is_closed_when_the_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "TOKEN_S", 0.3)

    async def scenario() -> None:
        async with cell() as under_test:
            under_test.offer("token-a", "CAa")
            await until(lambda: under_test.model.open_sessions == 1)
            await until(lambda: under_test.model.open_sessions == 0, 3)
            assert under_test.sessions("unused") == 1

    run(scenario)


def test_every_session_is_closed_within_3_s_of_the_hang_up() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            for number in range(1, 6):
                under_test.offer(f"token-{number}", f"CA{number}")
                under_test.start(number, f"token-{number}", f"CA{number}")
            await until(lambda: under_test.model.open_sessions == 5)
            under_test.say(*(CallEnded(number, "stop") for number in range(1, 6)))
            # The model's end of a socket is closed first, ours when it has said so.
            await until(lambda: under_test.model.open_sessions == 0, 3)
            await until(lambda: under_test.page.gauge("bridge_sessions_open").value == 0, 1)

    run(scenario)


def test_a_call_that_ends_while_its_model_is_dialled_leaves_no_session() -> None:
    async def scenario() -> None:
        async with cell(Behaviour(handshake_ms=300)) as under_test:
            under_test.start(1, "unknown", "CA1")
            await until(lambda: under_test.sessions("opened") == 1)
            under_test.say(CallerAudio(1, bytes(160), 0), CallEnded(1, "stop"))
            await until(lambda: under_test.sessions("closed") == 1)
            await until(lambda: under_test.model.open_sessions == 0)

    run(scenario)


def test_a_call_whose_model_drops_the_socket_gets_another_session() -> None:
    async def scenario() -> None:
        async with cell(Behaviour(drop_session_at_ms=200)) as under_test:
            under_test.offer("token", "CA1")
            under_test.start(1, "token", "CA1")
            await until(lambda: under_test.page.counter("bridge_recoveries", "reconnected").value >= 1)
            assert len(under_test.model.records("CA1")) >= 2

    run(scenario)


@pytest.mark.parametrize("refuse", ["key", "unavailable"])
def test_a_call_without_a_model_gets_the_fallback(refuse: Any) -> None:
    async def scenario() -> None:
        async with cell(Behaviour(refuse=refuse), model_reconnect_seconds=1) as under_test:
            under_test.offer("token", "CA1")
            under_test.start(1, "token", "CA1")
            await until(lambda: any(isinstance(each, EndCall) for each in under_test.told))
            (order,) = [each for each in under_test.told if isinstance(each, EndCall)]
            assert order.order == Fallback()
            assert CallOver("CA1", Fallback()) not in under_test.told
            under_test.say(CallEnded(1, "hung-up"))
            await until(lambda: CallOver("CA1", Fallback()) in under_test.told)

    run(scenario)


def test_a_token_that_was_used_at_another_gateway_is_refused_and_the_call_goes_on() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            at_the_other: list[Any] = []
            other = under_test.join("gw2", at_the_other)
            under_test.offer("token", "CA1")
            under_test.start(1, "token", "CA1")
            await until(lambda: bool(under_test.model.records("CA1")))
            await until(lambda: other.send((CallStarted(2, "gw2", "token", "CA1", "MZ2", 1, PLAN),)))
            await until(lambda: RefuseCall(2) in at_the_other)
            await until(lambda: any(each["responses"] for each in under_test.model.records("CA1")))
            assert not any(isinstance(each, EndCall | RefuseCall | CallTaken) for each in under_test.told)

    run(scenario)


def test_a_gateway_learns_that_its_offer_was_used_at_another_gateway() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            at_the_other: list[Any] = []
            other = under_test.join("gw2", at_the_other)
            under_test.offer("token", "CA1")
            await until(lambda: under_test.model.open_sessions == 1)
            await until(
                lambda: other.send((GatewayHello("gw2"), CallStarted(1, "gw2", "token", "CA1", "MZ1", 1, PLAN)))
            )
            await until(lambda: CallTaken("CA1") in under_test.told)
            assert CallTaken("CA1") not in at_the_other

    run(scenario)


def test_a_gateway_learns_whether_another_gateway_takes_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "GATEWAY_LIVES_S", 0.2)

    async def scenario() -> None:
        async with cell() as under_test:

            def others() -> int:
                under_test.say(GatewayHello("gw"))
                return [each.others for each in under_test.told if isinstance(each, WorkerState)][-1]

            assert others() == 0
            other = under_test.join("gw2", [])
            await until(lambda: other.send((GatewayHello("gw2"),)))
            await until(lambda: others() == 1)
            await until(lambda: others() == 0)  # it has said nothing since
            assert other.send((GatewayHello("gw2"),))
            await until(lambda: others() == 1)
            assert other.send((GatewayHello("gw2", draining=True),))
            await until(lambda: others() == 0)

    run(scenario)


def test_the_answer_to_a_hello_acknowledges_what_the_gateway_sent_before_it() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            under_test.gateway.post((CallerAudio(7, b"of no call here", 0),))
            channel = under_test.gateway.channel()
            assert channel.waiting == 1
            under_test.gateway.hello(hints=(GatewayHello("gw"),))
            await until(lambda: channel.waiting == 0)

    run(scenario)


def test_an_event_whose_handler_fails_costs_the_session_and_not_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    deal_with = worker.Call.model_event
    failed = []

    def fail_once(call: worker.Call, session: Any, event: Any) -> None:
        if isinstance(event, ResponseBegan) and not failed:
            failed.append(event)
            raise ZeroDivisionError
        deal_with(call, session, event)

    monkeypatch.setattr(worker.Call, "model_event", fail_once)

    async def scenario() -> None:
        async with cell() as under_test:
            under_test.offer("token", "CA1")
            under_test.start(1, "token", "CA1")
            await until(lambda: under_test.page.counter("bridge_recoveries", "reconnected").value == 1)
            assert failed
            assert under_test.sessions("lost") == 1

    run(scenario)


def test_a_worker_that_gets_sigterm_takes_no_calls_and_leaves_the_memory_of_its_calls() -> None:
    async def scenario() -> None:
        async with cell() as under_test:
            under_test.offer("token", "CA1")
            under_test.start(7, "token", "CA1")
            await until(lambda: any(each["responses"] for each in under_test.model.records("CA1")))
            before = len(under_test.told)
            under_test.stop()
            await until(lambda: any(isinstance(each, CallMemory) for each in under_test.told[before:]))
            assert [each.ready for each in under_test.told[before:] if isinstance(each, WorkerState)][-1] is False

    run(scenario)


def test_a_call_that_returned_on_another_socket_leaves_its_memory_with_that_gateway_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "HELLO_S", 60)  # and not when its turn comes

    async def scenario() -> None:
        async with cell() as under_test:
            under_test.offer("token", "CA1")
            under_test.start(7, "token", "CA1")
            await until(lambda: any(each["responses"] for each in under_test.model.records("CA1")))
            under_test.say(CallEnded(7, "lost"))
            under_test.start(9, "token-2", "CA1")
            await until(lambda: any(isinstance(each, CallMemory) and each.call == 9 for each in under_test.told))

    run(scenario)


def test_a_line_that_was_requested_of_a_lost_txpacer_is_requested_of_its_successor_at_once() -> None:
    async def scenario() -> None:
        async with cell() as under_test:

            def epochs() -> list[int]:
                return [each.epoch for each in under_test.asked if isinstance(each, RestoreLine)]

            under_test.start(7, "token", "CA1")
            await until(lambda: any(isinstance(each, OpenLine) for each in under_test.asked))
            assert under_test.pacer.send((PacerState(1, 0), LineState(7, (), 1)), "aibridge-0")
            under_test.say(CallEnded(7, "lost"))
            under_test.start(9, "token-2", "CA1")
            await until(lambda: epochs() == [1])
            assert under_test.pacer.send((PacerState(2, 0),), "aibridge-0")
            await until(lambda: epochs() == [1, 2])

    run(scenario)
