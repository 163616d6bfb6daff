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
from openai import AsyncOpenAI
from websockets.asyncio.server import ServerConnection, serve

from aibridge.models.port import Numbers
from aibridge.models.realtime.session import Session, probe, tls_context
from tests.on_a_loop import on_a_loop


async def accept(connection: ServerConnection) -> None:
    """A model that takes any settings."""
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
async def test_sessions_share_what_is_known_of_certificates_and_it_is_read_once(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with serve(accept, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        client = AsyncOpenAI(api_key="sk-test", base_url=f"https://127.0.0.1:{port}/v1")
        tls = tls_context(client)

        def read_again(*_: Any, **__: Any) -> ssl.SSLContext:
            raise AssertionError("the certificates were read again")

        monkeypatch.setattr(ssl, "create_default_context", read_again)
        async with asyncio.timeout(10):
            for _ in range(2):
                await probe(client, model="m", config={"type": "realtime"}, tls=tls)
        await client.close()


def test_plain_http_needs_no_certificates() -> None:
    assert tls_context(AsyncOpenAI(api_key="sk-test", base_url="http://127.0.0.1:9/v1")) is None


def test_a_session_that_the_server_closes_is_over_even_if_its_socket_stays_open() -> None:
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
            async with AsyncOpenAI(api_key="sk-test", base_url=f"http://127.0.0.1:{port}/v1") as client:
                session = Session(
                    client,
                    model="m",
                    config={"type": "realtime"},
                    phrases={},
                    numbers=Numbers(),
                    request_id="CA1",
                    on_event=nothing,
                    on_malformed=nothing,
                    tls=None,
                )
                try:
                    # The closing handshake may take a second.
                    await asyncio.wait_for(session.run(), 0.5)
                finally:
                    ended.set()

    asyncio.run(scenario())
