"""The private port: for this machine, unless somebody says otherwise."""

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
from shared.settings import Settings


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


def test_only_this_machine_reaches_it_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = []
    monkeypatch.setattr(socket, "create_server", lambda address, **_: bound.append(address))
    monkeypatch.delenv("METRICS_HOST", raising=False)
    listen(Settings(_env_file=None))  # type: ignore[call-arg]
    assert ipaddress.ip_address(bound[0][0]).is_loopback


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:9464", 200), ("127.0.0.1", 200), ("rebound.example", 400), ("localhost.rebound.example", 400)],
)
def test_a_page_under_a_name_of_its_own_reads_nothing(host: str, status: int) -> None:
    assert ask("/there", host) == status


def test_where_others_may_reach_it_it_has_any_name() -> None:
    assert ask("/there", "metrics.internal", bound_to="0.0.0.0") == 200


def test_nobody_is_redirected_to_where_a_host_header_says() -> None:
    assert ask("/there/", "elsewhere.example", bound_to="0.0.0.0") == 404
