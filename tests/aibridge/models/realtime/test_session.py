"""A Realtime session against a server that the test plays itself."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from aibridge.core.agent import Agent
from aibridge.models.port import Numbers, SessionReady
from aibridge.models.realtime.servers import Server, Servers
from aibridge.models.realtime.session import WRITE_MAX_BYTES, ModelRefusedError, Session, probe
from shared import liveness
from tests.on_a_loop import on_a_loop


async def accept(connection: ServerConnection) -> None:
    """A model that accepts any settings."""
    await connection.send('{"type": "session.created"}')
    assert json.loads(await connection.recv())["type"] == "session.update"
    await connection.send('{"type": "session.updated"}')
    await connection.wait_closed()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of a server on 127.0.0.1, signed by itself; its key lies beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes its certificate with openssl")
    path = tmp_path / "server.pem"
    command = [openssl, "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-subj", "/CN=model", "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(path)]
    subprocess.run([*command, "-keyout", str(path.with_suffix(".key"))], check=True, capture_output=True)
    return path


@on_a_loop
async def test_all_sessions_of_a_worker_share_certificates_that_are_read_once(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with serve(accept, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        servers = Servers(f"https://127.0.0.1:{port}/v1", "sk-test")

        def read_again(*_: Any, **__: Any) -> ssl.SSLContext:
            raise AssertionError("the certificates were read again")

        monkeypatch.setattr(ssl, "create_default_context", read_again)
        async with asyncio.timeout(10):
            for key in ("", "key", ""):
                of = servers.of(Agent(instructions="x", api_key_env="KEY" if key else ""), {"KEY": key})
                await probe(of, model="m", config={"type": "realtime"})


def test_plain_http_needs_no_certificates() -> None:
    servers = Servers("http://127.0.0.1:9/v1", "sk-test")
    assert servers.of(Agent(instructions="x"), {}).tls is None


def test_a_session_that_the_server_closes_is_over_although_its_socket_stays_open() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def close_halfway(connection: ServerConnection) -> None:
            connection.transport.pause_reading()
            connection.protocol.send_close(1001, "session expired")
            connection.send_data()
            await ended.wait()
            connection.transport.abort()

        nothing: Any = lambda *_: None  # noqa: E731
        async with serve(close_halfway, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            model = Server(f"http://127.0.0.1:{port}/v1", "sk-test")
            session = Session(
                model,
                model="m",
                config={"type": "realtime"},
                phrases={},
                numbers=Numbers(),
                request_id="CA1",
                on_event=nothing,
                on_malformed=nothing,
            )
            try:
                # The closing handshake may take a second.
                await asyncio.wait_for(session.run(), 0.5)
            finally:
                ended.set()

    asyncio.run(scenario())


def session_at(model: Server, on_event: Any = lambda *_: None) -> Session:
    return Session(
        model,
        model="m",
        config={"type": "realtime"},
        phrases={},
        numbers=Numbers(),
        request_id="CA1",
        on_event=on_event,
        on_malformed=lambda: None,
    )


async def go_dark(connection: ServerConnection) -> None:
    """A path over which nothing comes through any more, once the session is there."""
    await connection.send('{"type": "session.created"}')
    await connection.recv()
    await connection.send('{"type": "session.updated", "session": {"model": "the-model"}}')
    connection.transport.pause_reading()
    await connection.wait_closed()


@on_a_loop
async def test_a_path_that_goes_dark_while_nobody_speaks_is_noticed_by_its_pings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert liveness.MODEL_PING_S + liveness.MODEL_PONG_S <= 10
    monkeypatch.setattr(liveness, "MODEL_PING_S", 0.05)
    monkeypatch.setattr(liveness, "MODEL_PONG_S", 0.05)
    async with serve(go_dark, "127.0.0.1", 0, close_timeout=0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        model = Server(f"http://127.0.0.1:{port}/v1", "sk-test")
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(session_at(model).run(), 5)
        for connection in server.connections:
            connection.transport.abort()


@on_a_loop
async def test_a_server_that_takes_no_audio_any_more_is_given_up_before_much_of_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with serve(go_dark, "127.0.0.1", 0, close_timeout=0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        model = Server(f"http://127.0.0.1:{port}/v1", "sk-test")
        ready = asyncio.Event()
        session = session_at(model, lambda _: ready.set())
        running = asyncio.create_task(session.run())
        await ready.wait()
        assert session.ready == SessionReady("the-model")
        # The kernel accepts some of it; the rest is bounded.
        for _ in range(10_000):
            session.hear(bytes(8_000))
        assert session._websocket is not None
        assert session._websocket.transport.get_write_buffer_size() < 2 * WRITE_MAX_BYTES
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(running, 5)
        for connection in server.connections:
            connection.transport.abort()


@on_a_loop
async def test_settings_that_the_server_refuses_are_told_from_a_key_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def refuse(connection: ServerConnection) -> None:
        await connection.send('{"type": "session.created"}')
        await connection.recv()
        code = connection.request.headers["X-Client-Request-Id"] if connection.request is not None else ""
        await connection.send(json.dumps({"type": "error", "error": {"type": "invalid_request_error", "code": code}}))
        await connection.wait_closed()

    async with serve(refuse, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        model = Server(f"http://127.0.0.1:{port}/v1", "sk-test")
        for code, is_settings in (("unknown_parameter", True), ("invalid_api_key", False)):
            session = session_at(model)
            session._request_id = code
            with pytest.raises(ModelRefusedError) as caught:
                await asyncio.wait_for(session.run(), 5)
            assert caught.value.is_settings is is_settings
