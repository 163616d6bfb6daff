"""Facts into rows: a batch in one transaction, each fact exactly once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from shared.facts import (
    LATENCY_PARTS,
    CallStatus,
    ConversationBegan,
    ConversationEnded,
    DialBegan,
    DialEnded,
    Fact,
    Hesitation,
    Interruption,
    ModelUsage,
    Noted,
    RecordingMove,
    RecordingStatus,
    StreamBegan,
    StreamEnded,
    StreamPath,
    Turn,
)

from . import models
from .core.prices import Prices

# The status of a call moves forward only, because Twilio's callbacks may arrive out of order.
_STATUS_ORDER: Final = {"": 0, "queued": 1, "initiated": 2, "ringing": 3, "in-progress": 4}
_FINAL: Final = 5
# Recording states, in the same way. "deleted" is final.
_RECORDING_ORDER: Final = {
    "wanted": 0,
    "started": 1,
    "in-progress": 2,
    "given-up": 2,
    "absent": 3,
    "completed": 3,
    "deleted": 4,
}
# From the end of a call to its webhook and trace. The last turns, and a stream that replaces a lost one, come within
# this time.
DELIVERY_DELAY_S: Final = 5
# A cell is cut off from a call for at most this long before the call goes on in another one.
CUT_OFF: Final = timedelta(seconds=5)
# While the caller speaks with somebody who was dialled, until Twilio says how that ended.
DIALLED_DELAY_S: Final = 3_600


class Records:
    """Writes facts through a session. `deliveries`: each call that ends gets a due webhook; `traces`: a due trace.

    `cell` is what tells this callbook's rows from those of other cells, `name` what people call the cell: CELL.
    """

    def __init__(
        self, *, prices: Prices, cell: str, name: str = "", deliveries: bool = False, traces: bool = False
    ) -> None:
        self._prices = prices
        # The tokens in the batch that was last written, and their cost: to be counted once that is committed.
        self.used: list[tuple[ModelUsage, float | None]] = []
        self._cell, self._name = cell, name
        posts = ((models.Delivery, deliveries), (models.TraceExport, traces))
        self._posts = [table for table, is_wanted in posts if is_wanted]

    def write(self, session: Session, batch: Sequence[Noted]) -> int:
        """Write the facts of `batch` that this database has not seen, in order. Returns their number.

        The caller commits. Facts of a source come in the order of their seq, so the highest written seq suffices.
        """
        through: dict[int, int] = {}
        written = 0
        self.used = []
        rows = _Rows()
        # Fetch them together, and hold them during the batch: a session forgets rows without a reference.
        calls = {noted.fact.call_sid for noted in batch}
        held = session.scalars(select(models.Call).where(models.Call.call_sid.in_(calls))).all()
        for noted in batch:
            last = through.get(noted.source)
            if last is None:
                row = session.get(models.Source, noted.source, with_for_update=True)
                last = row.through if row is not None else 0
            if noted.seq > last:
                self._write_one(session, rows, noted.fact, noted.source)
                last = noted.seq
                written += 1
            through[noted.source] = last
        for source, seq in through.items():
            rows.put(models.Source, source=source, through=seq, updated_at=datetime.now(UTC), cell=self._cell)
        session.flush()
        rows.write(session)
        del held
        return written

    def skip(self, session: Session, noted: Noted) -> None:
        """Note a poison fact as written without writing it: this database would refuse it again."""
        now = datetime.now(UTC)
        session.merge(models.Source(source=noted.source, through=noted.seq, updated_at=now, cell=self._cell))

    def stream_lost(self, session: Session, stream: models.Stream, at: datetime) -> None:
        """End a stream whose gateway is gone. The call goes on while another stream of it is open."""
        call = session.get_one(models.Call, stream.call_sid)
        following = _next_stream(session, stream)
        if following is not None and following.started_at is not None:
            at = min(at, following.started_at)
        stream.ended_at, stream.end_reason = at, "lost"
        if all(other.ended_at is not None for other in call.streams):
            self._ended(session, call, at, "lost")

    def _write_one(self, session: Session, rows: _Rows, fact: Fact, source: int) -> None:
        match fact:
            case StreamBegan():
                self._stream_began(session, fact, source)
            case StreamEnded():
                self._stream_ended(session, fact)
            case StreamPath():
                self._stream_path(session, rows, fact)
            case CallStatus():
                self._call_status(session, fact)
            case RecordingStatus():
                self._recording_status(session, fact)
            case RecordingMove():
                self._recording_move(session, fact)
            case ConversationBegan():
                self._conversation_began(session, fact)
            case ConversationEnded():
                stream = _stream(session, fact.call_sid, fact.stream_sid, fact.at_ms)
                stream.ear_gaps, stream.ear_gap_us = fact.ear_gaps, fact.ear_gap_us
            case Turn():
                self._turn(session, rows, fact)
            case Interruption():
                self._interruption(session, rows, fact)
            case Hesitation():
                self._hesitation(session, rows, fact)
            case ModelUsage():
                self._usage(session, rows, fact)
            case DialBegan():
                self._dial_began(session, fact)
            case DialEnded():
                self._dial_ended(session, fact)
            case _:
                assert_never(fact)

    def _stream_began(self, session: Session, fact: StreamBegan, source: int) -> None:
        call = _call(session, fact.call_sid, fact.started_ms)
        call.began_at = min(call.began_at, _time(fact.started_ms))
        call.account_sid = fact.account_sid or call.account_sid
        call.from_number = _clean(fact.from_number) or call.from_number
        call.to_number = _clean(fact.to_number) or call.to_number
        stream = _stream(session, fact.call_sid, fact.stream_sid, fact.started_ms)
        stream.source, stream.started_at, stream.cell = source, _time(fact.started_ms), self._name
        stream.first_frame_at = _time(fact.first_frame_ms) if fact.first_frame_ms else None
        is_newest = _next_stream(session, stream) is None
        if is_newest:
            call.cell = self._name
        goes_on = is_newest and stream.ended_at is None and call.end_reason == "lost"
        if call.ended_at is not None and (goes_on or call.ended_at < stream.started_at):
            # The end that was noted was a lost socket's. Another cell may have noticed the loss after this beginning.
            call.ended_at, call.end_reason = None, ""
            for post in _due(call):
                session.delete(post)

    def _stream_ended(self, session: Session, fact: StreamEnded) -> None:
        call = _call(session, fact.call_sid, fact.ended_ms)
        stream = _stream(session, fact.call_sid, fact.stream_sid, fact.ended_ms)
        stream.ended_at, stream.end_reason = _time(fact.ended_ms), fact.reason
        stream.frames, stream.wire_gap_max_us = fact.frames, fact.wire_gap_max_us
        stream.stalls, stream.late_frames = fact.stalls, fact.late_frames
        if fact.reason == "lost" and _next_stream(session, stream) is not None:
            return  # the call has gone on, perhaps in another cell, whose facts may come first
        self._ended(session, call, _time(fact.ended_ms), fact.reason)

    def _stream_path(self, session: Session, rows: _Rows, fact: StreamPath) -> None:
        _call(session, fact.call_sid, fact.began_ms)
        rows.put(
            models.PathSamples,
            call_sid=fact.call_sid,
            stream_sid=fact.stream_sid,
            began_at=_time(fact.began_ms),
            samples=json.dumps(fact.samples, separators=(",", ":")),
        )

    def _call_status(self, session: Session, fact: CallStatus) -> None:
        call = _call(session, fact.call_sid, fact.at_ms)
        call.account_sid = call.account_sid or fact.account_sid
        call.from_number = call.from_number or _clean(fact.from_number)
        call.to_number = call.to_number or _clean(fact.to_number)
        order = _STATUS_ORDER.get(fact.status, _FINAL)
        if order < _STATUS_ORDER.get(call.status, _FINAL):
            return
        call.status = fact.status
        if order == _FINAL:
            self._send_at(call, _time(fact.at_ms), DELIVERY_DELAY_S)
        if fact.duration_s >= 0:
            call.duration_s = fact.duration_s
        if order == _FINAL and call.ended_at is None:
            self._ended(session, call, _time(fact.at_ms), fact.status)

    def _ended(self, session: Session, call: models.Call, at: datetime, reason: str) -> None:
        if call.ended_at is None or call.ended_at < at:
            call.ended_at, call.end_reason = at, reason
        for table in self._posts:
            if session.get(table, call.call_sid) is None:
                delay_s = DELIVERY_DELAY_S if _open_dial(session, call.call_sid) is None else DIALLED_DELAY_S
                due_at = at + timedelta(seconds=delay_s)
                session.add(table(call_sid=call.call_sid, state="due", due_at=due_at, attempts=0, outcome=""))

    def _conversation_began(self, session: Session, fact: ConversationBegan) -> None:
        call = _call(session, fact.call_sid, fact.at_ms)
        if call.agent in ("", fact.agent):  # else a worker has taken over from another, and an agent before that
            call.model, call.agent = fact.model, fact.agent
        if fact.record:
            self._recording(session, fact.call_sid, fact.at_ms)

    def _turn(self, session: Session, rows: _Rows, fact: Turn) -> None:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        call = _call(session, fact.call_sid, fact.began_ms or fact.ended_ms or now_ms)
        went_on = self._went_on(call)
        if went_on is not None and _time(fact.began_ms) >= went_on:
            return  # nobody heard it
        rows.put(
            models.Turn,
            replaces=went_on is None or _time(fact.ended_ms or now_ms) < went_on - CUT_OFF,
            call_sid=fact.call_sid,
            item_id=fact.item_id,
            number=fact.number,
            role=fact.role,
            began_at=_time(fact.began_ms) if fact.began_ms else None,
            ended_at=_time(fact.ended_ms) if fact.ended_ms else None,
            text=_clean(fact.text),
            heard_text=_clean(fact.heard_text),
            spoken_ms=fact.spoken_ms,
            heard_ms=fact.heard_ms,
            interrupted=fact.interrupted,
            tool=fact.tool,
            arguments=_clean(fact.arguments),
            outcome=fact.outcome,
            **_latency(fact),
        )

    def _went_on(self, call: models.Call) -> datetime | None:
        """When the call went on in another cell; None: this cell has it, or had it last."""
        if call.cell in ("", self._name):
            return None
        began = [(stream.started_at, stream.cell) for stream in call.streams if stream.started_at is not None]
        left = max((at for at, cell in began if cell == self._name), default=None)
        return min((at for at, cell in began if cell != self._name and (left is None or at > left)), default=None)

    def _interruption(self, session: Session, rows: _Rows, fact: Interruption) -> None:
        _call(session, fact.call_sid, fact.at_ms)
        rows.put(
            models.Interruption,
            call_sid=fact.call_sid,
            at=_time(fact.at_ms),
            silent_ms=fact.silent_ms,
            protected=fact.protected,
            cancelled=fact.cancelled,
            onset_at=_time(fact.onset_ms) if fact.onset_ms else None,
            paused_at=_time(fact.paused_ms) if fact.paused_ms else None,
            stopped_ms=fact.stopped_ms if fact.onset_ms else None,
        )

    def _hesitation(self, session: Session, rows: _Rows, fact: Hesitation) -> None:
        _call(session, fact.call_sid, fact.at_ms)
        rows.put(
            models.Hesitation,
            call_sid=fact.call_sid,
            at=_time(fact.at_ms),
            kind=fact.kind,
            lasted_ms=fact.lasted_ms,
        )

    def _usage(self, session: Session, rows: _Rows, fact: ModelUsage) -> None:
        _call(session, fact.call_sid, fact.at_ms)
        cost_usd = self._prices.cost_usd(fact)
        self.used.append((fact, cost_usd))
        rows.put(
            models.Usage,
            call_sid=fact.call_sid,
            conversation=fact.conversation,
            at=_time(fact.at_ms),
            agent=fact.agent,
            model=fact.model,
            responses=fact.responses,
            text_in=fact.text_in,
            audio_in=fact.audio_in,
            cached_in=fact.cached_in,
            text_out=fact.text_out,
            audio_out=fact.audio_out,
            cost_usd=cost_usd,
        )

    def _dial_began(self, session: Session, fact: DialBegan) -> None:
        call = _call(session, fact.call_sid, fact.at_ms)
        # The call goes on without a media stream.
        self._send_at(call, _time(fact.at_ms), DIALLED_DELAY_S)
        if _open_dial(session, fact.call_sid) is None:  # else Twilio has repeated its request
            session.add(_dial(fact.call_sid, fact.at_ms, _clean(fact.to), _clean(fact.caller_id)))
            session.flush()

    def _dial_ended(self, session: Session, fact: DialEnded) -> None:
        call = _call(session, fact.call_sid, fact.at_ms)
        dial = _open_dial(session, fact.call_sid)
        if dial is None:
            dial = _dial(fact.call_sid, fact.at_ms, "", "")
            session.add(dial)
        dial.ended_at, dial.outcome, dial.caller_left = _time(fact.at_ms), _clean(fact.outcome), fact.caller_left
        dial.duration_s = fact.duration_s if fact.duration_s >= 0 else None
        session.flush()
        if fact.caller_left:
            self._ended(session, call, _time(fact.at_ms), "stop")
            self._send_at(call, _time(fact.at_ms), DELIVERY_DELAY_S)

    def _send_at(self, call: models.Call, at: datetime, delay_s: int) -> None:
        """Send the call's webhook and trace this long after `at`, unless they were sent before."""
        for post in _due(call):
            if not post.attempts:
                post.due_at = at + timedelta(seconds=delay_s)

    def _recording_move(self, session: Session, fact: RecordingMove) -> None:
        recording = self._recording(session, fact.call_sid, fact.at_ms)
        recording.recording_sid = fact.recording_sid or recording.recording_sid
        recording.attempts = fact.attempts or recording.attempts
        recording.error = _clean(fact.error) or recording.error
        _forward(recording, fact.state, fact.at_ms)

    def _recording_status(self, session: Session, fact: RecordingStatus) -> None:
        recording = session.get(models.Recording, fact.call_sid)
        if recording is None or recording.recording_sid not in ("", fact.recording_sid):
            return  # a recording that somebody else asked for
        recording.recording_sid = fact.recording_sid
        recording.error = _clean(fact.error_code) or recording.error
        if fact.duration_s >= 0:
            recording.duration_s = fact.duration_s
        recording.channels = fact.channels or recording.channels
        _forward(recording, fact.status, fact.at_ms)

    def _recording(self, session: Session, call_sid: str, at_ms: int) -> models.Recording:
        _call(session, call_sid, at_ms)
        recording = session.get(models.Recording, call_sid)
        if recording is None:
            recording = models.Recording(call_sid=call_sid, cell=self._cell, state="wanted")
            recording.recording_sid = recording.error = ""
            recording.attempts = 0
            recording.updated_at = _time(at_ms)
            session.add(recording)
            session.flush()
        return recording


