"""A whole call in virtual time: carrier, gateway protocol, conversation, pacer and model, without a socket or a clock.

Everything that decides is the real thing: Twilio's side (simulator.carrier), the Media Streams protocol of the gateway,
aibridge's Call and Conversation, txpacer's Pacer, the simulated model's session. Only what carries bytes is replaced,
by hops that take a fixed time and keep the order. A call of a minute takes half a second, and the same seed gives the
same call to the byte.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from openai.types.realtime import RealtimeClientEventParam

from aibridge.agent import Agent
from aibridge.call import Call
from aibridge.core.conversation import Conversation
from aibridge.core.metrics import ConversationMetrics
from aibridge.core.rules import Rules
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import HearAudio, ModelCommand, SessionReady
from aibridge.models.realtime.session_config import phrases, session_config
from aibridge.models.realtime.translator import Translator
from aibridge.models.realtime.wire import (
    SessionCreated,
    SessionUpdated,
    decode_event,
    encode_append,
    encode_event,
)
from gateway.core.media_streams import Mark, MediaStream, Outbound, Start, Stop, parse_mark
from shared.audio import FRAME_BYTES
from shared.messages import (
    CLEAR,
    CallMemory,
    EndCall,
    Frames,
    LineLost,
    LineState,
    MarkHeard,
    Message,
    OpenLine,
    PauseLine,
    RestoreLine,
    ResumeLine,
    Speech,
    SpeechEnd,
    Withdraw,
)
from shared.metrics import Page
from simulator.carrier.call import CallRecord, CarrierCall
from simulator.carrier.caller import Caller, Step
from simulator.model.behaviour import Behaviour
from simulator.model.session import ModelSession
from simulator.voice import Voice
from txpacer.core.metrics import DEFINITIONS as PACER_DEFINITIONS
from txpacer.core.metrics import PacerMetrics
from txpacer.core.pacer import Pacer

MS: Final = 1_000_000
START_NS: Final = 1_000_000 * MS
# As in gateway/wire.py and gateway/media.py.
LATE_NS: Final = 20 * MS
MARK_NS: Final = 10_000 * MS
# From the death of txpacer until its successor is known, with a standby: see docs/failures.md.
PACER_RESTART_MS: Final = 250
CALL: Final = 1
_VOICE: Final = Voice()
_REFUSALS: Final = frozenset(("key", "model"))


@dataclass(frozen=True)
class Hops:
    """How long a message takes from one part to the next, ms."""

    carrier_ms: float = 1
    bridge_ms: float = 2
    pacer_ms: float = 0.5
    model_ms: float = 5


@dataclass(frozen=True)
class Result:
    """What is left of a virtual call."""

    record: CallRecord
    sessions: list[dict[str, Any]]
    conversation: Conversation
    page: Page
    end_call: EndCall | None
    # Everything that aibridge asked of txpacer, and when.
    to_pacer: list[tuple[int, Message]]
    # What was sent to the model, audio apart: (time, session number, event type).
    to_model: list[tuple[int, int, str]]


class _Model:
    """One session, between aibridge's Call and the simulated model, on hops instead of a socket."""

    def __init__(self, world: VirtualCall, number: int, behaviour: Behaviour) -> None:
        self.ready: SessionReady | None = None
        self._world = world
        self._translator = Translator(world.conversation.numbers, phrases(world.agent))
        self._number = number
        self._is_closed = False
        self.session = ModelSession(
            f"sess_{number:08x}",
            behaviour=behaviour,
            voice=_VOICE,
            seed=world.seed + number,
            request_id="CA1",
            keeps_input=True,
        )
        self._behaviour = behaviour
        self._armed_ns: int | None = None
        world.after(behaviour.handshake_ms + 2 * world.hops.model_ms, self._shake_hands)

    def _shake_hands(self) -> None:
        if self._is_closed:
            return
        if self._behaviour.refuse:
            self._world.model_gone(self, refused=self._behaviour.refuse in _REFUSALS)
            return
        self._world.sessions.append(self.session)
        self._send_all(self.session.open(self._world.now_ns))

    # --- towards the model ---

    def tell(self, command: ModelCommand) -> None:
        if isinstance(command, HearAudio):
            self.hear(command.data)
            return
        event = self._translator.client_event(command)
        if event is not None:
            self._send(event)

    def _send(self, event: RealtimeClientEventParam) -> None:
        self._world.to_model.append((self._world.now_ns, self._number, event["type"]))
        self._write(encode_event(event))

    def hear(self, audio: bytes) -> None:
        self._write(encode_append(audio))

    def _write(self, text: bytes) -> None:
        if not self._is_closed:
            self._world.after(self._world.hops.model_ms, lambda: self._receive(text))

    def _receive(self, text: bytes) -> None:
        if not self.session.close_code:
            self._send_all(self.session.receive(text, self._world.now_ns))

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._world.after(self._world.hops.model_ms, lambda: self.session.closed(self._world.now_ns, 1000))

    # --- from the model ---

    def _send_all(self, texts: list[str]) -> None:
        hop_ms = self._world.hops.model_ms
        for text in texts:
            self._world.after(hop_ms, lambda text=text: self._arrive(text))  # type: ignore[misc]  # bound now
        if self.session.close_code:
            self._world.after(hop_ms, self._gone)
        due_ns = self.session.next_due_ns()
        if due_ns is not None and (self._armed_ns is None or due_ns < self._armed_ns):
            self._armed_ns = due_ns
            self._world.at(due_ns, lambda: self._advance(due_ns))

    def _advance(self, due_ns: int) -> None:
        if self._armed_ns == due_ns:
            self._armed_ns = None
            self._send_all(self.session.advance(self._world.now_ns))

    def _arrive(self, text: str) -> None:
        if self._is_closed:
            return
        event = decode_event(text.encode())
        if event is None:
            return
        if isinstance(event, SessionCreated):
            self._send({"type": "session.update", "session": session_config(self._world.agent, "gpt-realtime-2.1")})
        if isinstance(event, SessionUpdated) and self.ready is None:
            self.ready = SessionReady(event.session.model)
            self._world.call.model_event(self, self.ready)
        for each in self._translator.events(event):
            self._world.call.model_event(self, each)

    def _gone(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._world.model_gone(self, refused=False)


@dataclass
class _Gateway:
    """The media socket's end: the protocol, the marks and the hang-up, as gateway/media.py and wire.py have them."""

    stream: MediaStream = field(default_factory=MediaStream)
    outbound: Outbound = field(default_factory=lambda: Outbound("MZ1"))
    generation: int = 0
    heard: int = 0
    end_call: EndCall | None = None
    last_wire_ns: int = 0
    seq: int = 0
    frames_since_mark: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)
    closed: bool = False


