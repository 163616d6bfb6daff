"""Old calls are deleted with all their rows; a call stays while its recording cannot be deleted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from callbook import models
from callbook.metrics import DEFINITIONS, Metrics
from callbook.retention import Retention
from callbook.twilio_rest import RestError
from shared.facts import ConversationBegan, Noted, RecordingMove, StreamBegan, Turn
from shared.metrics import Page

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class FakeRest:
    def __init__(self, *, fails=()):
        self.deleted = []
        self.fails = fails

    async def delete_recording(self, recording_sid):
        if recording_sid in self.fails:
            raise RestError("error", may_be_done=True)
        self.deleted.append(recording_sid)


def forget(engine, records, rest, days):
    """Apply the retention to calls 0 to 5, each a day older than the one before. Returns the calls that are left."""
    facts = []
    for age in range(6):
        sid, at_ms = f"CA{age}", int((NOW - timedelta(days=age, hours=1)).timestamp() * 1000)
        facts += [
            StreamBegan(sid, f"MZ{age}", "AC1", "+1", "+2", False, at_ms, at_ms),
            Turn(sid, "i", 1, "ai", at_ms, at_ms, "x", "x", 1, 1, False),
            ConversationBegan(sid, f"MZ{age}", "m", True, False, at_ms),
            RecordingMove(sid, "started", f"RE{age}", 1, "", at_ms),
        ]
    with Session(engine) as session, session.begin():
        records.write(session, [Noted(1, seq, fact) for seq, fact in enumerate(facts, 1)])
    metrics = Metrics(Page.in_memory(DEFINITIONS))
    asyncio.run(Retention(engine, days=days, rest=rest, metrics=metrics).forget(NOW))
    with Session(engine) as session:
        left = sorted(session.scalars(select(models.Call.call_sid)))
        for table in (models.Stream, models.Turn, models.Recording):
            assert session.scalar(select(func.count()).select_from(table)) == len(left)
    return left


def test_calls_older_than_the_limit_are_deleted_with_their_recordings(engine, records):
    rest = FakeRest()
    assert forget(engine, records, rest, 3) == ["CA0", "CA1", "CA2"]
    assert sorted(rest.deleted) == ["RE3", "RE4", "RE5"]


def test_a_call_whose_recording_could_not_be_deleted_is_kept_for_the_next_time(engine, records):
    assert forget(engine, records, FakeRest(fails={"RE4"}), 3) == ["CA0", "CA1", "CA2", "CA4"]


def test_without_a_limit_no_call_is_deleted(engine, records):
    rest = FakeRest()
    assert len(forget(engine, records, rest, 0)) == 6
    assert rest.deleted == []