class _Rows:
    """Rows that are always written whole. They are written at the end of a batch; the last version counts.

    One statement per table costs a fifth of reading and writing each row through the session.
    """

    def __init__(self) -> None:
        # By table, and whether a row that is there is replaced; then by key.
        self._rows: dict[tuple[type[models.Base], bool], dict[tuple[Any, ...], dict[str, Any]]] = {}

    def put(self, table: type[models.Base], *, replaces: bool = True, **values: Any) -> None:
        key = tuple(values[name] for name in _key(table))
        self._rows.setdefault((table, replaces), {})[key] = values

    def write(self, session: Session) -> None:
        insert = _insert(session.get_bind().dialect.name)
        for (table, replaces), rows in self._rows.items():
            statement = insert(table)
            key = _key(table)
            if not replaces:
                session.execute(statement.on_conflict_do_nothing(index_elements=key), list(rows.values()))
                continue
            others = {name: statement.excluded[name] for name in next(iter(rows.values())) if name not in key}
            session.execute(statement.on_conflict_do_update(index_elements=key, set_=others), list(rows.values()))


def _insert(dialect: str) -> Any:
    """The INSERT of this database, with its ON CONFLICT. Of the dialects, only this one is loaded: one has 2 MB."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        return postgresql_insert
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert


def _key(table: type[models.Base]) -> list[str]:
    return [column.name for column in inspect(table).primary_key]


def _call(session: Session, call_sid: str, at_ms: int) -> models.Call:
    """The call's row; a new row for an unknown call, because the facts of two processes come in any order."""
    call = session.get(models.Call, call_sid)
    if call is None:
        call = models.Call(call_sid=call_sid, began_at=_time(at_ms), ended_at=None, end_reason="", status="")
        call.account_sid = call.from_number = call.to_number = call.model = call.agent = ""
        session.add(call)
        session.flush()
    return call


