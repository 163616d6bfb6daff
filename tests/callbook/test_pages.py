"""The calls page's own routes."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import httpx2
import pytest
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from callbook import models
from callbook.pages import routes
from shared.settings import Settings

SID = "CA" + 32 * "a"
T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def get(app: Starlette, path: str) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://calls") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.fixture
def app(engine):
    account = {"twilio_account_sid": "AC1", "twilio_auth_token": "secret", "twilio_api_url": "http://twilio"}
    return Starlette(routes=routes.Pages(engine, Settings(_env_file=None, **account)).routes())


def record(engine, state):
    with Session(engine) as session, session.begin():
        session.add(models.Call(call_sid=SID, began_at=T0))
        session.flush()
        session.add(models.Recording(call_sid=SID, state=state, recording_sid="RE1", cell="", updated_at=T0))


def test_the_list_and_a_call_are_one_page_and_its_files_exist(app):
    page = get(app, "/calls")
    assert page.text == get(app, f"/calls/{SID}").text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    names = set(re.findall(r"/calls/static/[\w.]+", page.text))
    names |= {name for script in names for name in re.findall(r'from "(/calls/static/[\w.]+)"', get(app, script).text)}
    assert len(names) > 3
    for name in names:
        assert get(app, name).status_code == 200
    assert get(app, "/calls/static/routes.py").status_code == 404


def test_the_private_ports_first_page_is_the_list_and_the_live_calls_are_a_page_too(app):
    answer = get(app, "/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/calls")
    assert get(app, "/live").text == get(app, "/calls").text


def test_a_recording_is_fetched_from_twilio_with_the_accounts_token(app, engine, monkeypatch):
    record(engine, "completed")
    asked = []

    async def answer(request):
        asked.append((str(request.url.path), request.url.query, request.headers["authorization"]))
        return Response(b"RIFF....", media_type="audio/wav")

    twilio = Starlette(routes=[Route("/2010-04-01/Accounts/AC1/Recordings/{name}", answer)])
    made = httpx2.AsyncClient

    class Client(made):
        def __init__(self, **options):
            super().__init__(**({"transport": httpx2.ASGITransport(twilio)} | options))

    monkeypatch.setattr(routes.httpx2, "AsyncClient", Client)
    got = get(app, f"/calls/{SID}/recording.wav")
    assert (got.status_code, got.content, got.headers["content-type"]) == (200, b"RIFF....", "audio/wav")
    ((path, query, authorization),) = asked
    assert (path, query) == ("/2010-04-01/Accounts/AC1/Recordings/RE1.wav", "RequestedChannels=2")
    assert authorization.startswith("Basic ")


@pytest.mark.parametrize("state", ["wanted", "in-progress", "deleted"])
def test_a_missing_recording_is_answered_without_an_error(app, engine, state):
    record(engine, state)
    assert get(app, f"/calls/{SID}/recording.wav").status_code == 404
