"""The address and the headers with which a session is dialled."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from aibridge.core.agent import Agent
from aibridge.models.port import Numbers
from aibridge.models.realtime.servers import OPENAI, Server, Servers
from aibridge.models.realtime.session import Session
from tests.on_a_loop import on_a_loop


def session_at(server: Server) -> Session:
    return Session(
        server,
        model="gpt-realtime-2.1",
        config={"type": "realtime"},
        phrases={},
        numbers=Numbers(),
        request_id="CA1",
        on_event=lambda _: None,
        on_malformed=lambda: None,
    )


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/openai/v1?api-version=preview"])
@on_a_loop
async def test_a_session_is_dialled_as_the_sdk_dials_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
    dialled: list[Request] = []

    async def hang_up(connection: ServerConnection) -> None:
        assert connection.request is not None
        dialled.append(connection.request)
        await connection.close()

    async with serve(hang_up, "127.0.0.1", 0) as model:
        base_url = f"http://127.0.0.1:{next(iter(model.sockets)).getsockname()[1]}{path}"
        await session_at(Server(base_url, "sk-test")).run()
        async with AsyncOpenAI(api_key="sk-test", base_url=base_url) as client:
            await client.realtime.connect(model="gpt-realtime-2.1").enter()
    ours, sdk = dialled
    assert ours.path == sdk.path
    for name in ("Authorization", "OpenAI-Organization", "OpenAI-Project"):
        assert ours.headers[name] == sdk.headers[name]
    assert ours.headers["X-Client-Request-Id"] == "CA1"


@on_a_loop
async def test_a_redirect_does_not_take_the_key_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked: list[str] = []

    def redirect(connection: ServerConnection, request: Request) -> Response:
        asked.append(request.path)
        response = connection.respond(302, "")
        response.headers["Location"] = f"ws://localhost:{connection.local_address[1]}/elsewhere"
        return response

    async with serve(lambda _: None, "127.0.0.1", 0, process_request=redirect) as model:  # type: ignore[arg-type, return-value]  # no session begins
        port = next(iter(model.sockets)).getsockname()[1]
        with pytest.raises(InvalidStatus):
            await session_at(Server(f"http://127.0.0.1:{port}/v1", "sk-test")).run()
    assert len(asked) == 1


def test_an_agent_may_have_a_server_or_a_key_of_its_own() -> None:
    servers = Servers("", "sk-settings")
    default = servers.of(Agent(instructions="x"), {})
    assert (default.base_url, default.key) == (OPENAI, "sk-settings")
    own = servers.of(Agent(instructions="x", base_url="http://model:1/v1", api_key_env="KEY"), {"KEY": "sk-own"})
    assert (own.base_url, own.key, own.tls, own.address) == ("http://model:1/v1", "sk-own", None, "model:1")


def test_a_key_is_not_shown() -> None:
    assert "sk-" not in repr(Server(OPENAI, "sk-test"))
