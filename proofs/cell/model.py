"""The simulated model in virtual time: sessions on hops instead of sockets, as a worker dials them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aibridge.core.agent import Agent
from aibridge.models.port import HearAudio, ModelCommand, Numbers, Receiver, SessionReady
from aibridge.models.realtime.event_types import RealtimeClientEventParam
from aibridge.models.realtime.session_config import function, model_servers, phrases, session_config
from aibridge.models.realtime.translator import Translator
from aibridge.models.realtime.wire import SessionCreated, SessionUpdated, decode_event, encode_append, encode_event
from simulator.model.behaviour import Behaviour, Behaviours
from simulator.model.session import ModelSession
from simulator.voice import Voice

from .clock import MS, Clock, Process

_VOICE: Final = Voice()
# Handshakes that are refused for good: a retry would not help.
_REFUSED: Final = frozenset(("key", "model"))
NAME: Final = "gpt-realtime-2.1"


class VirtualModel:
    """All sessions of all calls. A call has one behaviour per session; the last one serves all further sessions."""

    def __init__(self, clock: Clock, hop_ms: float, seed: int, tools: tuple[str, ...] = ()) -> None:
        self.clock = clock
        self.functions = [function(name, "A tool.", {}) for name in tools]
        self.hop_ms = hop_ms
        self._seed = seed
        self._behaviours = Behaviours()
        self._dialled = 0
        self.sessions: dict[str, list[ModelSession]] = {}
        # By call, the events sent to the model without audio: (time, number of the session in the call, event type).
        self.sent: dict[str, list[tuple[int, int, str]]] = {}
        self._open: dict[str, list[VirtualSession]] = {}

    def expect(self, call_sid: str, behaviours: Sequence[Behaviour]) -> None:
        self._behaviours.expect(call_sid, behaviours)
        self.sessions[call_sid] = []
        self.sent[call_sid] = []
        self._open[call_sid] = []

    def dial(
        self, worker: Process, call_sid: str, agent: Agent, numbers: Numbers, receiver: Receiver
    ) -> VirtualSession:
        behaviour = self._behaviours(call_sid)
        self._dialled += 1
        session = VirtualSession(self, worker, call_sid, agent, self._dialled, self._seed, behaviour, numbers, receiver)
        self._open[call_sid].append(session)
        return session

    def drop(self, call_sid: str, sessions: slice = slice(None)) -> None:  # it never changes
        """Cut the sockets of a call without a close frame: all, or these in the order in which they were dialled."""
        for session in self._open[call_sid][sessions]:
            session.drop()

    def leave_unread(self, call_sid: str, ms: float) -> None:
        """The server reads nothing of a call for this long."""
        for session in self._open[call_sid]:
            session.unread_until_ns = self.clock.now_ns + int(ms * MS)

    def worker_died(self, worker: Process) -> None:
        """The worker's sockets close; the server notices it one hop later."""
        for sessions in self._open.values():
            for session in sessions:
                if session.worker is worker:
                    session.close(1006)


class VirtualSession:
    """One session: aibridge's end, and the server at a distance of one hop each way."""

    def __init__(
        self,
        model: VirtualModel,
        worker: Process,
        call_sid: str,
        agent: Agent,
        serial: int,
        seed: int,
        behaviour: Behaviour,
        numbers: Numbers,
        receiver: Receiver,
    ) -> None:
        self.worker = worker
        self.ready: SessionReady | None = None
        self._model = model
        self._clock = model.clock
        self._call_sid = call_sid
        self._agent = agent
        self._number = 0
        self._behaviour = behaviour
        self._receiver = receiver
        self._translator = Translator(numbers, phrases(agent))
        self._is_closed = False
        self._armed_ns: int | None = None
        # When the server reads again, ns.
        self.unread_until_ns = 0
        self.server = ModelSession(
            f"sess_{serial:08x}",
            behaviour=behaviour,
            voice=_VOICE,
            seed=seed + serial,
            request_id=call_sid,
            keeps_input=True,
        )
        self._clock.after(behaviour.handshake_ms + 2 * model.hop_ms, self._shake_hands)

    def _shake_hands(self) -> None:
        if self._is_closed:
            return
        if self._behaviour.refuse:
            refused = self._behaviour.refuse in _REFUSED
            self.worker.deliver(lambda: self._gone(refused=refused))
            return
        self._model.sessions[self._call_sid].append(self.server)
        self._number = len(self._model.sessions[self._call_sid])
        self._from_server(self.server.open(self._clock.now_ns))

    # --- towards the server ---

    def tell(self, command: ModelCommand) -> None:
        if isinstance(command, HearAudio):
            self.hear(command.data)
        elif (event := self._translator.client_event(command)) is not None:
            self._send(event)

    def hear(self, audio: bytes) -> None:
        self._write(encode_append(audio))

    def _send(self, event: RealtimeClientEventParam) -> None:
        self._model.sent[self._call_sid].append((self._clock.now_ns, self._number, event["type"]))
        self._write(encode_event(event))

    def _write(self, text: bytes) -> None:
        if not self._is_closed:
            arrives_ns = self._clock.now_ns + int(self._model.hop_ms * MS)
            self._clock.at(max(arrives_ns, self.unread_until_ns), lambda: self._at_server(text))

    def _at_server(self, text: bytes) -> None:
        if not self.server.close_code:
            self._from_server(self.server.receive(text, self._clock.now_ns))

    def close(self, code: int = 1000) -> None:
        if not self._is_closed:
            self._is_closed = True
            arrives_ns = self._clock.now_ns + int(self._model.hop_ms * MS)
            self._clock.at(max(arrives_ns, self.unread_until_ns), lambda: self.server.closed(self._clock.now_ns, code))

    # --- from the server ---

    def drop(self) -> None:
        if not self._is_closed and not self.server.close_code:
            self.server.closed(self._clock.now_ns, 1006)
            self._from_server([])

    def _from_server(self, texts: list[str]) -> None:
        hop_ms = self._model.hop_ms
        for text in texts:
            self._later(hop_ms, lambda text=text: self._arrive(text))  # type: ignore[misc]  # bound now
        if self.server.close_code:
            self._later(hop_ms, lambda: self._gone(refused=False))
        due_ns = self.server.next_due_ns()
        if due_ns is not None and (self._armed_ns is None or due_ns < self._armed_ns):
            self._armed_ns = due_ns
            self._clock.at(due_ns, lambda: self._advance(due_ns))

    def _later(self, ms: float, do: Callable[[], None]) -> None:
        self._clock.after(ms, lambda: self.worker.deliver(do))

    def _advance(self, due_ns: int) -> None:
        if self._armed_ns == due_ns:
            self._armed_ns = None
            self._from_server(self.server.advance(self._clock.now_ns))

    def _arrive(self, text: str) -> None:
        if self._is_closed:
            return
        event = decode_event(text.encode())
        if event is None:
            return
        if isinstance(event, SessionCreated):
            config = session_config(self._agent, NAME, [*self._model.functions, *model_servers(self._agent, {})])
            self._send({"type": "session.update", "session": config})
        if isinstance(event, SessionUpdated) and self.ready is None:
            self.ready = SessionReady(event.session.model)
            self._receiver.event(self.ready)
        for each in self._translator.events(event):
            self._receiver.event(each)

    def _gone(self, *, refused: bool) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._receiver.gone(refused=refused)
