"""The live calls of a gateway: events and `now_ns` in, commands out; no socket, no clock.

hangup.py has the table of what an event does to a call. This file detects the events and carries out their acts.
handover.py has the messages to a worker; offers.py has the time before a call.

Two things happen too often for commands: frames that leave (stalls.py) and caller audio (limits.py). The shell handles
them with the objects of a Call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from shared.facts import StreamEnded
from shared.liveness import IDLE_S, PACER_GONE_S, PEER_SILENT_S, ns
from shared.messages import (
    CallAdopted,
    CallConfigured,
    CallElsewhere,
    CallEnded,
    CallerDtmf,
    CallMemory,
    CallNote,
    CallOver,
    CallRecalled,
    CallTaken,
    CloseLine,
    EndCall,
    FirstFrameSent,
    MarkHeard,
    Message,
    PacerState,
    PathSamples,
    RefuseCall,
    WorkerState,
)
from shared.plan import Fallback, HangUp

from . import handover
from .agent_check import AgentCheck
from .call import KEYS_MAX, Call
from .chronicle import Chronicle
from .commands import (
    AnswerWebhook,
    CloseSocket,
    CloseStory,
    Command,
    EarEcho,
    KeepStory,
    Log,
    Note,
    Release,
    ShowNote,
    ToPacer,
    ToWorker,
)
from .fallback import IN_A_CALL, Absence
from .hangup import TABLE, Act, Close, Event
from .media_streams import Dtmf, Mark, Start, Stop, parse_mark
from .metrics import Metrics
from .neighbours import Neighbours
from .offers import Offers
from .path import PathLog, PathProbe
from .pulse import Pulse
from .rules import Rules
from .stalls import FrameLog

IDLE_NS: Final = ns(IDLE_S)
# A caller's audio comes every 20 ms. A call that is heard here is not ended, whatever the store has of another cell:
# the clocks of the cells disagree.
SILENT_NS: Final = ns(1.0)
# Stories that nothing changes are given to callbook again after this: the store forgets them after 5 minutes.
STORY_REFRESH_NS: Final = ns(60.0)


class SocketState(NamedTuple):
    """A media socket, as the shell sees it."""

    # When a message last came.
    heard_ns: int
    # Written bytes that the kernel has not accepted.
    unsent_bytes: int


class Calls:
    """All decisions of a gateway. `unix_ms` converts a monotonic time to wall time."""

    def __init__(
        self, name: str, epoch: int, key: bytes, rules: Rules, metrics: Metrics, unix_ms: Callable[[int], int]
    ) -> None:
        self.by_number: dict[int, Call] = {}
        self.neighbours = Neighbours(rules.workers)
        self.chronicle = Chronicle()
        self._agent_check = AgentCheck(rules.max_calls)
        self._is_fleet = rules.fleet
        self._keeps_stories = rules.recalls
        self.offers = Offers(rules, key, self.neighbours, self.chronicle, metrics, unix_ms)
        self._name = name
        self._last_number = epoch << 32
        self._max_unstarted = rules.max_calls
        self._clears = rules.clears
        self._metrics = metrics
        self._unix_ms = unix_ms
        self._pulse = Pulse()
        self._by_sid: dict[str, Call] = {}
        # Sockets between handshake and `start`: at most `max_unstarted`; further ones are refused with 503.
        self._unstarted = 0
        self._no_worker = Absence(rules.unserved_s)
        # txpacer counts as missing from PEER_SILENT_S on.
        self._no_pacer = Absence(PACER_GONE_S - PEER_SILENT_S)

    # --- media sockets ---

    @property
    def is_idle(self) -> bool:
        """No call is live, and no socket may still become one."""
        return not self.by_number and not self._unstarted

    @property
    def is_accepting(self) -> bool:
        return self._unstarted < self._max_unstarted

    def accepted(self) -> None:
        """A handshake is complete; `start` has to follow."""
        self._metrics.handshakes["accepted"].inc()
        self._unstarted += 1

    def unstarted_over(self) -> None:
        """A socket after its handshake has sent `start`, or is gone."""
        self._unstarted -= 1

    def begin(self, start: Start, now_ns: int, *, followed: bool) -> tuple[Call | None, list[Command]]:
        """A media socket sent `start`: its call, or None when the socket may not begin one."""
        accepted = self.offers.accept(start.start, now_ns)
        if accepted is None:
            return None, []
        commands: list[Command] = []
        call_sid = start.start.call_sid
        before = self._by_sid.get(call_sid)
        if before is not None:
            commands += self.happened(before, Event.SOCKET_REPLACED, now_ns)
        self._last_number += 1
        call = Call(
            self._last_number,
            call_sid,
            start.stream_sid,
            accepted.token.token_id,
            accepted.plan,
            now_ns,
            accepted.worker,
            followed,
            FrameLog(self._metrics, self._pulse),
            PathProbe(self._metrics, exact=self._clears),
            PathLog(call_sid, start.stream_sid),
            self._unix_ms(now_ns),
            accepted.token.returned,
        )
        self.by_number[call.number] = self._by_sid[call_sid] = call
        self.chronicle.stream_began(
            call_sid, call.stream_sid, call.plan, resumed=accepted.token.resumed, started_ms=self._unix_ms(now_ns)
        )
        order = None if accepted.token.returned else self.offers.admission.order(call_sid)
        self.offers.admission.started(call_sid, accepted.token.source)
        self._metrics.calls.set(len(self.by_number))
        self._metrics.calls_started.inc()
        log = Log(f"call started call_sid={call_sid} call={call.number:x} worker={call.worker}")
        if order is None:
            return call, [*commands, *handover.announce(call, self._name), log]
        commands.append(log)
        # The conversation is over. The gateway that answered the webhook did not know that yet.
        call.order = order
        commands += self.offers.withdraw(call_sid, call.worker)
        return call, commands + self.happened(call, Event.ORDERED, now_ns) + self._goodbye_heard(call, now_ns)

    def received(self, call: Call, message: Mark | Dtmf | Stop, now_ns: int) -> list[Command]:
        """A message of a call other than audio."""
        match message:
            case Mark():
                return self._marked(call, message.mark.name, now_ns)
            case Dtmf():
                key = CallerDtmf(call.number, message.dtmf.digit, now_ns)
                call.keys = [*call.keys, key][-KEYS_MAX:]
                return [ToWorker(call.worker, key)]
            case Stop():
                return self.happened(call, Event.STOPPED, now_ns)

    def _marked(self, call: Call, name: str, now_ns: int) -> list[Command]:
        parsed = parse_mark(name)
        if parsed is None:
            self._metrics.marks_unknown.inc()
            return []
        generation, utterance, seq = parsed
        commands: list[Command] = [EarEcho(call.number, seq, call.way_back.punctual_ns(now_ns))]
        if utterance:
            call.heard.echoed(generation, utterance)
            commands.append(ToWorker(call.worker, MarkHeard(call.number, generation, utterance, now_ns)))
            commands += self._goodbye_heard(call, now_ns)
        return commands

    def _goodbye_heard(self, call: Call, now_ns: int) -> list[Command]:
        return self.happened(call, Event.GOODBYE_HEARD, now_ns) if call.goodbye <= call.heard.utterance else []

    def first_frame(self, call: Call, wire_ns: int) -> list[Command]:
        """The call's first frame was written to its socket: slow work may start."""
        first = ToWorker(call.worker, FirstFrameSent(call.number, wire_ns))
        return [first, *map(Note, self.chronicle.first_frame(call.call_sid, self._unix_ms(wire_ns)))]

    # --- neighbours ---

    def from_worker(self, worker: int, message: Message, now_ns: int) -> list[Command]:
        match message:
            case WorkerState():
                return self._worker_answered(worker, message, now_ns)
            case EndCall() | RefuseCall() | CallMemory() | CallNote():
                call = self.by_number.get(message.call)
                if call is None:
                    return []
                if call.worker != worker:
                    # A stalled worker that has resumed; the call went on without it.
                    self._metrics.bus_foreign.inc()
                    return []
                return self._about_call(call, message, now_ns)
            case CallConfigured(call_sid):
                self.offers.config_came(message)
                return [AnswerWebhook(call_sid)]
            case CallAdopted(call_sid):
                self.neighbours.adopted(call_sid, worker)
            case CallTaken(call_sid):
                return self.offers.taken_elsewhere(call_sid, worker)
            case CallOver(call_sid, order):
                # Twilio's next request for the call may reach this gateway, whichever one closed the socket.
                self.offers.admission.ordered(call_sid, order)
        return []

    def _about_call(
        self, call: Call, message: EndCall | RefuseCall | CallMemory | CallNote, now_ns: int
    ) -> list[Command]:
        match message:
            case EndCall(_, order, after_utterance):
                call.order, call.goodbye, call.ordered_ns = order, after_utterance, now_ns
                return self.happened(call, Event.ORDERED, now_ns) + self._goodbye_heard(call, now_ns)
            case RefuseCall():
                self._metrics.starts_refused["used"].inc()
                return self.happened(call, Event.TOKEN_REFUSED, now_ns)
            case CallMemory(_, memory):
                handover.remember(call, memory)
                return self._keep_story(call, now_ns)
            case CallNote(_, note):
                return [ShowNote(call.number, note)]

    # --- callbook, with STATE_URL ---

    def stories(self) -> Iterator[KeepStory]:
        """The last story of each live call."""
        return (KeepStory(call.call_sid, call.memory, call.since_ms) for call in self.by_number.values() if call.memory)

    def _keep_story(self, call: Call, now_ns: int) -> list[Command]:
        if not self._keeps_stories or not call.memory:
            return []
        call.kept_ns = now_ns
        return [KeepStory(call.call_sid, call.memory, call.since_ms)]

    def _close_story(self, call: Call, event: Event, reason: str) -> list[Command]:
        """Nothing for a call that may go on: its media socket is lost, or another socket has it."""
        if not self._keeps_stories or reason == "lost" or event is Event.TOKEN_REFUSED:
            return []
        order = self.offers.admission.order(call.call_sid) or HangUp()
        return [CloseStory(call.call_sid, order, call.memory, call.since_ms)]

    def from_callbook(self, message: CallRecalled | CallElsewhere) -> list[Command]:
        if isinstance(message, CallRecalled):
            return self.offers.recall_came(message)
        call = self._by_sid.get(message.call_id)
        if call is not None and call.since_ms == message.since_ms:
            call.is_elsewhere = True
        return []

    def _worker_answered(self, worker: int, state: WorkerState, now_ns: int) -> list[Command]:
        restarted = self.neighbours.worker_answered(
            worker,
            ready=state.ready,
            calls=state.calls,
            now_ns=now_ns,
            epoch=state.epoch,
            other_gateways=state.others,
        )
        self._metrics.workers_ready.set(self.neighbours.ready_workers(now_ns))
        if not restarted:
            return []
        self._metrics.worker_restarts.inc()
        calls = [call for call in self.by_number.values() if call.worker == worker]
        return [command for call in calls for command in self.happened(call, Event.WORKER_RESTARTED, now_ns)]

    def from_pacer(self, state: PacerState, now_ns: int) -> list[Command]:
        restarted = self.neighbours.pacer_answered(state.epoch, now_ns)
        self._metrics.pacer_up.set(1)
        if not restarted:
            return []
        self._metrics.pacer_restarts.inc()
        return [handover.line_lost(call, state.epoch) for call in self.by_number.values()]

    def path_seen(self, seen: PathSamples, now_ns: int) -> None:
        """What txpacer made of the paths of some calls in the last second."""
        for number, lead_ms, least_ms, delay_ms, gap_ms in seen.samples:
            call = self.by_number.get(number)
            if call is not None and call.frames.last_wire_ns:
                call.path_log.add(lead_ms, least_ms, delay_ms, gap_ms, now_ns)

    # --- time ---

    def sweep(self, now_ns: int, sockets: Mapping[int, SocketState]) -> list[Command]:
        """Check all calls, once every SWEEP_S. `sockets` has the state of each call's media socket."""
        largest_gap_s, frame_rate = self._pulse.second()
        self._metrics.largest_gap.set(largest_gap_s)
        self._metrics.frame_rate.set(frame_rate)
        pacer_is_there = self.neighbours.pacer_is_there(now_ns)
        self._metrics.pacer_up.set(pacer_is_there)
        self._metrics.workers_ready.set(self.neighbours.ready_workers(now_ns))
        unserved = self._no_worker.swept(is_missing=self.neighbours.pick(now_ns) is None)
        silent = self._no_pacer.swept(is_missing=not pacer_is_there)
        commands: list[Command] = []
        for call in list(self.by_number.values()):
            if call.path_log.is_due(now_ns):
                commands += map(Note, call.path_log.take(self._unix_ms))
            if now_ns - call.kept_ns > STORY_REFRESH_NS:
                commands += self._keep_story(call, now_ns)
            for event in self._due(call, sockets[call.number], now_ns, unserved=unserved, silent=silent):
                commands += self.happened(call, event, now_ns)
        return commands

    def _due(self, call: Call, socket: SocketState, now_ns: int, *, unserved: bool, silent: bool) -> Iterator[Event]:
        """The events that time alone has brought to a call."""
        call.frames.backlog(socket.unsent_bytes, now_ns)
        if not self.neighbours.worker_is_there(call.worker, now_ns):
            if self.neighbours.pick(now_ns) is not None:
                yield Event.WORKER_GONE
            elif unserved:
                yield Event.UNSERVED
        if silent:
            yield Event.PACER_GONE
        if call.is_goodbye_silent(now_ns):
            yield Event.GOODBYE_SILENT
        if call.is_elsewhere and now_ns - socket.heard_ns > SILENT_NS:
            yield Event.GOES_ON_ELSEWHERE
        if now_ns - socket.heard_ns > IDLE_NS:
            yield Event.SOCKET_IDLE
        if call.frames.is_unread(now_ns):
            yield Event.SOCKET_UNREAD

    def agent_line(self, now_ns: int) -> str:
        """The cell's answer to HAProxy's agent check."""
        neighbours, offers = self.neighbours, self.offers
        return self._agent_check.line(
            now_ns,
            calls=max(neighbours.calls(now_ns), len(self.by_number)),
            pressure=offers.lateness.pressure(now_ns),
            takes_calls=not neighbours.missing(now_ns),
            drains=offers.draining and not neighbours.another_gateway_takes_calls(now_ns),
        )

    def drained(self, now_ns: int, *, at_most: int | None = None) -> list[Command]:
        """The time for draining is over: end the live calls, or leave them to another gateway or cell.

        `at_most` so many go to another cell; call this again until none is left.
        """
        to_gateway = self.neighbours.another_gateway_takes_calls(now_ns)
        to_another = to_gateway or self._is_fleet
        calls = list(self.by_number.values())[: None if to_gateway or not self._is_fleet else at_most]
        event = Event.DRAINED_TO_ANOTHER if to_another else Event.DRAINED
        for call in calls:
            if not to_another and call.order is None:
                # Twilio follows the redirect while this gateway still answers: the call must not begin again here.
                self.offers.admission.ordered(call.call_sid, HangUp())
        return [command for call in calls for command in self.happened(call, event, now_ns)]

    # --- what an event does ---

    def happened(self, call: Call, event: Event, now_ns: int) -> list[Command]:
        """Carry out TABLE's entry for this event; without an entry, nothing."""
        following = TABLE.get((call.stage, event))
        if following is None:
            return []
        call.stage, act, reason, close = following
        commands: list[Command] = []
        match act:
            case Act.KEEP_ORDER:
                assert call.order is not None  # came with the event
                self.offers.admission.ordered(call.call_sid, call.order)
            case Act.FALL_BACK:
                self.offers.admission.ordered(call.call_sid, Fallback(), IN_A_CALL[event])
            case Act.HAND_OVER | Act.ANNOUNCE:
                self._metrics.calls_given_again.inc()
                worker = self.neighbours.pick(now_ns) if act is Act.HAND_OVER else call.worker
                assert worker is not None  # WORKER_GONE says so
                commands += handover.give_again(call, self._name, worker)
        return commands + (self._end(call, event, reason, close, now_ns) if reason else [])

    def _order_for_others(self, call: Call, now_ns: int) -> list[Command]:
        """Have the order told to the other gateways even if the call's worker has died since it gave it."""
        another = self.neighbours.another_worker(call.worker, now_ns)
        if call.order is None or another is None:
            return []
        return [ToWorker(another, CallOver(call.call_sid, call.order))]

    def _end(self, call: Call, event: Event, reason: str, close: Close, now_ns: int) -> list[Command]:
        """Tell everyone that the call is over, and forget it."""
        del self.by_number[call.number]
        if self._by_sid.get(call.call_sid) is call:
            del self._by_sid[call.call_sid]
        self.offers.admission.ended(call.call_sid)
        metrics, frames = self._metrics, call.frames
        metrics.calls.set(len(self.by_number))
        metrics.calls_ended[reason].inc()
        if event in (Event.SOCKET_IDLE, Event.SOCKET_UNREAD):
            metrics.calls_cut["idle" if event is Event.SOCKET_IDLE else "unread"].inc()
        call.path.ended(now_ns)
        if frames.last_wire_ns:
            metrics.call_largest_gap.observe(frames.largest_gap_ns / 1e9)
        ended = StreamEnded(
            call.call_sid,
            call.stream_sid,
            self._unix_ms(now_ns),
            reason,
            frames.frames,
            frames.largest_gap_ns // 1_000,
            frames.stalls,
            frames.late_frames,
        )
        seconds = (now_ns - call.started_ns) / 1e9
        metrics.call_length.observe(seconds)
        return [
            # First: Twilio may ask another cell as soon as the socket closes.
            *self._close_story(call, event, reason),
            *([] if close is Close.PEER else [CloseSocket(call.number, close)]),
            # It takes along the audio that came before it; Release drops what is left.
            ToWorker(call.worker, CallEnded(call.number, "moved" if event is Event.GOES_ON_ELSEWHERE else reason)),
            *(self._order_for_others(call, now_ns) if reason == "hung-up" else ()),
            Release(call.number, call.worker),
            ToPacer(CloseLine(call.number)),
            *map(Note, call.path_log.take(self._unix_ms)),
            *map(Note, self.chronicle.stream_ended(ended)),
            Log(f"call ended call_sid={call.call_sid} call={call.number:x} reason={reason} seconds={seconds:.1f}"),
        ]
