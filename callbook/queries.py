"""Calls as plain dictionaries, for the API, the terminal and the customer's webhook."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, selectinload

from . import models


class BadCursorError(ValueError):
    """The API did not return this `before`."""


def page(session: Session, *, limit: int, before: str = "") -> tuple[list[dict[str, Any]], str]:
    """Calls, newest first, and the cursor for the older ones ("" when there are none). Raises BadCursorError."""
    turns = select(func.count()).where(models.Turn.call_sid == models.Call.call_sid).scalar_subquery()
    query = (
        select(models.Call, turns)
        .options(selectinload(models.Call.streams), selectinload(models.Call.recording))
        .order_by(models.Call.began_at.desc(), models.Call.call_sid.desc())
        .limit(limit + 1)
    )
    if before:
        query = query.where(_older(before))
    rows = session.execute(query).all()
    calls = [summary(call) | {"turns": count} for call, count in rows[:limit]]
    if len(rows) <= limit:
        return calls, ""
    last = rows[limit - 1][0]
    return calls, _cursor(last)


def whole(session: Session, call_sid: str) -> dict[str, Any] | None:
    """A call with all its rows."""
    call = session.get(models.Call, call_sid)
    if call is None:
        return None
    return summary(call) | {
        "streams": [_columns(each, "call_sid", "source") for each in call.streams],
        "path": [sample for each in call.path for sample in _samples(each)],
        "turns": [_columns(each, "call_sid") for each in call.turns],
        "interruptions": [_columns(each, "call_sid") for each in call.interruptions],
        "dials": [_columns(each, "call_sid") for each in call.dials],
        "hesitations": [_columns(each, "call_sid") for each in call.hesitations],
        "usage": [_columns(each, "call_sid", "conversation") for each in call.usage],
        "webhook": _columns(call.delivery, "call_sid") if call.delivery is not None else None,
    }


def summary(call: models.Call) -> dict[str, Any]:
    """The call's own columns, its recording, and the figures of all its streams together."""
    streams = call.streams
    return _columns(call) | {
        "recording": _columns(call.recording, "call_sid", "cell") if call.recording is not None else None,
        "transmission": {
            "streams": len(streams),
            "frames": sum(each.frames or 0 for each in streams),
            "wire_gap_max_ms": max((each.wire_gap_max_us or 0 for each in streams), default=0) / 1000,
            "stalls": sum(each.stalls or 0 for each in streams),
            "late_frames": sum(each.late_frames or 0 for each in streams),
            "ear_gaps": _sum(each.ear_gaps for each in streams),
            "ear_gap_ms": _sum(None if each.ear_gap_us is None else each.ear_gap_us / 1000 for each in streams),
        },
    }


def _samples(row: models.PathSamples) -> Iterator[dict[str, Any]]:
    for after_ms, lead_ms, least_ms, delay_ms, gap_ms in json.loads(row.samples):
        at = _plain(row.began_at + timedelta(milliseconds=after_ms))
        yield {"at": at, "lead_ms": lead_ms, "least_ms": least_ms, "delay_ms": delay_ms, "gap_ms": gap_ms}


def _sum(values: Any) -> float | None:
    """The sum of the known values; None when no value is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _columns(row: models.Base, *without: str) -> dict[str, Any]:
    return {
        column.key: _plain(getattr(row, column.key)) for column in row.__table__.columns if column.key not in without
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def _cursor(call: models.Call) -> str:
    return base64.urlsafe_b64encode(json.dumps([call.began_at.isoformat(), call.call_sid]).encode()).decode()


def _older(cursor: str) -> ColumnElement[bool]:
    try:
        values: Sequence[Any] = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        began_at, call_sid = datetime.fromisoformat(values[0]), str(values[1])
    except (binascii.Error, ValueError, TypeError, IndexError, KeyError, UnicodeError):
        raise BadCursorError("`before` is not a cursor of this API") from None
    return or_(
        models.Call.began_at < began_at,
        and_(models.Call.began_at == began_at, models.Call.call_sid < call_sid),
    )
