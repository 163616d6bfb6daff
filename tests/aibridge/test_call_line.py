"""A call whose line, media socket or worker is lost, with the real pacer and an ear that plays all frames."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.call import Call
from aibridge.core.conversation import Conversation
from aibridge.core.metrics import ConversationMetrics
from aibridge.core.rules import Rules, Script
from aibridge.core.utterances import UNHEARD_MAX_BYTES
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import (
    CallerSilent,
    CallerSpeaks,
    ModelCommand,
    ModelEvent,
    ResponseBegan,
    ResponseEnded,
    SessionReady,
    Tell,
    Untell,
    Words,
)
from aibridge.models.port import Speech as ModelSpeech
from aibridge.models.port import SpeechEnded as ModelSpeechEnded
from shared.audio import FRAME_BYTES, SILENCE
from shared.messages import (
    CallMemory,
    CloseLine,
    LineLost,
    LineState,
    OpenLine,
    PauseLine,
    RestoreLine,
    ResumeLine,
    Speech,
    SpeechEnd,
    Withdraw,
)
from shared.metrics import Page
from txpacer.core.metrics import DEFINITIONS as PACER_DEFINITIONS
from txpacer.core.metrics import PacerMetrics
from txpacer.core.pacer import Pacer

MS = 1_000_000
T0 = 1_000_000 * MS
SPEECH = random.Random(3).randbytes(80_000)  # 10 s


class FakeModel:
    """A session that is ready and accepts everything."""

    ready = SessionReady()

    def __init__(self) -> None:
        # The words that it was told and that were not taken back, by number.
        self.told: dict[int, str] = {}

    def tell(self, command: ModelCommand) -> None:
        if isinstance(command, Tell):
            self.told[command.number] = command.text
        elif isinstance(command, Untell):
            del self.told[command.number]

    def hear(self, audio: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class Cell:
    """One call, one pacer at a time, and a gateway that writes all frames. Messages to txpacer wait for `deliver`."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.now_ns = T0
        self.number = 1
        self.epoch = 1
        self.pipe: list[Any] = []
        self.memory = b""
        self.metrics = PacerMetrics(Page.in_memory(PACER_DEFINITIONS))
        self.pacer = Pacer(lead_ns=120 * MS, metrics=self.metrics)
        # Of this media socket: what was written to it, and what the gateway counts.
        self.wire = b""
        self.marks: list[tuple[int, int]] = []
        self.frames = self.seq = 0
        self.model = FakeModel()
        self.call = self.worker()
        self.call.start(self.model)
        self.sent = 0

    def worker(self) -> Call:
        conversation = Conversation(
            script=Script(),
            rules=self.rules,
            metrics=ConversationMetrics(Page.in_memory(DEFINITIONS)),
            rng=random.Random(1),
        )
        return Call(
            call=self.number,
            call_sid="CA1",
            gateway="gateway",
            conversation=conversation,
            to_pacer=self.pipe.append,
            to_gateway=self.from_call,
            dial=lambda _: self.model,
            on_due=lambda _: None,
            clock=lambda: self.now_ns,
        )

    def from_call(self, message: Any) -> None:
        if isinstance(message, CallMemory):
            self.memory = message.memory

    # --- the model ---

    def event(self, event: ModelEvent) -> None:
        self.call.model_event(self.model, event)

    def says(self, n_bytes: int) -> None:
        """The next part of SPEECH."""
        if not self.sent:
            self.event(ResponseBegan(1))
        data = SPEECH[self.sent : self.sent + n_bytes]
        self.sent += len(data)
        self.event(ModelSpeech(1, 1, data))

    def ends(self) -> None:
        self.event(ModelSpeechEnded(1))
        self.event(ResponseEnded(1))

    # --- txpacer and the gateway ---

    def deliver(self) -> None:
        messages, self.pipe[:] = list(self.pipe), []
        pacer, now_ns = self.pacer, self.now_ns
        for message in messages:
            match message:
                case OpenLine(call, gateway, handover, ask):
                    pacer.open(call, gateway, "bridge", now_ns, handover=handover, ask=ask)
                case RestoreLine(call, gateway, epoch, seq, utterance, paced_bytes, ear_ns, handover, ask):
                    if epoch == self.epoch:
                        pacer.restore(
                            call,
                            gateway,
                            "bridge",
                            now_ns,
                            seq=seq,
                            utterance=utterance,
                            paced_bytes=paced_bytes,
                            ear_ns=ear_ns,
                            handover=handover,
                            ask=ask,
                        )
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
                case CloseLine(call):
                    pacer.close(call)
        self.report()

    def report(self) -> None:
        for _, reports in self.pacer.take_reports():
            for report in reports:
                if report.call != self.number:
                    continue
                if isinstance(report, LineState):
                    self.call.line_state(report)
                else:
                    self.call.playout(report)

    def run(self, ms: int, *, deliver: bool = True) -> None:
        """Let time pass, in ticks of 10 ms; caller audio comes all the time."""
        for _ in range(ms // 10):
            if deliver:
                self.deliver()
            for _, batch in self.pacer.tick(self.now_ns):
                for call, seq, audio, mark in batch.entries:
                    if call != self.number:
                        continue
                    self.wire += audio
                    self.frames += len(audio) // FRAME_BYTES
                    self.seq = seq + len(audio) // FRAME_BYTES
                    if mark:
                        self.marks.append((mark, self.frames))
                        self.frames = 0
                self.pacer.acknowledge("gateway", batch.batch, self.now_ns, (), self.now_ns)
            self.report()
            self.now_ns += 10 * MS
            self.call.caller_audio(SILENCE * 80)
            if self.now_ns % (100 * MS) == 0:
                self.call.forget_heard(self.now_ns)

    def pacer_dies(self, *, is_noticed: bool = True) -> None:
        self.pipe.clear()
        self.epoch += 1
        self.pacer = Pacer(lead_ns=120 * MS, metrics=self.metrics)
        if is_noticed:
            self.gateway_notices()

    def gateway_notices(self) -> None:
        self.call.line_lost(LineLost(self.number, self.epoch, tuple(self.marks), self.frames, self.seq, 1))

    def socket_dies(self, *, epoch: int | None = None) -> None:
        """The media socket is lost and replaced. `epoch`: of the txpacer that the worker knows."""
        self.pipe.append(CloseLine(self.number))
        self.number += 1
        self.wire, self.marks, self.frames, self.seq = b"", [], 0, 0
        self.call.move(self.number, "gateway", self.from_call, epoch=epoch or self.epoch)
        self.call.tell_memory()

    def worker_dies(self, *, remembers: bool = True) -> None:
        """The worker dies and another takes over. `remembers`: it left its memory just before."""
        if remembers:
            self.call.tell_memory()
        self.pipe.clear()
        self.call = self.worker()
        self.call.resume(self.model, self.memory, 1)

    @property
    def heard_bytes(self) -> int | None:
        return self.call.conversation.history.turns[0].heard_bytes


def padded(speech: bytes) -> bytes:
    return speech + SILENCE * (-len(speech) % FRAME_BYTES)


def talking(ms: int = 3_000) -> Cell:
    """A call in the middle of ten seconds of speech, all of which is made."""
    cell = Cell()
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(ms)
    return cell


def test_a_lost_line_continues_with_the_next_byte() -> None:
    cell = talking()
    cell.pacer_dies()
    cell.run(9_000)
    assert cell.wire == SPEECH
    assert cell.heard_bytes == len(SPEECH)


def test_after_a_lost_socket_the_line_continues_where_the_ear_stopped() -> None:
    cell = talking()
    cell.socket_dies()
    cell.run(9_000)
    assert cell.wire == SPEECH[3_000 * 8 :]
    assert cell.heard_bytes == len(SPEECH)


def test_a_line_that_is_lost_after_its_socket_repeats_nothing() -> None:
    cell = talking()
    cell.socket_dies()
    for _ in range(2):
        cell.run(1_500)
        cell.pacer_dies()
    cell.run(9_000)
    assert cell.wire == SPEECH[3_000 * 8 :]


def test_a_line_that_was_requested_of_a_lost_txpacer_is_requested_of_the_next_one() -> None:
    cell = talking()
    known = cell.epoch
    cell.pacer_dies(is_noticed=False)
    cell.socket_dies(epoch=known)
    cell.run(300)
    assert cell.wire == b""
    cell.call.ask_again(cell.epoch)
    cell.run(9_000)
    assert cell.wire == SPEECH[3_000 * 8 :]


def test_a_line_whose_request_was_lost_is_requested_again_and_gets_all_speech() -> None:
    cell = Cell()
    cell.says(30_000)
    cell.pipe.clear()
    cell.run(500)
    assert cell.wire == b""
    cell.call.ask_again(cell.epoch)
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(12_000)
    assert cell.wire == SPEECH


def test_a_line_whose_request_was_late_gets_no_speech_twice() -> None:
    cell = Cell()
    for _ in range(3):
        cell.says(10_000)
        cell.run(500, deliver=False)
        cell.call.ask_again(cell.epoch)
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(12_000)
    assert cell.wire == SPEECH
    assert cell.call.line.asked_ns == 0


def test_a_line_that_was_opened_before_its_gateway_knew_of_the_restart_continues() -> None:
    cell = Cell()
    cell.pacer_dies(is_noticed=False)
    cell.call.ask_again(cell.epoch)
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(1_000)
    cell.gateway_notices()
    cell.run(12_000)
    assert cell.wire == SPEECH


def test_a_successor_knows_the_speech_that_its_predecessor_left_in_the_line() -> None:
    cell = talking()
    cell.worker_dies()
    cell.run(1_000)
    cell.pacer_dies()
    cell.run(12_000)
    assert cell.wire == SPEECH
    assert cell.heard_bytes == len(SPEECH)


def test_a_successor_knows_in_which_utterance_the_media_socket_began() -> None:
    cell = talking()
    cell.socket_dies()
    cell.run(1_000)
    cell.worker_dies()
    cell.run(1_000)
    cell.pacer_dies()
    cell.run(12_000)
    assert cell.wire == SPEECH[3_000 * 8 :]


def test_an_utterance_that_the_line_finished_between_two_workers_counts_as_heard() -> None:
    cell = Cell()
    cell.says(len(SPEECH))
    cell.event(Words(1, "one two three four"))
    cell.ends()
    cell.run(11_000)
    cell.worker_dies(remembers=False)
    cell.run(100)
    assert list(cell.model.told.values()) == ["one two three four"]
    assert cell.heard_bytes == len(SPEECH)


def test_the_words_that_a_successor_knows_are_not_spread_over_audio_without_words() -> None:
    cell = Cell()
    cell.says(16_000)
    cell.event(Words(1, "one two three four"))
    cell.call.tell_memory()
    cell.says(len(SPEECH))
    cell.run(3_000)
    cell.worker_dies(remembers=False)
    cell.run(100)
    cell.event(CallerSpeaks(1))
    cell.run(200)
    assert list(cell.model.told.values()) == ["one two three four"]


def test_after_an_interruption_a_successor_tells_the_model_no_more_than_was_heard() -> None:
    cell = Cell()
    cell.says(len(SPEECH))
    cell.event(Words(1, "one two three four"))
    cell.ends()
    cell.run(5_000)
    cell.event(CallerSpeaks(1))
    cell.run(200)
    cell.worker_dies(remembers=False)
    cell.run(100)
    assert list(cell.model.told.values()) == ["one two"]


@pytest.mark.parametrize("accident", ["line", "socket"])
def test_a_successor_without_an_answer_requests_the_line_again(accident: str) -> None:
    cell = talking()
    cell.worker_dies()
    if accident == "line":
        cell.pacer_dies()
    else:
        cell.socket_dies()
    cell.run(500)
    assert cell.call.line.asked_ns == 0
    assert cell.call.conversation.sessions.is_live


def test_an_interruption_during_the_restoration_of_a_line_is_answered_with_what_was_heard() -> None:
    cell = talking()
    cell.pacer_dies()
    cell.event(CallerSpeaks(1))
    cell.run(2_000)
    assert not cell.call.conversation.playout.awaits_truth()
    assert cell.wire == SPEECH[: len(cell.wire)]
    assert cell.heard_bytes == len(cell.wire)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_pause_that_ends_during_the_request_of_a_line_does_not_last(is_new: bool) -> None:
    cell = Cell(Rules(confirm_ns=300 * MS))
    cell.says(len(SPEECH))
    cell.ends()
    cell.run(100)
    cell.event(CallerSpeaks(1))
    cell.run(100)
    if is_new:
        cell.pacer_dies()
    else:
        cell.call.ask_again(cell.epoch)
    cell.event(CallerSilent(1))
    cell.run(12_000)
    assert cell.wire == SPEECH


def test_speech_that_exceeds_a_line_is_not_sent_and_does_not_count_as_heard() -> None:
    cell = Cell()
    cell.event(ResponseBegan(1))
    for _ in range(12 * 60):
        cell.event(ModelSpeech(1, 1, bytes(8_000)))
        cell.run(20)
    assert cell.metrics.refused_bytes.value == 0
    assert cell.pacer.reservoir_bytes == pytest.approx(UNHEARD_MAX_BYTES, rel=0.01)
    cell.ends()
    cell.event(CallerSpeaks(1))
    cell.run(500)
    assert cell.heard_bytes == len(cell.wire) < 20 * 8_000


def kept(cell: Cell) -> bytes:
    utterance = cell.call.conversation.utterances.get(1)
    assert utterance is not None
    return utterance.rest(0)


def test_speech_is_not_kept_long_after_the_ear_has_passed_it() -> None:
    cell = Cell()
    while cell.sent < len(SPEECH):
        cell.says(400)
    cell.ends()
    cell.run(8_000)
    assert 2 * 8_000 <= len(kept(cell)) <= 4 * 8_000
    cell.run(3_000)
    assert kept(cell) == b""


acts = st.one_of(
    st.tuples(st.just("says"), st.integers(1, 9_000)),
    st.tuples(st.just("run"), st.integers(10, 900)),
    st.tuples(st.just("late"), st.integers(10, 900)),
    st.tuples(st.just("ask again"), st.just(0)),
    st.tuples(st.just("pacer dies"), st.just(0)),
    st.tuples(st.just("pacer dies unnoticed"), st.integers(0, 300)),
    st.tuples(st.just("socket dies"), st.just(0)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(acts, max_size=25))
def test_after_any_loss_each_socket_continues_the_speech_where_the_ear_was(script: list[tuple[str, int]]) -> None:
    cell = Cell()
    begin = 0
    for what, amount in script:
        if what == "says":
            if cell.sent < len(SPEECH):
                cell.says(amount)
        elif what == "run":
            cell.run(amount)
        elif what == "late":
            cell.run(amount, deliver=False)
        elif what == "ask again":
            if cell.call.line.asked_ns:
                cell.call.ask_again(cell.epoch)
        elif what == "pacer dies":
            cell.pacer_dies()
        elif what == "pacer dies unnoticed":
            cell.pacer_dies(is_noticed=False)
            cell.run(amount)
            cell.gateway_notices()
        elif what == "socket dies":
            assert padded(SPEECH[begin : cell.sent]).startswith(cell.wire)
            cell.socket_dies()
            begin = cell.call.line.base[1] if cell.call.line.base[0] else begin + len(cell.wire)
    if cell.call.line.asked_ns:
        cell.call.ask_again(cell.epoch)
    if cell.sent:
        cell.ends()
    cell.run(12_000)
    assert cell.wire == padded(SPEECH[begin : cell.sent])
    assert cell.call.line.asked_ns == 0
