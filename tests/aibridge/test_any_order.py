"""Every order of events from both sides, legal or not, against what must hold in all of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aibridge.core.commands import (
    CancelResponse,
    CreateResponse,
    DeleteItem,
    EndCall,
    Speak,
    TruncateItem,
    WithdrawSpeech,
)
from aibridge.core.realtime import Item, ItemTruncated, OutputItemDone, SpeechStopped
from aibridge.core.responses import Server
from aibridge.core.rules import Rules, Script
from shared.audio import ms_of
from shared.messages import MarkHeard, PlayoutShifted

from .bench import MS, Bench

NUMBERS = st.integers(1, 4)
LENGTHS = st.sampled_from([0, 1, 20, 100, 700, 3_000])


class AnyOrder(RuleBasedStateMachine):
    """The model and the line are independent and may say anything at any time; only the ids are few, so that they meet.

    What the line holds of each utterance is modelled here: it answers each withdrawal once, with no more than it got,
    and after that paces nothing of it.
    """

    @initialize(
        mode=st.sampled_from(["withdraw", "drain", "clear"]),
        confirm_ms=st.sampled_from([0, 200]),
        protect_ms=st.sampled_from([0, 500]),
        script=st.sampled_from(
            [
                Script(greets=False),
                Script(greets=True, greeting_text="Hello there."),
                Script(
                    greets=True, greeting_text="Hello there.", greeting_audio=bytes(8_000), fallback_audio=bytes(800)
                ),
            ]
        ),
    )
    def begin(self, mode, confirm_ms, protect_ms, script) -> None:
        rules = Rules(barge_in=mode, confirm_ns=confirm_ms * MS, protect_ns=protect_ms * MS, renew_ns=60_000 * MS)
        self.bench = Bench(rules=rules, script=script)
        self.mode = mode
        # Bytes that the model sent of each item, that the line got of each utterance, and that it paced.
        self.sent: Counter[str] = Counter()
        self.line: Counter[int] = Counter()
        self.closed_through = 0
        self.withdrawing: list[int] = []
        self.cancelled: Counter[str] = Counter()
        self.interrupted: set[str] = set()
        self.seen = 0
        self.is_over = False
        self.look()

    def look(self) -> None:
        """Follow the new commands, as the line and the model would."""
        self.bench.take()
        for command in self.bench.done[self.seen :]:
            assert not self.is_over or isinstance(command, Speak | TruncateItem | DeleteItem) is False, command
            if isinstance(command, Speak):
                assert command.utterance > self.closed_through, "speech that was withdrawn reached the line"
                self.line[command.utterance] += len(command.data)
            elif isinstance(command, WithdrawSpeech):
                assert self.mode != "drain"
                assert command.through > self.closed_through
                self.closed_through = command.through
                self.withdrawing.append(command.through)
            elif isinstance(command, CancelResponse):
                self.cancelled[command.response_id] += 1
                assert self.cancelled[command.response_id] == 1, "a second cancel of one response"
            elif isinstance(command, TruncateItem):
                assert 0 < command.audio_end_ms <= ms_of(self.sent[command.item_id]), "more than the model sent"
            elif isinstance(command, EndCall):
                self.is_over = True
        self.seen = len(self.bench.done)

    # --- the model ---

    @rule(number=NUMBERS, purpose=st.sampled_from(["", "greeting", "answer", "continue"]))
    def created(self, number, purpose) -> None:
        self.bench.created(f"r{number}", purpose)
        self.look()

    @rule(number=NUMBERS, item=st.integers(1, 2), ms=LENGTHS)
    def audio(self, number, item, ms) -> None:
        name = f"r{number}i{item}"
        response = self.bench.talk.responses.get(f"r{number}")
        self.bench.audio(ms, name, f"r{number}", "some words ")
        if response is not None and not response.done and not self.is_over and self.bench.talk.sessions.is_live:
            self.sent[name] += ms * 8
        before = len(self.bench.done)
        self.look()
        if f"r{number}" in self.cancelled:
            assert not any(isinstance(each, Speak) for each in self.bench.done[before:])

    @rule(number=NUMBERS, item=st.integers(1, 2))
    def audio_done(self, number, item) -> None:
        self.bench.audio_done(f"r{number}i{item}", f"r{number}")
        self.look()

    @rule(number=NUMBERS, status=st.sampled_from(["completed", "cancelled", "incomplete", "failed"]))
    def response_done(self, number, status) -> None:
        items = tuple(f"r{number}i{item}" for item in (1, 2) if self.sent[f"r{number}i{item}"])
        self.bench.response_done(f"r{number}", status, items)
        self.look()

    @rule(
        number=NUMBERS, name=st.sampled_from(["hang_up", "other"]), status=st.sampled_from(["completed", "incomplete"])
    )
    def function(self, number, name, status) -> None:
        self.bench.event(
            OutputItemDone(f"r{number}", Item("f", "function_call", status=status, name=name, call_id="c"))
        )
        self.look()

    @rule(
        code=st.sampled_from(
            ["response_cancel_not_active", "conversation_already_has_active_response", "server_error", "invalid_value"]
        ),
        event_id=st.sampled_from([None, "create_1", "create_2", "other"]),
    )
    def error(self, code, event_id) -> None:
        self.bench.error(code, event_id)
        self.look()

    @rule(number=NUMBERS, ms=LENGTHS)
    def truncated(self, number, ms) -> None:
        self.bench.event(ItemTruncated(f"r{number}i1", ms))
        self.look()

    # --- the caller ---

    @rule(number=NUMBERS)
    def speaks(self, number) -> None:
        self.bench.speaks(f"u{number}")
        self.look()

    @rule(number=NUMBERS, falls_silent=st.booleans())
    def stops(self, number, falls_silent) -> None:
        if falls_silent:
            self.bench.stops(f"u{number}")
        else:
            self.bench.event(SpeechStopped(f"u{number}"))
        self.look()

    # --- the line ---

    @rule(number=NUMBERS)
    def ear(self, number) -> None:
        self.bench.ear(number)
        self.look()

    @rule(number=NUMBERS, ms=LENGTHS)
    def shifted(self, number, ms) -> None:
        self.bench.talk.report(PlayoutShifted(1, number, ms * MS), self.bench.ns)
        self.look()

    @rule(number=NUMBERS)
    def heard(self, number) -> None:
        self.bench.heard(number)
        self.look()

    @rule(share=st.floats(0, 2))
    def withdrawn(self, share) -> None:
        """The line answers, sometimes with more than it can have paced: that must not reach the model either."""
        if self.withdrawing:
            through = self.withdrawing.pop(0)
            paced = [(n, int(self.line[n] * share) // 8) for n in range(1, through + 1) if self.line[n]]
            self.bench.withdrawn(through, *paced)
            self.look()

    @rule(number=NUMBERS)
    def withdrawn_unasked(self, number) -> None:
        self.bench.withdrawn(self.closed_through + number)
        self.look()

    @rule(generation=st.integers(0, 1), number=NUMBERS)
    def mark(self, generation, number) -> None:
        self.bench.talk.mark(MarkHeard(1, generation, number, self.bench.ns))
        self.look()

    # --- sessions and time ---

    @rule(happens=st.sampled_from(["lost", "ready", "failed", "refused"]))
    def session(self, happens) -> None:
        talk, now_ns = self.bench.talk, self.bench.ns
        if happens == "lost":
            talk.session_lost(now_ns)
        elif happens == "ready":
            talk.session_ready(now_ns)
        else:
            talk.dial_failed(now_ns, refused=happens == "refused")
        self.look()

    @rule(ms=st.sampled_from([1, 30, 150, 600, 2_500]))
    def wait(self, ms) -> None:
        self.bench.wait(ms)
        self.look()

    # --- what always holds ---

    @invariant()
    def the_ledger_is_sound(self) -> None:
        if not hasattr(self, "bench"):
            return
        ledger = self.bench.talk.playout.ledger
        for number in range(1, ledger.last + 1):
            utterance = ledger.get(number)
            assert utterance is not None
            assert utterance.spoken_bytes <= utterance.received_bytes
            assert utterance.heard_bytes is None or 0 <= utterance.heard_bytes <= utterance.spoken_bytes
            assert utterance.spoken_bytes == self.line[number]

    @invariant()
    def one_response_is_active_at_most_and_the_slot_knows(self) -> None:
        if hasattr(self, "bench"):
            responses = self.bench.talk.responses
            assert (responses.active is not None) == (responses.server in (Server.ACTIVE, Server.CANCELLING))

    def teardown(self) -> None:
        """Left alone, it comes to rest: the line answers, the server finishes, and nothing is planned for ever."""
        if not hasattr(self, "bench"):
            return
        bench = self.bench
        talk = bench.talk
        for round_number in range(12):
            while self.withdrawing:
                through = self.withdrawing.pop(0)
                bench.withdrawn(through, *((n, self.line[n] // 8) for n in range(1, through + 1) if self.line[n]))
            if not talk.sessions.is_live:
                talk.session_ready(bench.ns)
            if talk.floor.caller_speaks:
                bench.stops("u1")
            if talk.responses.server is Server.REQUESTED:
                bench.created(f"last{round_number}", talk.asking.requested)
            if talk.responses.active is not None:
                name = talk.responses.active.id
                bench.response_done(name, items=tuple(i for i in talk.responses.active.items if self.sent[i]))
            for utterance in list(talk.playout.ledger.open()):
                bench.ear(utterance.number)
                bench.heard(utterance.number)
            self.look()
            bench.wait(2_500)
            self.look()
        assert talk.ended or talk.responses.server is Server.IDLE
        assert not talk.playout.awaits_truth()
        assert talk.playout.unheard() == 0
        assert not talk.floor.is_remembered
        assert talk.ended or talk.asking.owed is None
        told = Counter(each.item_id for each in bench.all(TruncateItem))
        assert all(count == 1 for count in told.values()), "an item was cut twice"
        twice = Counter(each.item_id for each in bench.all(DeleteItem))
        assert all(count == 1 for count in twice.values()), "an item was deleted twice"
        assert not set(told) & set(twice)
        assert len(bench.all(EndCall)) <= 1
        assert len(bench.all(CreateResponse)) < 60


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
