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
from msgspec import structs

from aibridge import agents, worker
from aibridge.core.call import Call
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import ResponseBegan
from aibridge.models.realtime.servers import Servers
from aibridge.models.realtime.sessions import Sessions
from shared import bus
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.messages import (
    BridgeToGateway,
    CallConfigured,
    CallEnded,
    CallerAudio,
    CallMemory,
    CallOffered,
    CallOver,
    CallStarted,
    EndCall,
    GatewayHello,
    WorkerState,
)
from shared.metrics import Page
from shared.plan import CallPlan, Fallback
from shared.settings import Settings
from simulator.model.behaviour import Behaviour
from simulator.model.server import ModelServer

PLAN = CallPlan(from_number="+15005550006", to_number="+15005550001")
AGENT = 'instructions = "{{from_number}} calls."\n'


class Cell:
    """A worker, the model, and this test as the gateway."""

    def __init__(
        self,
        model: ModelServer,
        link: ChannelLink,
        page: Page,
        told: list[Any],
        stop: Callable[[], None],
    ) -> None:
        self.model = model
        self.stop = stop
        self.page = page
        self.told = told
        self.worker: worker.Worker
        self.gateway = link

    def say(self, *messages: Any) -> None:
        assert self.gateway.send(messages)

    def offer(self, token: str, call_sid: str, plan: CallPlan = PLAN) -> None:
        self.say(CallOffered(token, call_sid, plan, False))

    def start(self, call: int, token: str, call_sid: str, plan: CallPlan = PLAN) -> None:
        self.say(CallStarted(call, "gw", token, call_sid, "MZ1", 1, plan))

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
            servers = Servers(f"http://127.0.0.1:{model.port}/v1", "sk-test")
            known = agents.load(config, config.agents_dir or Path())
            sessions = Sessions(known, servers, page)
            under_test = worker.Worker(config, number=0, agents=known, sessions=sessions, page=page, context=context)
            stop = asyncio.Event()
            running = asyncio.create_task(under_test.run(stop))
            told: list[Any] = []
            link = ChannelLink(
                bus.dealer(context, bus.calls_url(config.run_dir, 0), name="gw", hwm=100),
                types=BridgeToGateway,
                make=lambda: Channel(bus.draw_epoch(), max_weight=100),
                on_message=lambda _, message: told.append(message),
                refused=page.counter("bridge_dropped"),
                lost=page.counter("bridge_dropped"),
                undecodable=page.counter("bridge_undecodable"),
            )
            link.start()
            try:
                await until(lambda: link.send((GatewayHello("gw"),)))
                await until(lambda: any(isinstance(each, WorkerState) and each.ready for each in told))
                await until(lambda: model.open_sessions == 0)  # the probe's
                cell = Cell(model, link, page, told, stop.set)
                cell.worker = under_test
                yield cell
            finally:
                stop.set()
                await running
                link.close()
                context.destroy(linger=0)


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
    deal_with = Call.model_event
    failed = []

    def fail_once(call: Call, session: Any, event: Any) -> None:
        if isinstance(event, ResponseBegan) and not failed:
            failed.append(event)
            raise ZeroDivisionError
        deal_with(call, session, event)

    monkeypatch.setattr(Call, "model_event", fail_once)

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


def test_a_session_has_the_voice_words_and_server_of_its_agent_also_after_they_were_read_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        write = (tmp_path / "office.toml").write_text
        (tmp_path / "sales.toml").write_text(f'{AGENT}voice = "cedar"\napi_key_env = "SALES_KEY"')
        write(f"{AGENT}default = true")
        (tmp_path / ".env").write_text("SALES_KEY=sk-refused")
        async with cell(agents_dir=tmp_path) as under_test:

            def voices(call_sid: str) -> list[str]:
                return [each["voice"] for each in under_test.model.records(call_sid)]

            under_test.offer("a", "CA1")
            await until(lambda: voices("CA1") == ["marin"])
            (session,) = under_test.model.records("CA1")
            assert session["instructions"] == "+15005550006 calls."
            write(f'{AGENT}default = true\nvoice = "coral"')
            settings = Settings(_env_file=None, agents_dir=tmp_path)  # type: ignore[call-arg]
            under_test.worker.use(agents.load(settings, tmp_path))
            under_test.offer("b", "CA2")
            await until(lambda: voices("CA2") == ["coral"])
            under_test.offer("c", "CA3", structs.replace(PLAN, agent="sales"))
            await until(lambda: under_test.sessions("refused") == 1)  # its key

    run(scenario)


def test_call_config_url_changes_the_words_of_a_session_that_is_dialled() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b'{"call_inbound": {"agent_override": {"voice": "cedar", "instructions": "You are {{agent}}."}}}'
        assert b"webhook-signature: v1," in head
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with cell(call_config_url=url, webhook_secret="whsec_MDEyMzQ1Njc4OWFiY2RlZg==") as under_test:
                under_test.say(CallOffered("token", "CA1", PLAN, False, asks=True))
                await until(lambda: any(isinstance(each, CallConfigured) for each in under_test.told))
                (configured,) = [each for each in under_test.told if isinstance(each, CallConfigured)]
                await until(lambda: [each["voice"] for each in under_test.model.records("CA1")] == ["cedar"])
                under_test.start(1, "token", "CA1", configured.plan)
                await until(lambda: any(each["responses"] for each in under_test.model.records("CA1")))
                (session,) = under_test.model.records("CA1")
                assert session["instructions"] == "You are agent."
                assert not session["errors"]

    run(scenario)
