"""One caller in virtual time: Twilio's side of a call, which carries out the TwiML of the gateway that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from simulator.carrier.call import CallRecord, CarrierCall, VerbRecord
from simulator.carrier.caller import Caller
from simulator.carrier.dial import Callee, Callees, LegRecord, course
from simulator.carrier.twiml import MAX_REDIRECTS, OUTCOMES, Verb, parse

from .clock import Clock
from .gateway import ORIGIN, MediaSocket, VirtualGateway

# Twilio asks again at another gateway when the connection was reset; here, after this.
_AGAIN_MS = 100.0
_ACCOUNT = "AC" + 32 * "0"
_FROM, _TO = "+15005550006", "+15005550001"
_NOTHING: Mapping[str, str] = {}


class Port(Protocol):
    """The public port of the cell: the next live gateway; None while there is none."""

    def __call__(self) -> VirtualGateway | None: ...


class Phone:
    """One call. `ring_ms` passes between the webhook's answer and the first media socket."""

    def __init__(
        self,
        clock: Clock,
        port: Port,
        caller: Caller,
        *,
        call_sid: str,
        hop_ms: float,
        ring_ms: float,
        callees: Callees | None = None,
    ) -> None:
        self.call_sid = call_sid
        self.carrier = CarrierCall(call_sid, _ACCOUNT, caller)
        self.outcome = ""
        self.ended_ns = 0
        self.socket: MediaSocket | None = None
        self._clock = clock
        self._port = port
        self._hop_ms = hop_ms
        self._ring_ms = ring_ms
        self._armed_ns: int | None = None
        self._verbs: list[Verb] = []
        self._redirects = 0
        self._streams = 0
        self.verbs: list[VerbRecord] = []
        self.legs: list[LegRecord] = []
        self._callees = callees or {}
        self._ask(ORIGIN + "/twilio/voice")

    @property
    def is_over(self) -> bool:
        return bool(self.outcome)

    def record(self) -> CallRecord:
        return replace(self.carrier.record(), outcome=self.outcome, verbs=tuple(self.verbs), legs=tuple(self.legs))

    # --- TwiML ---

    def _ask(self, url: str, more: Mapping[str, str] = _NOTHING) -> None:
        """Send a webhook request, with these fields more."""
        self._redirects += 1
        if self._redirects > MAX_REDIRECTS:
            self._end("too-many-redirects")
            return
        gateway = self._port()
        if gateway is None:
            self._clock.after(_AGAIN_MS, lambda: self._ask(url, more))
            return
        query = dict(parse_qsl(urlsplit(url).query))
        status = "completed" if self.carrier.has_hung_up else "in-progress"
        fields = {"AccountSid": _ACCOUNT, "From": _FROM, "To": _TO, "CallStatus": status, **more}
        life = gateway.name

        def arrive() -> None:
            if not gateway.is_alive or gateway.name != life:
                self._clock.after(_AGAIN_MS, lambda: self._ask(url, more))
            else:
                gateway.deliver(lambda: self._answer(gateway.webhook(self.call_sid, fields, query)))

        self._clock.after(self._hop_ms, arrive)

    def _answer(self, document: str) -> None:
        self._clock.after(self._hop_ms, lambda: self._carry_out(parse(document)))

    def _carry_out(self, verbs: Sequence[Verb]) -> None:
        if self.carrier.has_hung_up:
            self._end("hung-up-by-caller")
        self._verbs = list(verbs)
        self._next_verb()

    def _next_verb(self) -> None:
        if self.is_over:
            return
        if not self._verbs:
            self._end("hung-up-by-server")
            return
        verb = self._verbs.pop(0)
        self.verbs.append(VerbRecord(self._clock.now_ns, verb.name, verb.text))
        match verb.name:
            case "Connect":
                parameters = verb.parameters or {}
                wait_ms = 0.0 if self._streams else self._ring_ms
                self._clock.after(wait_ms, lambda: self._connect(parameters))
            case "Redirect":
                self._ask(verb.text)
            case "Dial" if verb.text in self._callees:
                self._dial(verb, self._callees[verb.text])
            case name if name in OUTCOMES:
                self._end(OUTCOMES[name])
            case _:
                self._next_verb()

    def _dial(self, verb: Verb, callee: Callee) -> None:
        how = course(verb, callee, _FROM, _TO)
        leg_sid, began_ns = f"CA{self.call_sid}{len(self.legs)}", self._clock.now_ns

        def over() -> None:
            self.legs.append(how.record(leg_sid, verb.text, began_ns))
            if how.caller_left:
                self.carrier.hang_up(self._clock.now_ns)
            self._ask(verb.attributes["action"], how.fields(leg_sid))

        self._clock.after((how.ring_s + how.talk_s) * 1_000, over)

    def _end(self, outcome: str) -> None:
        self.outcome = self.outcome or outcome
        self.ended_ns = self._clock.now_ns

    # --- the media socket ---

    def _connect(self, parameters: Mapping[str, str]) -> None:
        gateway = self._port()
        if gateway is None:
            self._next_verb()
            return

        def accept() -> None:
            self.socket = gateway.accept(self)
            self._streams += 1
            texts = self.carrier.open(f"MZ{self._streams}", parameters, self._clock.now_ns)
            self._send(texts)
            self._arm()

        gateway.deliver(accept)

    def _send(self, texts: Sequence[str]) -> None:
        socket = self.socket
        if socket is not None:
            for text in texts:
                self._clock.after(self._hop_ms, lambda text=text: socket.receive(text))  # type: ignore[misc]  # bound now

    def receive(self, text: bytes) -> None:
        self._send(self.carrier.receive(text.decode(), self._clock.now_ns))
        self._arm()

    def closed(self, *, lost: bool) -> None:
        """The gateway's end of the socket is gone: the TwiML goes on."""
        self.carrier.closed(self._clock.now_ns, lost=lost)
        self.socket = None
        if not self.carrier.has_hung_up:
            self._next_verb()

    def give_up(self) -> None:
        """The call takes too long: the caller hangs up."""
        if not self.is_over:
            self._send(self.carrier.hang_up(self._clock.now_ns))
            self._end("time-limit")

    def _arm(self) -> None:
        due_ns = self.carrier.next_due_ns()
        if due_ns is not None and (self._armed_ns is None or due_ns < self._armed_ns):
            self._armed_ns = due_ns
            self._clock.at(due_ns, lambda: self._advance(due_ns))

    def _advance(self, due_ns: int) -> None:
        if self._armed_ns != due_ns:
            return
        self._armed_ns = None
        self._send(self.carrier.advance(self._clock.now_ns))
        if self.carrier.has_hung_up:
            self._end("hung-up-by-caller")
        self._arm()