class VirtualCall:
    """One call. `run` carries it out and returns what is left of it.

    `behaviours` are those of the sessions in the order of their dialling; the last one serves all that follow.
    `events` are (ms since the answer, what to do), for accidents.
    """

    def __init__(
        self,
        script: Sequence[Step],
        *,
        behaviours: Sequence[Behaviour] = (Behaviour(),),
        agent: Agent | None = None,
        rules: Rules | None = None,
        hops: Hops | None = None,
        ring_ms: float = 300,
        seed: int = 1,
        events: Sequence[tuple[float, Callable[[VirtualCall], None]]] = (),
    ) -> None:
        self.agent = agent or default_agent({})
        self.rules = rules or Rules()
        self.hops = hops or Hops()
        self.seed = seed
        self.now_ns = START_NS
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._behaviours = behaviours
        self._dialled = 0
        self.sessions: list[ModelSession] = []
        self.to_model: list[tuple[int, int, str]] = []
        self.to_pacer: list[tuple[int, Message]] = []
        self._page = Page.in_memory(DEFINITIONS)
        self._carrier = CarrierCall("CA1", "AC1", Caller(script, seed=seed, noise=True))
        self._carrier_armed_ns: int | None = None
        self._gateway = _Gateway()
        self._pacer_metrics = PacerMetrics(Page.in_memory(PACER_DEFINITIONS))
        self._pacer = Pacer(lead_ns=self.rules.lead_ns, metrics=self._pacer_metrics)
        self._pacer_armed_ns: int | None = None
        self._is_over = False
        self._outcome = ""
        self._dead_pacer = False
        self.conversation = Conversation(
            script=self.agent.script(),
            rules=self.rules,
            metrics=ConversationMetrics(self._page),
            rng=random.Random(seed),
        )
        self.call = Call(
            call=CALL,
            call_sid="CA1",
            gateway="gateway",
            conversation=self.conversation,
            to_pacer=self._say_to_pacer,
            to_gateway=lambda message: self.after(self.hops.bridge_ms, lambda: self._on_end_call(message)),
            dial=lambda _: self._dial(),
            on_due=self._arm_call,
            clock=lambda: self.now_ns,
        )
        # The webhook was answered: the session is dialled ahead while Twilio opens the media socket.
        self._ahead: _Model | None = self._dial()
        self._ahead_gone: bool | None = None
        self.after(ring_ms, self._answer)
        for at_ms, do in events:
            self.after(ring_ms + at_ms, lambda do=do: do(self))  # type: ignore[misc]  # bound now

    # --- time ---

    def at(self, due_ns: int, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(due_ns, self.now_ns), self._count, do))

    def after(self, ms: float, do: Callable[[], None]) -> None:
        self.at(self.now_ns + int(ms * MS), do)

    def run(self, limit_ms: float = 120_000) -> Result:
        """Until the call is over and 3 s more; at `limit_ms` the caller hangs up."""
        self.after(limit_ms, self._caller_hangs_up)
        end_ns: int | None = None
        while self._heap and (end_ns is None or self._heap[0][0] <= end_ns):
            self.now_ns, _, do = heapq.heappop(self._heap)
            do()
            if end_ns is None and self._is_over:
                end_ns = self.now_ns + 3_000 * MS
        record = replace(self._carrier.record(), outcome=self._outcome)
        return Result(
            record,
            [session.record() for session in self.sessions],
            self.conversation,
            self._page,
            self._gateway.end_call,
            self.to_pacer,
            self.to_model,
        )

    # --- the carrier ---

    def _answer(self) -> None:
        texts = self._carrier.open("MZ1", {"token": "t"}, self.now_ns)
        self._to_gateway(texts)
        self._arm_carrier()

    def _arm_carrier(self) -> None:
        due_ns = self._carrier.next_due_ns()
        if due_ns is not None and (self._carrier_armed_ns is None or due_ns < self._carrier_armed_ns):
            self._carrier_armed_ns = due_ns
            self.at(due_ns, lambda: self._advance_carrier(due_ns))

    def _advance_carrier(self, due_ns: int) -> None:
        if self._carrier_armed_ns != due_ns:
            return
        self._carrier_armed_ns = None
        self._to_gateway(self._carrier.advance(self.now_ns))
        self._arm_carrier()

    def _caller_hangs_up(self) -> None:
        if not self._is_over:
            self._to_gateway(self._carrier.hang_up(self.now_ns))

    def _to_gateway(self, texts: list[str]) -> None:
        for text in texts:
            self.after(self.hops.carrier_ms, lambda text=text: self._from_carrier(text))  # type: ignore[misc]

    def _to_carrier(self, text: bytes) -> None:
        self.after(self.hops.carrier_ms, lambda: self._at_carrier(text.decode()))

    def _at_carrier(self, text: str) -> None:
        self._to_gateway(self._carrier.receive(text, self.now_ns))
        self._arm_carrier()

    # --- the gateway ---

    def _from_carrier(self, text: str) -> None:
        if self._gateway.closed:
            return
        message = self._gateway.stream.receive(text)
        if isinstance(message, bytes):
            self.after(self.hops.bridge_ms, lambda: self.call.caller_audio(message))
        elif isinstance(message, Start):
            self.after(self.hops.bridge_ms, self._start_call)
        elif isinstance(message, Mark):
            self._on_mark(message.mark.name)
        elif isinstance(message, Stop):
            self._end("hung-up-by-caller")

    def _start_call(self) -> None:
        ahead, self._ahead = self._ahead, None
        assert ahead is not None
        self.call.start(ahead)
        if self._ahead_gone is not None:
            self.call.model_gone(ahead, refused=self._ahead_gone)

    def _on_mark(self, name: str) -> None:
        parsed = parse_mark(name)
        assert parsed is not None
        generation, utterance = parsed
        mark = MarkHeard(CALL, generation, utterance, self.now_ns)
        self.after(self.hops.bridge_ms, lambda: self.call.mark(mark))
        gateway = self._gateway
        if generation == gateway.generation:
            gateway.heard = max(gateway.heard, utterance)
            if gateway.end_call is not None and gateway.end_call.after_utterance <= gateway.heard:
                self._close()

    def _on_end_call(self, message: Message) -> None:
        if isinstance(message, CallMemory):
            return  # for a successor; no worker dies here
        assert isinstance(message, EndCall)
        gateway = self._gateway
        gateway.end_call = gateway.end_call or message
        if message.after_utterance <= gateway.heard:
            self._close()
        else:
            self.after(MARK_NS / MS, self._mark_is_due)

    def _mark_is_due(self) -> None:
        silent_ns = self.now_ns - self._gateway.last_wire_ns
        if silent_ns >= MARK_NS:
            self._close()
        else:
            self.after((MARK_NS - silent_ns) / MS, self._mark_is_due)

    def _close(self) -> None:
        """We close the media socket, and Twilio goes on with the TwiML."""
        if not self._gateway.closed:
            self.after(self.hops.carrier_ms, lambda: self._carrier.closed(self.now_ns, lost=False))
            self._end("hung-up-by-server")

    def _end(self, outcome: str) -> None:
        if self._gateway.closed:
            return
        self._gateway.closed = True
        self._outcome = outcome
        self._pacer.close(CALL)
        self.after(self.hops.bridge_ms, self.call.close)
        self.after(2 * self.hops.bridge_ms + self.hops.carrier_ms, self._over)

    def _over(self) -> None:
        self._is_over = True

    def _write(self, frames: Frames) -> None:
        gateway, late = self._gateway, []
        for number, seq, audio, mark in frames.entries:
            if gateway.closed:
                break
            if audio:
                if self.now_ns - frames.deadline_ns > LATE_NS:
                    late.append((number, seq))
                gateway.last_wire_ns = self.now_ns
                gateway.seq = seq + len(audio) // FRAME_BYTES
                gateway.frames_since_mark += len(audio) // FRAME_BYTES
                for at in range(0, len(audio), FRAME_BYTES):
                    self._to_carrier(gateway.outbound.media(audio[at : at + FRAME_BYTES]))
            if mark == CLEAR:
                self._to_carrier(gateway.outbound.clear)
                gateway.generation += 1
                gateway.heard = 0
            elif mark:
                self._to_carrier(gateway.outbound.mark(gateway.generation, mark))
                gateway.marks.append((mark, gateway.frames_since_mark))
                gateway.frames_since_mark = 0
        pacer, wire_ns = self._pacer, self.now_ns

        def acknowledge() -> None:
            pacer.acknowledge("gateway", frames.batch, wire_ns, tuple(late), self.now_ns)
            self._serve_pacer()

        self.after(self.hops.pacer_ms, acknowledge)

    # --- the pacer ---

    def _say_to_pacer(self, message: Message) -> None:
        self.to_pacer.append((self.now_ns, message))
        self.after(self.hops.pacer_ms, lambda: self._at_pacer(message))

    def _at_pacer(self, message: Message) -> None:
        if self._dead_pacer:
            return
        pacer, now_ns = self._pacer, self.now_ns
        match message:
            case Speech(call, utterance, data):
                pacer.speech(call, utterance, data, now_ns)
            case SpeechEnd(call, utterance):
                pacer.end(call, utterance, now_ns)
            case Withdraw(call, through, clear):
                pacer.withdraw(call, through, clear, now_ns)
            case PauseLine(call):
                pacer.pause(call)
            case ResumeLine(call):
                pacer.resume(call, now_ns)
            case OpenLine(call, gateway, _, ask):
                pacer.open(call, gateway, "bridge", now_ns, ask=ask)
            case RestoreLine(call, gateway, _, seq, utterance, paced_bytes, ear_ns, _, ask):
                pacer.restore(
                    call,
                    gateway,
                    "bridge",
                    now_ns,
                    seq=seq,
                    utterance=utterance,
                    paced_bytes=paced_bytes,
                    ear_ns=ear_ns,
                    ask=ask,
                )
        self._serve_pacer()

    def _serve_pacer(self) -> None:
        pacer = self._pacer
        due_ns = pacer.next_due_ns()
        while due_ns is not None and due_ns <= self.now_ns:
            for _, frames in pacer.tick(self.now_ns):
                self.after(self.hops.pacer_ms, lambda frames=frames: self._write(frames))  # type: ignore[misc]
            due_ns = pacer.next_due_ns()
        for _, reports in pacer.take_reports():
            for report in reports:
                take: Any = self.call.line_state if isinstance(report, LineState) else self.call.playout
                self.after(self.hops.pacer_ms, functools.partial(take, report))
        if due_ns is not None and (self._pacer_armed_ns is None or due_ns < self._pacer_armed_ns):
            self._pacer_armed_ns = due_ns
            self.at(due_ns, lambda: self._tick_pacer(due_ns))

    def _tick_pacer(self, due_ns: int) -> None:
        if self._pacer_armed_ns == due_ns:
            self._pacer_armed_ns = None
            self._serve_pacer()

    def restart_pacer(self) -> None:
        """txpacer dies, and is back a little later: its lines are gone."""
        self.kill_pacer()
        self.after(PACER_RESTART_MS, self._pacer_is_back)

    def _pacer_is_back(self) -> None:
        self._dead_pacer = False
        gateway = self._gateway
        lost = LineLost(
            self.call.call, 2, tuple(gateway.marks), gateway.frames_since_mark, gateway.seq, gateway.last_wire_ns
        )
        self.after(self.hops.pacer_ms, lambda: self.call.line_lost(lost))

    def kill_pacer(self) -> None:
        """txpacer hangs for good: nothing more comes out of it."""
        self._dead_pacer = True
        self._pacer = Pacer(lead_ns=self.rules.lead_ns, metrics=self._pacer_metrics)
        self._pacer_armed_ns = None

    # --- aibridge's shell ---

    def _arm_call(self, call: Call) -> None:
        due_ns = call.due_ns
        if due_ns is not None:

            def advance() -> None:
                if call.due_ns == due_ns:
                    call.advance()

            self.at(due_ns, advance)

    def _dial(self) -> _Model:
        behaviour = self._behaviours[min(self._dialled, len(self._behaviours) - 1)]
        self._dialled += 1
        return _Model(self, self._dialled, behaviour)

    def model_gone(self, model: _Model, *, refused: bool) -> None:
        if model is self._ahead:
            self._ahead_gone = refused
        else:
            self.call.model_gone(model, refused=refused)


def default_agent(fields: Mapping[str, Any]) -> Agent:
    """The agent of a virtual call, with these fields of an agent's file."""
    defaults = {"instructions": "You are friendly.", "greeting": "Hello.", "transcription_model": "gpt-transcribe"}
    return msgspec.convert(defaults | dict(fields), Agent)
