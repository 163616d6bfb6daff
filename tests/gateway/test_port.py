from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.port import PublicPort, is_private, listen, listen_host
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import Settings, read_settings


def settings(**values: Any) -> Settings:
    return read_settings(**values)


def test_a_gateway_without_signatures_listens_on_loopback_by_default():
    assert listen_host(settings(allow_unsigned="on")) == "127.0.0.1"
    assert listen_host(settings(allow_unsigned="on", gateway_host="0.0.0.0")) == "0.0.0.0"
    assert listen_host(settings(twilio_auth_token="x")) == "0.0.0.0"


def test_a_port_in_use_is_reported_in_one_line_with_advice():
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="GATEWAY_PORT") as caught:
        listen("127.0.0.1", taken.getsockname()[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "private"),
    [
        ({"allow_unsigned": "on"}, True),
        ({"allow_unsigned": "on", "gateway_host": "0.0.0.0"}, False),
        ({"allow_unsigned": "on", "public_url": "https://voice.example.com"}, False),
        ({"twilio_auth_token": "x"}, False),
    ],
)
def test_a_port_is_private_when_neither_address_nor_origin_leads_beyond_the_machine(values, private):
    assert is_private(settings(**values)) is private


def test_connections_that_wait_to_be_accepted_are_answered_although_the_port_closes():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("answered")(scope, receive, send)

    async def main():
        listener = listen("127.0.0.1", 0, shared=True)
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        port = PublicPort(listener, app, check_media=lambda *_: None, serve_media=lambda _: app, metrics=metrics)
        await port.start()
        # The kernel completes these connections; the loop does not run in between.
        callers = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        port.stop_listening()
        for caller in callers:
            caller.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=caller)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"answered")
            writer.close()
        await port.close()

    # The loop of production: its listening sockets accept in their own way.
    uvloop.run(asyncio.wait_for(main(), 10))
