"""The private port: for this machine only, unless METRICS_HOST says otherwise."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from callbook.private_port import PrivatePort, listen
from shared.settings import read_settings


async def _there(request: Request) -> PlainTextResponse:
    return PlainTextResponse("there")


def ask(path: str, host: str, *, bound_to: str = "127.0.0.1") -> int:
    """The status of a GET with this Host header."""

    async def scenario() -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        port = PrivatePort(listener, [Route("/there", _there)], host=bound_to)
        port.start()
        try:
            async with httpx2.AsyncClient(trust_env=False) as client:
                return (await client.get(url, headers={"Host": host})).status_code
        finally:
            await port.close()

    return asyncio.run(scenario())


def test_by_default_only_this_machine_reaches_the_private_port(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = []
    monkeypatch.setattr(socket, "create_server", lambda address, **_: bound.append(address))
    monkeypatch.delenv("METRICS_HOST", raising=False)
    listen(read_settings())
    assert ipaddress.ip_address(bound[0][0]).is_loopback


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:9464", 200), ("127.0.0.1", 200), ("rebound.example", 400), ("localhost.rebound.example", 400)],
)
def test_a_page_under_a_foreign_name_cannot_read_the_private_port(host: str, status: int) -> None:
    assert ask("/there", host) == status


def test_a_private_port_that_others_may_reach_answers_under_any_name() -> None:
    assert ask("/there", "metrics.internal", bound_to="0.0.0.0") == 200


def test_a_host_header_causes_no_redirect() -> None:
    assert ask("/there/", "elsewhere.example", bound_to="0.0.0.0") == 404
