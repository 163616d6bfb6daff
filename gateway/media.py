"""The media sockets: each call from its handshake to its end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from shared.clock import unix_ms
from shared.facts import StreamEnded
from shared.isolation import QuietCollector
from shared.messages import (
    CallEnded,
    CallerDtmf,
    CallOver,
    CallStarted,
    CallTaken,
    CloseLine,
    EndCall,
    FollowCall,
    LineLost,
    MarkHeard,
    RefuseCall,
)
from shared.plan import Fallback

from .call import Call
from .connections import MediaConnection
from .core import plans
from .core.admission import Admission
from .core.cell import Cell
from .core.chronicle import Chronicle
from .core.media_streams import (
    Connected,
    Dtmf,
    Kind,
    Mark,
    MediaStream,
    Outbound,
    Start,
    Stop,
    ViolationError,
    parse_mark,
)
from .core.signatures import ALGORITHM_HEADER, SIGNATURE_HEADER, Signatures
from .core.tokens import StreamToken, TokenError, Tokens
from .core.twiml import MEDIA_PATH
from .metrics import Metrics
from .peers import Peers

if TYPE_CHECKING:
    from .phone.phone import Phone  # which imports this module

logger = logging.getLogger("gateway")

# From the handshake to `start`. Twilio sends both messages at once.
START_S: Final = 10.0
# A live call sends 50 messages a second. Without any for so long its other end is gone, whatever answers the pings.
IDLE_S: Final = 60.0
# A peer that has not taken a frame for so long does not come back to this conversation.
UNREAD_S: Final = 20.0
_SWEEP_S: Final = 1.0
# 24,000 characters of conversation are replayed at most; a little more for their frame.
MEMORY_MAX_BYTES: Final = 262_144
# How long a hang-up waits for the mark behind the goodbye while no frame leaves.
MARK_S: Final = 10.0
# What websockets closes a connection with, for what the other end did.
_CLOSED_FOR: Final[Mapping[int, Kind]] = {
    CloseCode.MESSAGE_TOO_BIG: Kind.OVERSIZED,
    CloseCode.INVALID_DATA: Kind.INVALID_UTF8,
    CloseCode.PROTOCOL_ERROR: Kind.FRAMING,
}


class MediaSockets:
    """Every media socket of this gateway. While `draining`, no more calls are offered; those that were may come."""

    def __init__(
        self,
        *,
        name: str,
        epoch: int,
        admission: Admission,
        cell: Cell,
        tokens: Tokens,
        signatures: Signatures | None,
        peers: Peers,
        chronicle: Chronicle,
        metrics: Metrics,
        max_unstarted: int,
        unserved_s: int,
    ) -> None:
        # The browser phone, where there is one: its sockets are not signed, and its calls are followed.
        self.phone: Phone | None = None
        self.calls: dict[int, Call] = {}
        self.draining = False
        self._name = name
        self._last_number = epoch << 32
        self._admission = admission
        self._cell = cell
        self._tokens = tokens
        self._signatures = signatures
        self._peers = peers
        self._chronicle = chronicle
        self._metrics = metrics
        self._max_unstarted = max_unstarted
        # How long calls whose worker is gone wait for one, in sweeps; then they get the fallback.
        self._unserved_sweeps_max = unserved_s / _SWEEP_S
        # Sweeps since a worker could be had. Not a time: what passes while this process is stopped says nothing.
        self._unserved_sweeps = 0
        # Sockets between handshake and `start`: at most `max_unstarted`, more are refused with 503.
        self._unstarted = 0
        self._by_sid: dict[str, Call] = {}
        # Closing handshakes in progress.
        self._closing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._collector = QuietCollector()

    @property
    def is_idle(self) -> bool:
        """No call is live, no socket may still become one."""
        return not self.calls and not self._unstarted

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake before anything is allocated for it, or None."""
        path, question_mark, _ = request.path.partition("?")
        # Twilio is known to sign the URL with a slash at its end; it may ask for it, too.
        if path not in (MEDIA_PATH, MEDIA_PATH + "/"):
            return self._refuse(connection, "path", HTTPStatus.NOT_FOUND)
        if question_mark:
            return self._refuse(connection, "query", HTTPStatus.BAD_REQUEST)
        if not self._is_signed(request) and not (self.phone is not None and self.phone.admits(request)):
            return self._refuse(connection, "signature", HTTPStatus.FORBIDDEN)
        if self._unstarted >= self._max_unstarted:
            return self._refuse(connection, "not_accepting", HTTPStatus.SERVICE_UNAVAILABLE)
        return None

    def _is_signed(self, request: Request) -> bool:
        return self._signatures is None or self._signatures.media(
            _single(request, SIGNATURE_HEADER), _single(request, ALGORITHM_HEADER)
        )

    def _refuse(self, connection: ServerConnection, outcome: str, status: HTTPStatus) -> Response:
        self._metrics.handshakes[outcome].inc()
        return connection.respond(status, f"{status.phrase}\n")

    async def serve(self, connection: MediaConnection) -> None:
        """One media socket, from the end of its handshake on."""
        call: Call | None = None
        reason = "lost"
        stream = MediaStream()
        # Not in `check`: websockets has yet to find the handshake well formed then.
        self._metrics.handshakes["accepted"].inc()
        self._unstarted += 1
        try:
            try:
                async with asyncio.timeout(START_S):
                    call = await self._start(connection, stream)
            except TimeoutError:
                self._metrics.starts_refused["timeout"].inc()
            finally:
                self._unstarted -= 1
            if call is not None:
                reason = await connection.receive_each(partial(self._received, call, stream))
                self._end(call, reason)
                if reason == "stop":
                    return
            await connection.close(CloseCode.POLICY_VIOLATION)
        except ConnectionClosed as exc:
            kind = None if exc.sent is None or exc.rcvd_then_sent else _CLOSED_FOR.get(exc.sent.code)
            if kind is not None:
                self._metrics.violations[kind].inc()
        except Exception:
            # websockets closes the socket with 1011 and says nothing of its own here: see port.py.
            logger.exception("a media socket ended by a fault of ours")
            raise
        finally:
            if call is not None:
                self._end(call, reason)

    async def _start(self, connection: MediaConnection, stream: MediaStream) -> Call | None:
        """Read up to `start` and begin the call; None when this socket may not."""
        while True:
            try:
                message = stream.receive(await connection.recv())
            except ViolationError as exc:
                self._metrics.violations[exc.kind].inc()
                if exc.fatal:
                    return None
                continue
            if isinstance(message, Start):
                return self._begin(connection, message)

    def _begin(self, connection: MediaConnection, start: Start) -> Call | None:
        now_ns = monotonic_ns()
        fields = start.start
        token = fields.custom_parameters.get("token")
        if token is None:
            self._metrics.starts_refused["no_token"].inc()
            return None
        packed = plans.packed_in(fields.custom_parameters)
        try:
            accepted = self._tokens.use(token, fields.call_sid, fields.account_sid, now_ns, packed_plan=packed)
            plan = plans.unpack(packed)
        except TokenError as exc:
            self._metrics.starts_refused[str(exc)].inc()
            return None
        except plans.PlanError:
            self._metrics.starts_refused["malformed"].inc()
            return None
        worker = self._worker_for(accepted, now_ns)
        if worker is None:
            self._metrics.starts_refused["no_worker"].inc()
            return None
        before = self._by_sid.get(fields.call_sid)
        if before is not None:  # a socket that died without a word; Twilio has given it up
            self._close(before, "lost")
        self._last_number += 1
        call = Call(
            self._last_number,
            fields.call_sid,
            connection,
            worker,
            self._peers.bridges[worker],
            Outbound(start.stream_sid),
            now_ns,
            start.stream_sid,
        )
        call.token_id, call.plan = accepted.token_id, plan
        self._chronicle.stream_began(
            call.call_sid, call.stream_sid, plan, resumed=accepted.resumed, started_ms=unix_ms(now_ns)
        )
        self.calls[call.number] = self._by_sid[call.call_sid] = call
        self._admission.started(call.call_sid, accepted.source)
        self._metrics.calls.set(len(self.calls))
        self._metrics.calls_started.inc()
        call.bridge.post(
            CallStarted(call.number, self._name, accepted.token_id, call.call_sid, start.stream_sid, now_ns, plan)
        )
        if self.phone is not None and self.phone.began(call.number, call.call_sid):
            call.bridge.post(FollowCall(call.number))
        logger.info("call started call_sid=%s call=%x worker=%d", call.call_sid, call.number, worker)
        return call

    def _worker_for(self, token: StreamToken, now_ns: int) -> int | None:
        """The worker that dialled ahead for this call; another one if that is gone; None when none is left."""
        if self._cell.worker_is_there(token.worker, now_ns):
            return token.worker
        return self._cell.pick(now_ns)

    def _received(self, call: Call, stream: MediaStream, data: bytes, is_text: bool) -> str | None:
        """A message of a call; "stop" or "lost" when the call is over: the other end said so or made it meaningless."""
        if call.ended:
            return None  # we closed it; read on until the other end agrees
        try:
            message = stream.receive_text(data) if is_text else stream.receive(data)
        except ViolationError as exc:
            self._metrics.violations[exc.kind].inc()
            return "lost" if exc.fatal else None
        if isinstance(message, bytes):
            if message:
                if not call.audio_rate.allows(len(message), call.connection.heard_ns):
                    self._metrics.violations[Kind.FLOOD].inc()
                    return "lost"
                self._metrics.caller_audio_bytes.inc(len(message))
                call.bridge.audio(call.number, message)
        elif isinstance(message, Mark):
            self._marked(call, message.mark.name)
        elif isinstance(message, Dtmf):
            call.bridge.post(CallerDtmf(call.number, message.dtmf.digit))
        elif isinstance(message, Stop):
            return "stop"
        else:
            assert isinstance(message, Connected | Start)  # the table allows neither here
        return None

    def _marked(self, call: Call, name: str) -> None:
        parsed = parse_mark(name)
        if parsed is None:
            self._metrics.marks_unknown.inc()
            return
        generation, utterance = parsed
        call.bridge.post(MarkHeard(call.number, generation, utterance, monotonic_ns()))
        if generation == call.generation:
            call.heard_utterance = max(call.heard_utterance, utterance)
            if 0 < call.hang_up_after <= call.heard_utterance:
                self._close(call, "hung-up")

    def end_call(self, message: EndCall) -> None:
        """End a call at aibridge's request, after the caller has heard everything queued before it."""
        call = self.calls.get(message.call)
        if call is None:
            return
        self._admission.ordered(call.call_sid, message.order)
        if message.after_utterance <= call.heard_utterance:
            self._close(call, "hung-up")
            return
        call.hang_up_after = message.after_utterance
        if call.hang_up_timer is None:
            call.hang_up_timer = self._loop.call_later(MARK_S, self._mark_is_due, call)

    def refuse_call(self, message: RefuseCall) -> None:
        """Close a socket that is not its call's: nothing is learned about how the call itself ends."""
        call = self.calls.get(message.call)
        if call is not None:
            self._metrics.starts_refused["used"].inc()
            self._close(call, "hung-up", CloseCode.POLICY_VIOLATION)

    def is_anothers(self, call: int, worker: int) -> bool:
        """Whether a call is here, and another worker's than `worker`."""
        known = self.calls.get(call)
        return known is not None and known.worker != worker

    def taken_elsewhere(self, taken: CallTaken) -> None:
        self._admission.taken_elsewhere(taken.call_sid)

    def over(self, over: CallOver) -> None:
        """Whichever gateway hung up: Twilio's next request for the call may reach this one."""
        self._admission.ordered(over.call_sid, over.order)

    def start(self) -> None:
        """Look once a second for calls whose other end is gone."""
        now_ns = monotonic_ns()
        other = self._cell.pick(now_ns)
        self._unserved_sweeps = 0 if other is not None else self._unserved_sweeps + 1
        for call in list(self.calls.values()):
            if not self._cell.worker_is_there(call.worker, now_ns):
                if other is not None:
                    self._move(call, other)
                elif self._unserved_sweeps > self._unserved_sweeps_max:
                    self._admission.ordered(call.call_sid, Fallback())
                    self._close(call, "hung-up")
                    continue
            if now_ns - call.connection.heard_ns > IDLE_S * 1e9:
                self._cut(call, "idle")
            elif call.stuck_since_ns:
                if not call.connection.transport.get_write_buffer_size():
                    # Taken since, with no frame after it to see that: the AI has been silent.
                    call.stuck_since_ns = 0
                elif now_ns - call.stuck_since_ns > UNREAD_S * 1e9:
                    self._cut(call, "unread")
        if not self.calls:
            self._collector.quiet()
        self._timer = self._loop.call_later(_SWEEP_S, self.start)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _cut(self, call: Call, why: str) -> None:
        """Give a call up whose socket would not even take a closing handshake."""
        self._metrics.calls_cut[why].inc()
        self._end(call, "lost")
        call.connection.transport.abort()

    def remember(self, call: int, memory: bytes) -> None:
        """What a call's worker wants its successor to know; MEMORY_MAX_BYTES at most."""
        known = self.calls.get(call)
        if known is not None and len(memory) <= MEMORY_MAX_BYTES:
            known.memory = memory

    def worker_restarted(self, worker: int) -> None:
        """Give a worker that lost its memory the calls that it had."""
        for call in self.calls.values():
            if call.worker == worker:
                self._announce_again(call)

    def _move(self, call: Call, worker: int) -> None:
        """Give a call whose worker is gone to another one."""
        # To be read by one that only sleeps, when it wakes up; txpacer does not listen to it any more.
        call.bridge.post(CallEnded(call.number, "moved"))
        missed = call.bridge.take(call.number)
        call.worker, call.bridge = worker, self._peers.bridges[worker]
        self._announce_again(call)
        if missed:
            call.bridge.audio(call.number, missed)

    def _announce_again(self, call: Call) -> None:
        call.handovers += 1
        self._metrics.calls_given_again.inc()
        logger.info("call call_sid=%s call=%x goes on at worker=%d", call.call_sid, call.number, call.worker)
        call.bridge.post(
            CallStarted(
                call.number,
                self._name,
                call.token_id,
                call.call_sid,
                call.stream_sid,
                call.started_ns,
                call.plan,
                call.handovers,
                call.memory,
            )
        )

    def lines_lost(self, epoch: int) -> None:
        """txpacer was restarted: tell the bridges where each call's speech stopped."""
        for call in self.calls.values():
            call.bridge.post(
                LineLost(call.number, epoch, tuple(call.marks), call.frames_since_mark, call.seq, call.last_wire_ns)
            )

    def _mark_is_due(self, call: Call) -> None:
        """Close a call whose goodbye was never confirmed, but not while it is still being spoken."""
        silent_s = (monotonic_ns() - call.last_wire_ns) / 1e9
        if silent_s < MARK_S:
            call.hang_up_timer = self._loop.call_later(MARK_S - silent_s, self._mark_is_due, call)
        else:
            self._close(call, "hung-up")

    def _close(self, call: Call, reason: str, code: CloseCode = CloseCode.NORMAL_CLOSURE) -> None:
        """End the call now and close its socket in the background."""
        self._end(call, reason)
        task = self._loop.create_task(call.connection.close(code))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _end(self, call: Call, reason: str) -> None:
        """Tell everyone that the call is over, and forget it. Once."""
        if call.ended:
            return
        call.ended = True
        self._collector.ended()
        if call.hang_up_timer is not None:
            call.hang_up_timer.cancel()
            call.hang_up_timer = None
        del self.calls[call.number]
        if self._by_sid.get(call.call_sid) is call:
            del self._by_sid[call.call_sid]
        self._admission.ended(call.call_sid)
        self._metrics.calls.set(len(self.calls))
        self._metrics.calls_ended[reason].inc()
        if call.last_wire_ns:
            self._metrics.call_largest_gap.observe(call.largest_gap_ns / 1e9)
        call.bridge.take(call.number)
        call.bridge.post(CallEnded(call.number, reason))
        self._peers.pacer.post(CloseLine(call.number))
        if self.phone is not None:
            self.phone.ended(call.number)
        self._chronicle.stream_ended(
            StreamEnded(
                call.call_sid,
                call.stream_sid,
                unix_ms(monotonic_ns()),
                reason,
                call.frames,
                call.largest_gap_ns // 1_000,
                call.stalls,
                call.late_frames,
            )
        )
        seconds = (monotonic_ns() - call.started_ns) / 1e9
        logger.info(
            "call ended call_sid=%s call=%x reason=%s seconds=%.1f", call.call_sid, call.number, reason, seconds
        )

    def end_all(self, reason: str) -> None:
        """End what still lives when the time for draining is over; "lost" keeps conversations for another gateway."""
        for call in list(self.calls.values()):
            self._close(call, reason)


def draw_epoch() -> int:
    """The high bits of this process's call numbers: 31 random ones, so that numbers stay below 2**63."""
    return secrets.randbits(31)


def _single(request: Request, name: str) -> str | None:
    """A header's value; None when it is missing, and when it was sent twice."""
    values = request.headers.get_all(name)
    return values[0] if len(values) == 1 else None
