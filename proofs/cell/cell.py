"""A whole cell in virtual time: carrier, gateways, workers, txpacer and model, without a socket or a clock.

Every part that decides is the real one: Twilio's side and the model (simulator), the core of the gateway, aibridge's
calls and conversations, txpacer's core. Hops with a fixed delay, in order, replace the sockets. A call of a minute
takes a second, and the same seed gives the same call to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from aibridge.core import rules as conversation
from aibridge.core.agent import Agent
from aibridge.core.near_ear.detection import Detectors
from gateway.core.rules import Rules as GatewayRules
from shared.messages import EndCall, Frames, Message, PacerState
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import Caller, Step
from simulator.carrier.dial import Callees
from simulator.carrier.speakerphone import Speakerphone
from simulator.model.behaviour import Behaviour

from .clock import MS, Clock, Process
from .gateway import VirtualGateway
from .model import VirtualModel
from .pacer import VirtualPacer
from .phone import Phone
from .toolbox import VirtualTool, VirtualToolbox
from .worker import Talk, VirtualWorker

# From the death of txpacer until its standby answers: docs/failures.md.
PACER_RESTART_MS = 250.0
# supervisord restarts a process, which imports its libraries.
RESTART_MS = 1_500.0


@dataclass(frozen=True)
class Hops:
    """The delay of a message from one part to the next, ms."""

    carrier_ms: float = 1
    bridge_ms: float = 2
    pacer_ms: float = 0.5
    model_ms: float = 5


@dataclass(frozen=True)
class Result:
    """The records of a call."""

    record: CallRecord
    sessions: list[dict[str, Any]]
    # None: no worker ever had the call.
    talk: Talk | None
    # aibridge's messages to txpacer, with their times.
    to_pacer: list[tuple[int, Message]]
    # The events sent to the model, without audio: (time, session number, event type).
    to_model: list[tuple[int, int, str]]


class Cell:
    """Gateways, workers and one txpacer. `call` places a call, `run` lets time pass, `result` has its records."""

    def __init__(
        self,
        *,
        gateways: int = 1,
        workers: int = 1,
        agent: Agent | None = None,
        rules: conversation.Rules | None = None,
        hops: Hops | None = None,
        fallback_say: str = "Goodbye.",
        tools: Mapping[str, VirtualTool] | None = None,
        detectors: Detectors | None = None,
        seed: int = 1,
    ) -> None:
        self.clock = Clock()
        self.hops = hops = hops or Hops()
        self.rules = rules = rules or conversation.Rules()
        self._seed = seed
        self.phones: dict[str, Phone] = {}
        self.to_pacer: list[tuple[int, Message]] = []
        self.talks: dict[str, Talk] = {}
        self._turn = 0
        self.toolbox = VirtualToolbox(self.clock, tools or {})
        self.model = VirtualModel(self.clock, hops.model_ms, seed, tuple(tools or ()))
        self.pacer = VirtualPacer(self.clock, rules.lead_ns, self._pacer_to_gateway, self._pacer_to_worker)
        self.gateways: list[VirtualGateway] = []
        self.workers: list[VirtualWorker] = []
        bounds = GatewayRules(
            workers=workers,
            max_calls=1_000,
            max_calls_per_source=1_000,
            late_ns=rules.lead_ns // 2,
            unserved_s=rules.reconnect_ns // (1_000 * MS),
        )
        self.workers += [
            VirtualWorker(
                self.clock,
                number,
                agent=agent or default_agent({}),
                rules=rules,
                model=self.model,
                to_gateway=partial(self._worker_to_gateway, number),
                to_pacer=partial(self._worker_to_pacer, number),
                talks=self.talks,
                toolbox=self.toolbox,
                detectors=detectors,
                seed=seed + number,
            )
            for number in range(workers)
        ]
        self.gateways += [
            VirtualGateway(
                self.clock,
                index,
                rules=bounds,
                fallback_say=fallback_say,
                to_worker=self._gateway_to_worker,
                to_pacer=self._gateway_to_pacer,
                carrier_hop_ms=hops.carrier_ms,
            )
            for index in range(gateways)
        ]
        # The gateways know their neighbours.
        self.run(200)

    # --- calls ---

    def call(
        self,
        script: Sequence[Step],
        behaviours: Sequence[Behaviour] = (Behaviour(),),
        *,
        ring_ms: float = 300,
        speakerphone: Speakerphone | None = None,
        callees: Callees | None = None,
    ) -> Phone:
        """Place a call with this script."""
        caller = Caller(script, seed=self._seed, noise=True, speakerphone=speakerphone)
        return self.dial(caller, behaviours, ring_ms=ring_ms, callees=callees)

    def dial(
        self,
        caller: Caller,
        behaviours: Sequence[Behaviour] = (Behaviour(),),
        *,
        ring_ms: float = 300,
        callees: Callees | None = None,
    ) -> Phone:
        """Place a call of this caller."""
        call_sid = f"CA{len(self.phones) + 1}"
        self.model.expect(call_sid, behaviours)
        phone = self.phones[call_sid] = Phone(
            self.clock,
            self._port,
            caller,
            call_sid=call_sid,
            hop_ms=self.hops.carrier_ms,
            ring_ms=ring_ms,
            callees=callees,
        )
        return phone

    def _port(self) -> VirtualGateway | None:
        """The gateways share one port: the live ones get the connections in turn."""
        living = [gateway for gateway in self.gateways if gateway.is_alive]
        self._turn += 1
        return living[self._turn % len(living)] if living else None

    # --- time ---

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    def run(self, ms: float) -> None:
        self.clock.run(self.now_ns + int(ms * MS))

    def run_out(self, limit_ms: float = 120_000, after_ms: float = 3_000) -> None:
        """Run until all calls are over, and `after_ms` more; at `limit_ms` the callers hang up."""
        limit_ns = self.now_ns + int(limit_ms * MS)
        while self.now_ns < limit_ns and not all(phone.is_over for phone in self.phones.values()):
            self.clock.step()
        for phone in self.phones.values():
            phone.give_up()
        self.run(after_ms)

    def restart_pacer(self) -> None:
        """txpacer dies, and its standby takes over."""
        self.pacer.kill(PACER_RESTART_MS)

    def result(self, phone: Phone) -> Result:
        return Result(
            phone.record(),
            [session.record() for session in self.model.sessions[phone.call_sid]],
            self.talks.get(phone.call_sid),
            self.to_pacer,
            self.model.sent[phone.call_sid],
        )

    # --- messages on their way ---

    def _pacer_to_gateway(self, name: str, message: Frames | PacerState) -> None:
        for gateway in self.gateways:
            if gateway.name == name:
                if isinstance(message, Frames):
                    gateway.wire.send(message, self.hops.pacer_ms)
                else:
                    self._send(self.hops.pacer_ms, gateway, partial(gateway.from_pacer, message))

    def _gateway_to_pacer(self, name: str, message: Message) -> None:
        self._send(self.hops.pacer_ms, self.pacer, partial(self.pacer.from_gateway, name, message))

    def _pacer_to_worker(self, name: str, message: Message) -> None:
        for worker in self.workers:
            if worker.name == name:
                self._send(self.hops.pacer_ms, worker, partial(worker.from_pacer, message))

    def _worker_to_pacer(self, number: int, message: Message) -> None:
        self.to_pacer.append((self.now_ns, message))
        name = f"aibridge-{number}"
        self._send(self.hops.pacer_ms, self.pacer, partial(self.pacer.from_worker, name, message))

    def _gateway_to_worker(self, name: str, number: int, message: Message, count: int) -> None:
        worker = self.workers[number]
        self._send(self.hops.bridge_ms, worker, partial(worker.from_gateway, name, message, count))

    def _worker_to_gateway(self, number: int, name: str, message: Message) -> None:
        if isinstance(message, EndCall) and (call := self.workers[number].calls.by_number.get(message.call)):
            self.talks[call.call_sid].end_call = message
        acknowledged = self.workers[number].acknowledged.get(name, 0)
        for gateway in self.gateways:
            if gateway.name == name:
                self._send(self.hops.bridge_ms, gateway, partial(gateway.from_worker, number, message, acknowledged))

    def _send(self, hop_ms: float, to: Process, do: Callable[[], None]) -> None:
        """Deliver as a channel does: in order, to the intended incarnation, or not at all."""
        life = to.life
        self.clock.after(hop_ms, lambda: to.deliver(do) if to.life == life else None)


def default_agent(fields: Mapping[str, Any]) -> Agent:
    """The agent of a virtual call, with these fields of an agent's file."""
    defaults = {"instructions": "You are friendly.", "greeting": "Hello.", "transcription_model": "gpt-transcribe"}
    return msgspec.convert(defaults | dict(fields), Agent)