def _stream(session: Session, call_sid: str, stream_sid: str, at_ms: int) -> models.Stream:
    _call(session, call_sid, at_ms)
    stream = session.get(models.Stream, stream_sid)
    if stream is None:
        stream = models.Stream(stream_sid=stream_sid, call_sid=call_sid, end_reason="")
        session.add(stream)
        session.flush()
    return stream


def _next_stream(session: Session, stream: models.Stream) -> models.Stream | None:
    """The media stream in which the call went on after this one."""
    table = models.Stream
    found = select(table).where(table.call_sid == stream.call_sid, table.stream_sid != stream.stream_sid)
    if stream.started_at is not None:
        found = found.where(table.started_at > stream.started_at)
    return session.scalars(found.where(table.started_at.is_not(None)).order_by(table.started_at).limit(1)).first()


def _dial(call_sid: str, at_ms: int, to: str, caller_id: str) -> models.Dial:
    return models.Dial(
        call_sid=call_sid, began_at=_time(at_ms), to=to, caller_id=caller_id, outcome="", caller_left=False
    )


def _open_dial(session: Session, call_sid: str) -> models.Dial | None:
    """The call's last attempt whose outcome is not known."""
    found = select(models.Dial).where(models.Dial.call_sid == call_sid, models.Dial.ended_at.is_(None))
    return session.scalars(found.order_by(models.Dial.began_at.desc()).limit(1)).first()


def _due(call: models.Call) -> list[models.Delivery | models.TraceExport]:
    """The call's webhook and trace, as far as they are due."""
    return [post for post in (call.delivery, call.trace) if post is not None and post.state == "due"]


def _forward(recording: models.Recording, state: str, at_ms: int) -> None:
    if _RECORDING_ORDER.get(state, 0) >= _RECORDING_ORDER.get(recording.state, 0):
        recording.state = state
        recording.updated_at = _time(at_ms)


def _latency(fact: Turn) -> dict[str, int | None]:
    """The columns of an answer's latency; all empty for any other turn."""
    known = fact.latency_ms or (-1,) * len(LATENCY_PARTS)
    return {f"{part}_ms": ms if ms >= 0 else None for part, ms in zip(LATENCY_PARTS, known, strict=True)}


def _time(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)


def _clean(text: str) -> str:
    """Without NUL, which PostgreSQL's text cannot hold."""
    return text.replace("\0", "")
