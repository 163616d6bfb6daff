"""Calls as plain dictionaries, for the API, the terminal and the customer's webhook."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, inspect, or_, select
from sqlalchemy.orm import Session, selectinload

from shared.facts import LATENCY_PARTS

from . import models

# What `Wanted.ended` may be, beside the end_reason of a call.
LIVE: Final = "live"
# Only so many live calls are shown, and calls that ended without a trace are not among them.
LIVE_MAX: Final = 100
LIVE_AGE: Final = timedelta(hours=24)


@dataclass(frozen=True)
class Wanted:
    """Which calls a list shall hold; empty: all."""

    # A part of a number, an agent's name, a CallSid or words that were said.
    words: str = ""
    # LIVE, or an end_reason.
    ended: str = ""
    # Only calls whose caller heard a gap.
    gaps: bool = False


class BadCursorError(ValueError):
    """The API did not return this `before`."""


def page(
    session: Session, *, limit: int, before: str = "", wanted: Wanted = Wanted()
) -> tuple[list[dict[str, Any]], str]:
    """Calls, newest first, and the cursor for the older ones ("" when there are none). Raises BadCursorError."""
    turns = select(func.count()).where(models.Turn.call_sid == models.Call.call_sid).scalar_subquery()
    query = (
        select(models.Call, turns)
        .options(selectinload(models.Call.streams), selectinload(models.Call.recording))
        .order_by(models.Call.began_at.desc(), models.Call.call_sid.desc())
        .where(*_conditions(wanted))
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


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.words:
        columns = (models.Call.call_sid, models.Call.from_number, models.Call.to_number, models.Call.agent)
        said = models.Turn.text.icontains(wanted.words, autoescape=True)
        yield or_(
            *(column.icontains(wanted.words, autoescape=True) for column in columns),
            models.Call.turns.any(said),
            models.Call.usage.any(models.Usage.agent.icontains(wanted.words, autoescape=True)),
        )
    if wanted.ended == LIVE:
        yield models.Call.ended_at.is_(None)
    elif wanted.ended:
        yield models.Call.end_reason == wanted.ended
    if wanted.gaps:
        yield models.Call.streams.any(models.Stream.ear_gaps > 0)


def live(session: Session, now: datetime) -> tuple[list[dict[str, Any]], bool]:
    """The live calls, newest first, as far as their records are; and whether there are more."""
    query = (
        select(models.Call)
        .where(models.Call.ended_at.is_(None), models.Call.began_at > now - LIVE_AGE)
        .options(
            selectinload(models.Call.turns), selectinload(models.Call.path), selectinload(models.Call.interruptions)
        )
        .order_by(models.Call.began_at.desc())
        .limit(LIVE_MAX + 1)
    )
    calls = list(session.scalars(query))
    return [_live(call) for call in calls[:LIVE_MAX]], len(calls) > LIVE_MAX


def _live(call: models.Call) -> dict[str, Any]:
    said = [turn for turn in call.turns if turn.role != "tool"]
    samples = [sample for each in call.path[-1:] for sample in _samples(each)]
    return _columns(call) | {
        "last_turn": {"role": said[-1].role, "text": said[-1].heard_text or said[-1].text} if said else None,
        "interruptions": len(call.interruptions),
        "path": samples[-1] if samples else None,
        "tools": [{"tool": turn.tool, "outcome": turn.outcome} for turn in call.turns if turn.role == "tool"],
    }


def whole(session: Session, call_sid: str) -> dict[str, Any] | None:
    """A call with all its rows."""
    call = session.get(models.Call, call_sid)
    return None if call is None else _whole(call)


def wholes(session: Session, call_sids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `whole` gives for each of these calls, by CallSid, with one query a table for all of them."""
    everything = [selectinload(each.class_attribute) for each in inspect(models.Call).relationships.values()]
    query = select(models.Call).where(models.Call.call_sid.in_(call_sids)).options(*everything)
    return {call.call_sid: _whole(call) for call in session.scalars(query)}


def _whole(call: models.Call) -> dict[str, Any]:
    return summary(call) | {
        "streams": [_columns(each, "call_sid", "source") for each in call.streams],
        "path": [sample for each in call.path for sample in _samples(each)],
        "turns": [_turn(each) for each in call.turns],
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


def _turn(row: models.Turn) -> dict[str, Any]:
    parts = {f"{part}_ms": getattr(row, f"{part}_ms") for part in LATENCY_PARTS}
    latency = None if parts["model_ms"] is None else parts
    return _columns(row, "call_sid", *parts) | {"latency": latency}


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
