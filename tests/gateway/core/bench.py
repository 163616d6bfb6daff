"""A gateway's core in virtual time, with two workers and a txpacer that answer while the test lets them."""

from __future__ import annotations

from typing import Any

from gateway.core.call import Call
from gateway.core.calls import Calls, SocketState
from gateway.core.commands import Command, ToWorker
from gateway.core.fallback import SWEEP_S
from gateway.core.media_streams import Mark, MarkFields, MediaFormat, Start, StartFields
from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.core.rules import Rules
from shared.messages import Message, PacerState, WorkerState
from shared.metrics import Page
from shared.plan import CallPlan

SECOND_NS = 1_000_000_000
ACCOUNT_SID = "AC1"
RULES = Rules(workers=2, max_calls=10, max_calls_per_source=10, late_ns=60_000_000, unserved_s=10)


class Bench:
    def __init__(self, rules: Rules = RULES, name: str = "gw", epoch: int = 1) -> None:
        self.now_ns = 1_000 * SECOND_NS
        self.metrics = Metrics(Page.in_memory(DEFINITIONS))
        self.calls = Calls(name, epoch, b"key", rules, self.metrics, lambda at_ns: at_ns // 1_000_000)
        # All commands, in order.
        self.commands: list[Command] = []
        # The epoch of each worker that answers hellos, and of txpacer (None: it is gone).
        self.workers = dict.fromkeys(range(rules.workers), 1)
        self.pacer: int | None = 1
        # When each call's socket last received data; a call that is missing here receives it all the time.
        self.heard_ns: dict[int, int] = {}
        self.unsent_bytes: dict[int, int] = {}
        self.hello()

    def hello(self) -> None:
        """Every running worker, and txpacer, answers a hello."""
        for worker, epoch in self.workers.items():
            self.says(worker, WorkerState(worker, True, 0, epoch))
        if self.pacer is not None:
            self.commands += self.calls.from_pacer(PacerState(self.pacer, 0), self.now_ns)

    def says(self, worker: int, message: Message) -> None:
        self.commands += self.calls.from_worker(worker, message, self.now_ns)

    def offer(self, call_sid: str, **how: Any) -> dict[str, str]:
        """The webhook's answer for a call that is connected: its `<Parameter>`s."""
        answer = self.calls.offers.take(call_sid, CallPlan("inbound", ACCOUNT_SID, "+1", "+2"), self.now_ns, **how)
        assert answer.order is None, answer
        self.commands += answer.commands
        return dict(answer.parameters)

    def open(self, call_sid: str, parameters: dict[str, str], *, followed: bool = False) -> Call | None:
        """A media socket shows these `<Parameter>`s in its `start`."""
        fields = StartFields(ACCOUNT_SID, call_sid, "MZ1", MediaFormat("audio/x-mulaw", 8000, 1), parameters)
        call, commands = self.calls.begin(Start("MZ1", fields), self.now_ns, followed=followed)
        self.commands += commands
        return call

    def call(self, call_sid: str = "CA1", *, followed: bool = False) -> Call:
        """A live call."""
        call = self.open(call_sid, self.offer(call_sid), followed=followed)
        assert call is not None
        return call

    def speaks(self, call: Call, frames: int = 1, mark: int = 0) -> None:
        """Frames of the AI leave, one each 20 ms, and after them the mark of an utterance."""
        for _ in range(frames):
            if call.frames.written(call.frames.seq, 1, self.now_ns, self.now_ns):
                self.commands += self.calls.first_frame(call, self.now_ns)
            self.now_ns += 20_000_000
        if mark:
            call.frames.utterance_ended()
            call.heard.mark_sent(mark, call.frames.frames)

    def echo(self, call: Call, name: str) -> None:
        """Twilio echoes a mark."""
        self.commands += self.calls.received(call, Mark("MZ1", MarkFields(name)), self.now_ns)

    def wait(self, seconds: float) -> None:
        """Let time pass, second by second: running processes answer hellos, and the core sweeps its calls."""
        for _ in range(round(seconds / SWEEP_S)):
            self.now_ns += int(SWEEP_S * SECOND_NS)
            self.hello()
            self.sweep()

    def sweep(self) -> None:
        sockets = {
            number: SocketState(self.heard_ns.get(number, self.now_ns), self.unsent_bytes.get(number, 0))
            for number in self.calls.by_number
        }
        self.commands += self.calls.sweep(self.now_ns, sockets)

    def taken(self, kind: type[Any]) -> list[Any]:
        """The commands of a kind, or the messages of a kind to workers, since the last time; they are taken away."""
        found = [
            command.message if isinstance(command, ToWorker) and not isinstance(command, kind) else command
            for command in self.commands
            if isinstance(command, kind) or (isinstance(command, ToWorker) and isinstance(command.message, kind))
        ]
        self.commands = [
            command
            for command in self.commands
            if not isinstance(command, kind)
            and not (isinstance(command, ToWorker) and isinstance(command.message, kind))
        ]
        return found

    def to_worker(self, worker: int) -> list[Message]:
        """All messages to a worker."""
        return [each.message for each in self.commands if isinstance(each, ToWorker) and each.worker == worker]

    def answer(self, call_sid: str) -> Any:
        """The order that Twilio gets when it returns with a call; None: the call is connected."""
        return self.calls.offers.take(call_sid, CallPlan(account_sid=ACCOUNT_SID), self.now_ns, resumed=True).order
