"""The tables: calls, their media streams, turns, interruptions, model usage, recordings, and the posts that are due.

The keys are Twilio's SIDs and the model's ids, so a fact that comes twice finds its own row. docs/records.md explains
the columns.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, MetaData, Numeric, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite has no time zones: the zone is removed when storing, and added when reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if not isinstance(value, datetime):
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    # Names for constraints, so that migrations can refer to them on every database.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: Text(), datetime: UtcDateTime(), int: BigInteger()}  # noqa: RUF012


class Source(Base):
    """How many of a process's facts are in this database: the record that makes a second delivery harmless."""

    __tablename__ = "sources"

    source: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    through: Mapped[int]
    updated_at: Mapped[datetime]
    # The process's cell: where several cells share a database, each handles its own sources.
    cell: Mapped[str] = mapped_column(server_default="")


class Call(Base):
    __tablename__ = "calls"
    __table_args__ = (Index("ix_calls_newest", "began_at", "call_sid"),)

    call_sid: Mapped[str] = mapped_column(primary_key=True)
    account_sid: Mapped[str] = mapped_column(default="")
    from_number: Mapped[str] = mapped_column(default="")
    to_number: Mapped[str] = mapped_column(default="")
    # The time of the call's first fact; later, the start of its first stream.
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    # "stop": Twilio said so; "lost": the socket closed without a stop; "hung-up": the gateway closed it.
    end_reason: Mapped[str] = mapped_column(default="")
    # Twilio's status and seconds, from the status callback.
    status: Mapped[str] = mapped_column(default="")
    duration_s: Mapped[int | None]
    # The model and the name of the file of the agent that answered.
    model: Mapped[str] = mapped_column(default="")
    agent: Mapped[str] = mapped_column(default="", server_default="")
    # CELL of its last media stream's cell.
    cell: Mapped[str] = mapped_column(default="", server_default="")

    streams: Mapped[list[Stream]] = relationship(order_by="Stream.started_at", passive_deletes=True)
    turns: Mapped[list[Turn]] = relationship(order_by="(Turn.number, Turn.item_id)", passive_deletes=True)
    interruptions: Mapped[list[Interruption]] = relationship(order_by="Interruption.at", passive_deletes=True)
    hesitations: Mapped[list[Hesitation]] = relationship(order_by="Hesitation.at", passive_deletes=True)
    path: Mapped[list[PathSamples]] = relationship(order_by="PathSamples.began_at", passive_deletes=True)
    dials: Mapped[list[Dial]] = relationship(order_by="Dial.began_at", passive_deletes=True)
    usage: Mapped[list[Usage]] = relationship(order_by="(Usage.at, Usage.conversation)", passive_deletes=True)
    recording: Mapped[Recording | None] = relationship(passive_deletes=True)
    delivery: Mapped[Delivery | None] = relationship(passive_deletes=True)
    trace: Mapped[TraceExport | None] = relationship(passive_deletes=True)


def _of_call(**options: Any) -> Mapped[str]:
    return mapped_column(ForeignKey("calls.call_sid", ondelete="CASCADE"), **options)


class Stream(Base):
    """One media socket of a call, with its transmission figures. A call has several when one was lost."""

    __tablename__ = "streams"

    stream_sid: Mapped[str] = mapped_column(primary_key=True)
    call_sid: Mapped[str] = _of_call(index=True)
    # The gateway that holds the socket; empty in rows of earlier versions.
    source: Mapped[int | None]
    # CELL of that gateway.
    cell: Mapped[str] = mapped_column(default="", server_default="")
    started_at: Mapped[datetime | None]
    first_frame_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str] = mapped_column(default="")
    frames: Mapped[int | None]
    wire_gap_max_us: Mapped[int | None]
    stalls: Mapped[int | None]
    late_frames: Mapped[int | None]
    ear_gaps: Mapped[int | None]
    ear_gap_us: Mapped[int | None]


class PathSamples(Base):
    """Up to a minute of one media stream's lead and path. Most minutes of a calm path have no row."""

    __tablename__ = "path_samples"

    call_sid: Mapped[str] = _of_call(primary_key=True)
    stream_sid: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[datetime] = mapped_column(primary_key=True)
    # JSON, as in shared/facts.py:StreamPath
    samples: Mapped[str]


