"""The simulated model on a real socket, with OpenAI's own SDK as its client."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from websockets.asyncio.client import connect

from shared.audio import SILENCE
from simulator.model import server as model_server
from simulator.model.behaviour import Behaviour
from simulator.model.server import REQUEST_ID_HEADER, ModelServer
from simulator.voice import clip

PCMU = {"type": "audio/pcmu"}
SESSION: Any = {"type": "realtime", "audio": {"input": {"format": PCMU}, "output": {"format": PCMU}}}
FAST = Behaviour(speed=500, first_delta_ms=0, answer_ms=1_000)


def live(scenario: Callable[[ModelServer], Any], behaviour: Behaviour = FAST, **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), ModelServer(behaviour_for=lambda _: behaviour, **options) as server:
            await scenario(server)

    asyncio.run(main())


@asynccontextmanager
async def call(server: ModelServer, sid: str = "CA1") -> AsyncIterator[AsyncRealtimeConnection]:
    client = AsyncOpenAI(api_key="sk-sim", base_url=server.base_url)
    async with (
        client,
        client.realtime.connect(
            model="gpt-realtime-2.1",
            extra_headers={REQUEST_ID_HEADER: sid},
            websocket_connection_options={"proxy": None},  # type: ignore[typeddict-unknown-key]
        ) as connection,
    ):
        yield connection


async def until(connection: AsyncRealtimeConnection, type: str) -> list[Any]:
    events = []
    while not events or events[-1].type != type:
        events.append(await connection.recv())
    return events


def raw(server: ModelServer, path: str = "/v1/realtime?model=gpt-realtime-2.1", key: str = "sk-sim") -> Any:
    headers = {"Authorization": f"Bearer {key}", REQUEST_ID_HEADER: "CA2"}
    return connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers, proxy=None)


async def no_session_is_open(server: ModelServer) -> None:
    """A client knows that its socket is closed before the server does."""
    while server.open_sessions:  # noqa: ASYNC110  # the effect to wait for is in another task of the server
        await asyncio.sleep(0.001)


async def get(server: ModelServer, path: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read() -> Any:
        with opener.open(f"http://127.0.0.1:{server.port}{path}") as response:
            return json.load(response)

    return await asyncio.to_thread(read)


def test_a_whole_turn_works_with_the_openai_sdk() -> None:
    async def scenario(server: ModelServer) -> None:
        async with call(server) as connection:
            assert (await connection.recv()).type == "session.created"
            await connection.session.update(session=SESSION)
            await until(connection, "session.updated")
            speech = clip("hello").audio + SILENCE * 8 * 700
            for at in range(0, len(speech), 160):
                await connection.input_audio_buffer.append(audio=base64.b64encode(speech[at : at + 160]).decode())
            events = await until(connection, "response.done")
            assert events[0].type == "input_audio_buffer.speech_started"
            audio = b"".join(base64.b64decode(e.delta) for e in events if e.type == "response.output_audio.delta")
            (record,) = server.records("CA1")
            (item,) = record["items"]
            assert base64.b64decode(item["audio_b64"]) == audio
            assert record["appends"] == -(-len(speech) // 160)
            assert record["closed_ns"] is None
            assert await get(server, "/healthz") == {"status": "ok", "open_sessions": 1}
        await no_session_is_open(server)
        (record,) = await get(server, "/simulator/sessions?request_id=CA1")
        assert record["close_code"] == 1_000
        assert await get(server, "/simulator/sessions?request_id=CA9") == []

    live(scenario)


@pytest.mark.parametrize(
    ("path", "key", "behaviour", "status", "code"),
    [
        ("/v1/realtime?model=gpt-realtime-2.1", "", FAST, 401, "invalid_api_key"),
        ("/v1/realtime?model=gpt-realtime-2.1", "sk-refused-1", FAST, 401, "invalid_api_key"),
        ("/v1/realtime?model=gpt-realtime-2.1", "sk-other", FAST, 401, "invalid_api_key"),
        ("/v1/realtime?model=no-such-model", "sk-only", FAST, 404, "model_not_found"),
        ("/v1/realtime?model=gpt-realtime-2.1", "sk-only", Behaviour(refuse="rate_limit"), 429, "rate_limit_exceeded"),
    ],
)
def test_a_refused_handshake_says_why_as_openai_does(
    path: str, key: str, behaviour: Behaviour, status: int, code: str
) -> None:
    async def scenario(server: ModelServer) -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await raw(server, path, key)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["error"]["code"] == code

    live(scenario, behaviour, api_key="sk-only")


def test_an_expired_session_is_closed_with_1001() -> None:
    async def scenario(server: ModelServer) -> None:
        async with raw(server) as connection:
            events = [json.loads(message) async for message in connection]
            assert events[-1]["error"]["code"] == "session_expired"
            assert connection.close_code == 1_001

    live(scenario, Behaviour(expire_after_ms=20))


def test_a_dropped_socket_ends_without_a_close_frame() -> None:
    async def scenario(server: ModelServer) -> None:
        async with raw(server) as connection:
            with pytest.raises(websockets.ConnectionClosedError) as lost:
                _ = [message async for message in connection]
            assert lost.value.rcvd is None

    live(scenario, Behaviour(drop_session_at_ms=20))


def test_a_calls_socket_can_be_harmed_over_http() -> None:
    async def scenario(server: ModelServer) -> None:
        async with raw(server) as connection:
            await connection.recv()
            assert await get(server, "/simulator/harm?request_id=CA9&seconds=0") == {"harmed": 0}
            began_ns = time.monotonic_ns()
            assert await get(server, "/simulator/harm?request_id=CA2&seconds=0.05") == {"harmed": 1}
            await connection.send('{"type":"session.update","session":{"type":"realtime"}}')
            assert json.loads(await connection.recv())["type"] == "session.updated"
            (record,) = server.records()
            assert record["events"][-1]["at_ns"] - began_ns >= 49_000_000
            assert await get(server, "/simulator/harm?request_id=CA2&seconds=0") == {"harmed": 1}
            with pytest.raises(websockets.ConnectionClosedError):
                await connection.recv()

    live(scenario)


def test_a_client_that_reads_nothing_is_cut_before_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_server, "MAX_UNREAD_BYTES", 100_000)

    async def scenario(server: ModelServer) -> None:
        async with raw(server) as connection:
            connection.transport.pause_reading()
            await connection.send('{"type":"response.create"}')
            await no_session_is_open(server)
            assert server.records()[0]["close_code"] == 1_006
            connection.transport.resume_reading()

    live(scenario, Behaviour(speed=100_000, first_delta_ms=0, answer_ms=600_000, delta_ms=10_000))


def test_a_port_in_use_is_reported_in_one_line() -> None:
    async def scenario(server: ModelServer) -> None:
        command = [sys.executable, "-m", "simulator.model.server", "--port", str(server.port)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=15)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "Address already in use" in line

    live(scenario)
