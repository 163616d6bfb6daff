"""The list of calls with its search and filters, and the live calls, over the API."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from callbook import models
from callbook.api import Api, refuse

NOW = datetime.now(UTC)


def turn(number, role, text, **more):
    fields = {"text": text, "heard_text": text, "spoken_ms": 0, "heard_ms": 0, "interrupted": False} | more
    return models.Turn(item_id=f"item-{number}", number=number, role=role, **fields)


@pytest.fixture
def app(engine):
    """Three calls: live, ended by the caller with a gap, and lost."""
    with Session(engine) as session, session.begin():
        live = models.Call(call_sid="CA-live", from_number="+15550001", agent="office", began_at=NOW)
        live.turns = [
            turn(1, "ai", "Good evening."),
            turn(2, "caller", "Is the terrace 100% free?"),
            turn(3, "tool", "yes", tool="look_up", outcome="done"),
        ]
        samples = json.dumps([[0, 120, 40, 0, 0], [1_000, 80, 40, 15, 0]])
        live.path = [models.PathSamples(stream_sid="MZ1", began_at=NOW, samples=samples)]
        ended = models.Call(call_sid="CA-ended", from_number="+4930123", agent="sales", began_at=NOW, ended_at=NOW)
        ended.end_reason = "stop"
        ended.streams = [models.Stream(stream_sid="MZ2", ear_gaps=2, ear_gap_us=90_000)]
        ended.turns = [turn(1, "caller", "Grüß Gott.")]
        lost = models.Call(call_sid="CA-lost", from_number="+15550002", began_at=NOW, ended_at=NOW, end_reason="lost")
        lost.streams = [models.Stream(stream_sid="MZ3", ear_gaps=0)]
        forgotten = models.Call(call_sid="CA-old", from_number="+1", began_at=NOW - timedelta(days=3))
        session.add_all([live, ended, lost, forgotten])
    return Starlette(routes=Api(engine).routes(), exception_handlers={HTTPException: refuse})


def get(app, path, **query):
    async def ask():
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://calls") as client:
            return await client.get(path, params=query)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"CA-live", "CA-ended", "CA-lost", "CA-old"}),
        ({"q": "+1555"}, {"CA-live", "CA-lost"}),
        ({"q": "SALES"}, {"CA-ended"}),
        ({"q": "CA-lost"}, {"CA-lost"}),
        ({"q": " terrace "}, {"CA-live"}),
        ({"q": "100%"}, {"CA-live"}),
        ({"q": "_"}, set()),
        ({"ended": "live"}, {"CA-live", "CA-old"}),
        ({"ended": "lost"}, {"CA-lost"}),
        ({"gaps": "1"}, {"CA-ended"}),
        ({"q": "+1555", "ended": "lost"}, {"CA-lost"}),
    ],
)
def test_search_and_filters_find_the_calls_that_match_all_of_them(app, query, found):
    assert {call["call_sid"] for call in get(app, "/api/calls", **query).json()["calls"]} == found


@pytest.mark.parametrize(("query", "said"), [({"ended": "x"}, "`ended` must be one of"), ({"gaps": "x"}, "`gaps`")])
def test_a_filter_that_does_not_exist_is_refused(app, query, said):
    answer = get(app, "/api/calls", **query)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_the_live_calls_tell_the_last_turn_the_tools_and_the_last_sample_of_their_path(app):
    answer = get(app, "/api/live").json()
    (call,) = answer["calls"]
    assert call["call_sid"] == "CA-live"
    assert call["last_turn"] == {"role": "caller", "text": "Is the terrace 100% free?"}
    assert call["tools"] == [{"tool": "look_up", "outcome": "done"}]
    assert (call["path"]["lead_ms"], call["path"]["delay_ms"]) == (80, 15)
    assert not answer["more"]
