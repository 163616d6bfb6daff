"""A gateway in virtual time: the real core, with sockets, links and timers like those of its shell."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from gateway.core import twiml
from gateway.core.call import Call
from gateway.core.calls import Calls, SocketState
from gateway.core.chronicle import FINAL
from gateway.core.commands import CloseSocket, Commands, EarEcho, MoveAudio, Release, ToPacer, ToWorker
from gateway.core.fallback import SWEEP_S
from gateway.core.hangup import Close, Event, Stage
from gateway.core.media_streams import Connected, MediaStream, Outbound, Start, Stop
from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.core.orders import Orders, dial_end
from gateway.core.plans import inbound
from gateway.core.rules import Rules
from shared.audio import FRAME_BYTES
from shared.liveness import HELLO_S
from shared.messages import CallerAudio, Frames, GatewayHello, Message, PacerState, PathSeen, WorkerState
from shared.metrics import Page

from .clock import MS, Clock, Process
from .wire import Wire, frames_of

ORIGIN: Final = "https://voice.test"
_KEY: Final = b"k" * 32


class Peer(Protocol):
    """The carrier's end of a media socket."""

    def receive(self, text: bytes) -> None: ...
    def closed(self, *, lost: bool) -> None: ...


class MediaSocket:
    """The gateway's end of one media socket; it is a call's after `start`."""

    def __init__(self, gateway: VirtualGateway, peer: Peer, hop_ms: float) -> None:
        self.stream = MediaStream()
        self.call: Call | None = None
        self.heard_ns = gateway.now_ns
        self.is_open = True
        # When the peer reads again, ns.
        self.unread_until_ns = 0
        self.gateway = gateway
        self._peer = peer
        self._hop_ms = hop_ms
        self._outbound: Outbound | None = None
        # Messages that the peer has not read, and how many of them are frames.
        self._unsent: deque[tuple[bytes, bool]] = deque()
        self.unsent_frames = 0

    # --- as the wire uses it ---

    @property
    def next_seq(self) -> int:
        assert self.call is not None
        return self.call.frames.seq

    def audio(self, seq: int, audio: bytes, deadline_ns: int) -> None:
        call, gateway, outbound = self.call, self.gateway, self._outbound
        assert call is not None
        assert outbound is not None
        call.frames.backlog(self.unsent_frames, gateway.now_ns)
        for frame in frames_of(audio):
            self._send(outbound.media(frame), is_frame=True)
        if call.frames.written(seq, len(audio) // FRAME_BYTES, deadline_ns, gateway.now_ns):
            gateway.carry_out(gateway.core.first_frame(call, gateway.now_ns))

    def clear(self) -> None:
        assert self.call is not None
        assert self._outbound is not None
        self.call.frames.utterance_ended()
        self._send(self._outbound.clear)
        self.call.heard.clear_sent()

    def progress(self, seq: int) -> None:
        assert self.call is not None
        assert self._outbound is not None
        self._send(self._outbound.mark(self.call.heard.generation, 0, seq))

    def mark(self, utterance: int, seq: int) -> None:
        call = self.call
        assert call is not None
        assert self._outbound is not None
        call.frames.utterance_ended()
        self._send(self._outbound.mark(call.heard.generation, utterance, seq))
        call.heard.mark_sent(utterance, call.frames.frames)

    # --- its two ends ---

    def begun(self, call: Call) -> None:
        self.call = call
        self._outbound = Outbound(call.stream_sid)

    def _send(self, text: bytes, *, is_frame: bool = False) -> None:
        if not self.is_open:
            return
        if self.gateway.now_ns < self.unread_until_ns:
            self._unsent.append((text, is_frame))
            self.unsent_frames += is_frame
        else:
            self.gateway.clock.after(self._hop_ms, lambda: self._peer.receive(text))

    def leave_unread(self, ms: float) -> None:
        """The peer reads nothing for this long."""
        self.unread_until_ns = max(self.unread_until_ns, self.gateway.now_ns + int(ms * MS))
        self.gateway.clock.after(ms, self._read_again)

    def _read_again(self) -> None:
        if self.gateway.now_ns >= self.unread_until_ns:
            unsent, self._unsent, self.unsent_frames = self._unsent, deque(), 0
            for text, is_frame in unsent:
                self._send(text, is_frame=is_frame)

    def receive(self, text: str) -> None:
        """A message of the peer arrives."""
        self.gateway.deliver(lambda: self.gateway.received(self, text))

    def close(self, *, lost: bool = False) -> None:
        """The gateway closes the socket, or dies (`lost`)."""
        if self.is_open:
            self.is_open = False
            self.gateway.clock.after(self._hop_ms, lambda: self._peer.closed(lost=lost))

    def abort(self) -> None:
        """The connection breaks: both ends notice it."""
        if self.is_open:
            self.close(lost=True)
            self.gateway.deliver(lambda: self.gateway.lost(self))


class VirtualGateway(Process):
    """`to_worker` takes this gateway's name, a worker's number, a message and its number; `to_pacer` takes two."""

    def __init__(
        self,
        clock: Clock,
        index: int,
        *,
        rules: Rules,
        fallback_say: str,
        to_worker: Callable[[str, int, Message, int], None],
        to_pacer: Callable[[str, Message], None],
        carrier_hop_ms: float,
    ) -> None:
        super().__init__(clock)
        self.index = index
        self.page = Page.in_memory(DEFINITIONS)
        self._rules = rules
        self._orders = Orders(ORIGIN, fallback_say, "")
        self._to_worker = to_worker
        self._to_pacer = to_pacer
        self._hop_ms = carrier_hop_ms
        self._lives = 0
        self.started()

    def started(self) -> None:
        self._lives += 1
        self.name = f"gateway-{self.index}-{self._lives}"
        epoch = self.index << 8 | self._lives
        self.core = Calls(self.name, epoch, _KEY, self._rules, Metrics(self.page), lambda now_ns: now_ns // MS)
        self.sockets: dict[int, MediaSocket] = {}
        self._open: set[MediaSocket] = set()
        name = self.name
        self.wire = Wire(self, self.sockets, lambda ack: self._to_pacer(name, ack))
        # Unacknowledged caller audio with the number of its message, by worker and call.
        self._kept: defaultdict[int, deque[tuple[int, int, bytes]]] = defaultdict(deque)
        self._said = 0
        self._epochs: dict[int, int] = {}
        self.every(HELLO_S * 1_000, self._hello)
        self.every(SWEEP_S * 1_000, self._sweep)

    def died(self) -> None:
        for socket in list(self._open):
            socket.close(lost=True)

    # --- the public port ---

    def webhook(self, call_sid: str, fields: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The TwiML of the answer to a webhook."""
        worker = query.get("worker", "")
        answer = self.core.offers.take(
            call_sid,
            inbound(fields["AccountSid"], fields["From"], fields["To"], self.now_ns // MS),
            self.now_ns,
            resumed=query.get("resume") == "1",
            returned=dial_end(query, fields),
            worker=int(worker) if worker else None,
            is_over=fields["CallStatus"] in FINAL,
        )
        self.carry_out(answer.commands)
        if answer.order is not None:
            return self._orders.twiml(answer.order, answer.worker)
        return twiml.connect(ORIGIN, answer.parameters, answer.worker)

    def accept(self, peer: Peer) -> MediaSocket:
        """A media socket's handshake is complete."""
        socket = MediaSocket(self, peer, self._hop_ms)
        self._open.add(socket)
        self.core.accepted()
        return socket

    def received(self, socket: MediaSocket, text: str) -> None:
        if not socket.is_open:
            return
        socket.heard_ns = self.now_ns
        message = socket.stream.receive(text)
        call = socket.call
        if isinstance(message, Connected):
            return
        if isinstance(message, Start):
            self.core.unstarted_over()
            begun, commands = self.core.begin(message, self.now_ns, followed=False)
            if begun is None:
                socket.close()
            else:
                socket.begun(begun)
                self.sockets[begun.number] = socket
            self.carry_out(commands)
        elif call is None or call.stage is Stage.OVER:
            return
        elif isinstance(message, bytes):
            self._audio(call.worker, call.number, message)
        else:
            self.carry_out(self.core.received(call, message, self.now_ns))
            if isinstance(message, Stop):
                self._open.discard(socket)
                socket.is_open = False

    def lost(self, socket: MediaSocket) -> None:
        self._open.discard(socket)
        if socket.call is not None:
            self.carry_out(self.core.happened(socket.call, Event.SOCKET_LOST, self.now_ns))

    # --- neighbours ---

    def _hello(self) -> None:
        self._to_pacer(self.name, GatewayHello(self.name))
        for worker in range(self._rules.workers):
            self._say(worker, GatewayHello(self.name))

    def _sweep(self) -> None:
        states = {number: SocketState(each.heard_ns, each.unsent_frames) for number, each in self.sockets.items()}
        self.carry_out(self.core.sweep(self.now_ns, states))

    def from_pacer(self, message: Frames | PacerState) -> None:
        assert isinstance(message, PacerState)  # frames go by the wire
        self.carry_out(self.core.from_pacer(message, self.now_ns))

    def from_worker(self, worker: int, message: Any, acknowledged: int) -> None:
        """`acknowledged` is the number of the last message that the worker had read when it sent this."""
        restarted = isinstance(message, WorkerState) and self._epochs.get(worker, message.epoch) != message.epoch
        self.carry_out(self.core.from_worker(worker, message, self.now_ns))
        if not isinstance(message, WorkerState):
            return
        self._epochs[worker] = message.epoch
        kept = self._kept[worker]
        if restarted:  # it has got its calls; the audio that it missed follows
            missed = list(kept)
            kept.clear()
            for _, call, data in missed:
                self._audio(worker, call, data)
        else:
            while kept and kept[0][0] <= acknowledged:
                kept.popleft()

    # --- commands ---

    def carry_out(self, commands: Commands) -> None:
        for command in commands:
            match command:
                case ToWorker(worker, message):
                    self._say(worker, message)
                case ToPacer(message):
                    self._to_pacer(self.name, message)
                case EarEcho(call, seq, at_ns):
                    self._to_pacer(self.name, PathSeen(((call, seq, at_ns),), ()))
                case MoveAudio(call, before, after):
                    for data in self._take(before, call):
                        self._audio(after, call, data)
                case CloseSocket(call, close):
                    self._open.discard(self.sockets[call])
                    self.sockets[call].close(lost=close is Close.ABORT)
                case Release(call, worker):
                    del self.sockets[call]
                    self._take(worker, call)

    def _audio(self, worker: int, call: int, data: bytes) -> None:
        self._say(worker, CallerAudio(call, data, self.now_ns))
        self._kept[worker].append((self._said, call, data))

    def _say(self, worker: int, message: Message) -> None:
        self._said += 1
        self._to_worker(self.name, worker, message, self._said)

    def _take(self, worker: int, call: int) -> list[bytes]:
        kept = self._kept[worker]
        taken = [data for _, of, data in kept if of == call]
        self._kept[worker] = deque(each for each in kept if each[1] != call)
        return taken
