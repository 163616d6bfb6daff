"""Arbitrary HTTP at the public port of a real gateway process: every answer is documented, none is a fault."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TOKEN = "0123456789abcdef0123456789abcdef"
# Without 101: without a signature there is no media socket.
DOCUMENTED = {200, 204, 400, 403, 404, 405, 408, 413, 415, 426, 503}
PATHS = (
    "/twilio/voice",
    "/twilio/media",
    "/twilio/media/",
    "/twilio/status",
    "/twilio/recording",
    "/healthz",
    "/readyz",
    "/twilio/voice/",
    "/healthz/",
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    directory = tmp_path_factory.mktemp("http")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    env = {
        "PATH": os.environ["PATH"],
        "RUN_DIR": str(directory / "run"),
        "GATEWAY_PORT": str(port),
        "GATEWAY_HOST": "127.0.0.1",
        "TWILIO_AUTH_TOKEN": TOKEN,
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    log = directory / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], env=env, cwd=directory, stderr=file)
        try:
            while True:
                assert process.poll() is None
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            yield port, log
            assert process.poll() is None
        finally:
            process.terminate()
            assert process.wait(10) == 0


def answer(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as peer:
        try:
            peer.sendall(request)
            peer.shutdown(socket.SHUT_WR)
            received = b""
            while data := peer.recv(65_536):
                received += data
        except (BrokenPipeError, ConnectionResetError):
            return b""
        return received


header_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE"]))
    target = draw(st.sampled_from(PATHS)) + draw(st.sampled_from(["", "?resume=1", "?", "/..", "%00", "?a=%ff&b"]))
    body = draw(st.binary(max_size=200) | st.sampled_from([b"CallSid=CA1", b"&" * 2_000, b"a=" + b"x" * 70_000]))
    headers = {"Host": "x", "Connection": "close"}
    if draw(st.booleans()):
        headers["Content-Type"] = draw(st.sampled_from(["application/x-www-form-urlencoded", "application/json", "x"]))
    if draw(st.booleans()):
        headers["X-Twilio-Signature"] = draw(header_text)
    if draw(st.integers(0, 9)) == 0:
        headers["X-Twilio-Webhooks-Signature-Settings"] = draw(header_text)
    if draw(st.integers(0, 4)) == 0:
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        headers["Sec-WebSocket-Key"] = draw(st.sampled_from(["dGhlIHNhbXBsZSBub25jZQ==", "x", ""]))
    length = draw(st.sampled_from([len(body), len(body), len(body), 0, len(body) + 5]))
    headers["Content-Length"] = str(length)
    if draw(st.integers(0, 9)) == 0:
        headers[draw(st.sampled_from(["Transfer-Encoding", "X-Forwarded-Host", "Expect"]))] = "chunked"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


@given(request=requests() | st.binary(max_size=300))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_request_gets_a_documented_answer(gateway: tuple[int, Path], request: bytes) -> None:
    port, _log = gateway
    received = answer(port, request)
    if received:
        assert received.startswith(b"HTTP/1.1 "), received[:100]
        assert int(received.split()[1]) in DOCUMENTED, received[:200]
    assert b"<Connect>" not in received


def test_after_arbitrary_requests_the_gateway_answers_as_before_and_has_logged_no_fault(
    gateway: tuple[int, Path],
) -> None:
    port, log = gateway
    assert answer(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"ok\n")
    text = log.read_text()
    assert "Traceback" not in text
    assert TOKEN not in text