class Turn(Base):
    """What one side said, or a call of a tool.

    `heard_text` holds the words that the caller heard; of the caller's own words, and of a tool's answer, all.
    """

    __tablename__ = "turns"

    call_sid: Mapped[str] = _of_call(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    # As in shared/facts.py:Turn.
    role: Mapped[str]
    began_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    text: Mapped[str]
    heard_text: Mapped[str]
    spoken_ms: Mapped[int]
    heard_ms: Mapped[int]
    interrupted: Mapped[bool]
    tool: Mapped[str] = mapped_column(server_default="")
    arguments: Mapped[str] = mapped_column(server_default="")
    outcome: Mapped[str] = mapped_column(server_default="")
    # Of an answer: what the caller waited for, as in shared/facts.py:LATENCY_PARTS. Empty: unknown, or no answer.
    carrier_ms: Mapped[int | None]
    detection_ms: Mapped[int | None]
    model_ms: Mapped[int | None]
    line_ms: Mapped[int | None]
    network_ms: Mapped[int | None]


class Interruption(Base):
    """One barge-in: when, and how long the caller still heard the AI after it."""

    __tablename__ = "interruptions"

    call_sid: Mapped[str] = _of_call(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    silent_ms: Mapped[int]
    protected: Mapped[bool]
    cancelled: Mapped[bool]
    # The caller's first sound, when it paused the line, and how long after it the caller still heard the AI; empty
    # without a near ear.
    onset_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    stopped_ms: Mapped[int | None]


class Hesitation(Base):
    """A sound that was no interruption: "unconfirmed" (it paused the AI for `lasted_ms`), or the AI's own "echo"."""

    __tablename__ = "hesitations"

    call_sid: Mapped[str] = _of_call(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    kind: Mapped[str]
    lasted_ms: Mapped[int]


class Dial(Base):
    """One attempt to connect the caller to somebody else."""

    __tablename__ = "dials"

    call_sid: Mapped[str] = _of_call(primary_key=True)
    began_at: Mapped[datetime] = mapped_column(primary_key=True)
    to: Mapped[str]
    # What the called party saw.
    caller_id: Mapped[str]
    ended_at: Mapped[datetime | None]
    # Twilio's DialCallStatus; empty: not known
    outcome: Mapped[str] = mapped_column(default="")
    # How long the two spoke.
    duration_s: Mapped[int | None]
    caller_left: Mapped[bool] = mapped_column(default=False)


class Usage(Base):
    """The tokens that an agent's model used in the call. `cost_usd` is empty without MODEL_PRICES."""

    __tablename__ = "usage"

    call_sid: Mapped[str] = _of_call(primary_key=True)
    conversation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    # The name of its agent's file; empty in rows of earlier versions.
    agent: Mapped[str] = mapped_column(default="", server_default="")
    model: Mapped[str]
    responses: Mapped[int]
    text_in: Mapped[int]
    audio_in: Mapped[int]
    cached_in: Mapped[int]
    text_out: Mapped[int]
    audio_out: Mapped[int]
    cost_usd: Mapped[float | None] = mapped_column(Numeric(12, 6, asdecimal=False))


class Recording(Base):
    """The recording of a call: callbook requests at most one."""

    __tablename__ = "recordings"

    call_sid: Mapped[str] = _of_call(primary_key=True)
    # The cell whose callbook requests it: where several cells share a database, each continues with its own.
    cell: Mapped[str]
    # "wanted", "started", "in-progress", "completed", "absent", "given-up", "deleted"
    state: Mapped[str]
    recording_sid: Mapped[str] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    # Why it was given up, or Twilio's ErrorCode.
    error: Mapped[str] = mapped_column(default="")
    duration_s: Mapped[int | None]
    channels: Mapped[int | None]
    updated_at: Mapped[datetime]


class _Post(Base):
    """A post about a call that ended: due until it was accepted or given up."""

    __abstract__ = True

    call_sid: Mapped[str] = _of_call(primary_key=True)
    # "due", "delivered", "given-up"
    state: Mapped[str] = mapped_column(index=True)
    due_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    # The last answer: an HTTP status, or what failed.
    outcome: Mapped[str] = mapped_column(default="")


class Delivery(_Post):
    """The customer's webhook."""

    __tablename__ = "deliveries"


class TraceExport(_Post):
    """The call's trace."""

    __tablename__ = "trace_exports"
