"""Asking a server over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aibridge import call_config
from aibridge.core.call_config import CallConfigError
from shared.process import ConfigError
from shared.settings import Settings, read_settings
from tests.on_a_loop import on_a_loop

KEY = b"0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def settings(url: str, secret: str = SECRET) -> Settings:
    return read_settings(call_config_url=url, webhook_secret=secret)


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Its URL and what it was asked: headers and body. `answer` None: it never answers."""
    asked: list[tuple[dict[str, str], bytes]] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
        asked.append((headers, await reader.readexactly(int(headers["content-length"]))))
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/config?token=secret", asked
    finally:
        over.set()
        listening.close()
        await listening.wait_closed()


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def ask(url: str) -> bytes:
    asking = call_config.CallConfig(settings(url))
    try:
        return await asking.ask("CA1", {"event": "call_inbound"})
    finally:
        await asking.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@on_a_loop
async def test_the_question_is_signed_and_the_body_of_the_answer_returned() -> None:
    async with server(http("200 OK", b"{}")) as (url, asked):
        assert await ask(url) == b"{}"
    ((headers, body),) = asked
    assert json.loads(body) == {"event": "call_inbound"}
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert headers["webhook-id"] == "call-inbound-CA1"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (None, "timeout"),
        (b"", "unreachable"),
        (b"nonsense\r\n\r\n", "unreachable"),
        (http("500 Oops", b"secret"), "status"),
        (http("302 Found", b""), "status"),
        (http("200 OK", b"x" * (call_config.MAX_BYTES + 1)), "too_large"),
    ],
)
@on_a_loop
async def test_a_failure_has_a_cause_and_names_no_url(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, cause: str
) -> None:
    monkeypatch.setattr(call_config, "CONFIG_S", 0.2)
    async with server(answer) as (url, _):
        with pytest.raises(CallConfigError) as caught:
            await ask(url)
    assert caught.value.cause == cause
    assert "secret" not in str(caught.value)


@on_a_loop
async def test_a_server_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(CallConfigError, match="cannot be reached"):
        await ask("http://127.0.0.1:9/")


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        ("ftp://host", SECRET, "CALL_CONFIG_URL"),
        ("https://host", "", "WEBHOOK_SECRET"),
        ("https://host", "whsec_short", "WEBHOOK_SECRET"),
    ],
)
def test_settings_with_which_nobody_could_be_asked_are_refused(url: str, secret: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call_config.check(settings(url, secret))


def test_without_the_setting_nothing_else_is_needed() -> None:
    call_config.check(read_settings())
