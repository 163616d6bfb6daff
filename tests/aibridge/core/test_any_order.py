"""Events from both sides in any order, legal or not, and the promises that hold in every order."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aibridge.core.agent import Agent
from aibridge.core.barge_in import Floor
from aibridge.core.built_in import END_CALL, HAND_OFF, TRANSFER_CALL, BuiltIn
from aibridge.core.cancel_once import Making
from aibridge.core.commands import CallTool, DialModel, EndCall, Speak, WithdrawSpeech
from aibridge.core.early_pause import Near
from aibridge.core.greeting_protection import Opening
from aibridge.core.hand_off import Part
from aibridge.core.keypad import KeypadRules
from aibridge.core.near_ear.events import Sound
from aibridge.core.owed_and_retry import Owed
from aibridge.core.rules import Line, Rules, Script
from aibridge.core.timers import Due
from aibridge.core.tones import SEND_DTMF
from aibridge.core.tools import Reply, ToolRule
from aibridge.models.port import (
    AnswerTaken,
    AnswerTool,
    Ask,
    CallerSilent,
    CallerWords,
    Cancel,
    Forget,
    SessionLost,
    Speech,
    TellingTaken,
    Truncate,
    Truncated,
    TurnTaken,
)
from shared.agents.destinations import Destination
from shared.audio import ms_of
from shared.messages import MarkHeard, PlayoutShifted
from shared.plan import CallPlan
from tests.aibridge.bench import MS, Bench

NUMBERS = st.integers(1, 4)
TOOLS = {"goes_on": ToolRule(3_000 * MS, filler_after_ns=500 * MS), "ends": ToolRule(9_000 * MS, ends_at_speech=True)}
FUNCTIONS = ["other", *TOOLS, SEND_DTMF, END_CALL, TRANSFER_CALL, HAND_OFF]
ARGUMENTS = '{"digits": "12w3", "destination": "desk", "agent": "office"}'
BUILT_IN = BuiltIn({"desk": Destination("+15550123")}, ("office",))
OFFICE = Part(Agent(instructions="I am the office.", name="office"), Script(), Rules(), TOOLS, BUILT_IN)
LENGTHS = st.sampled_from([0, 1, 20, 100, 700, 3_000])


class AnyOrder(RuleBasedStateMachine):
    """The model and the line are independent and may say anything at any time; only the ids are few, so that they meet.

    What the line holds of each utterance is modelled here: it answers each withdrawal once, with no more than it got,
    and after that paces nothing of it.
    """

    @initialize(
        mode=st.sampled_from(["withdraw", "drain", "clear"]),
        confirm_ms=st.sampled_from([0, 200]),
        early_ms=st.sampled_from([0, 500]),
        protect_ms=st.sampled_from([0, 500]),
        keys_interrupt=st.booleans(),
        script=st.sampled_from(
            [
                Script(),
                Script(greeting=Line("Hello there.")),
                Script(greeting=Line("Hello there.", bytes(8_000)), fallback=Line("Sorry.", bytes(800))),
                Script(notice=Line("This call is recorded."), greeting=Line("Hello there.")),
                Script(notice=Line("This call is recorded.", bytes(8_000)), greeting=Line("Hello there.", bytes(800))),
                Script(notice=Line("This call is recorded."), greeting=Line("Hello there.", bytes(800))),
            ]
        ),
    )
    def begin(self, mode, confirm_ms, early_ms, protect_ms, keys_interrupt, script) -> None:
        rules = Rules(
            barge_in=mode,
            confirm_ns=confirm_ms * MS,
            early_ns=early_ms * MS,
            protect_ns=protect_ms * MS,
            renew_ns=60_000 * MS,
            keypad=KeypadRules(interrupts=keys_interrupt),
            sends_dtmf=True,
        )
        self.bench = Bench(rules=rules, script=script, tools=TOOLS, built_in=BUILT_IN)
        self.bench.talk.plan = CallPlan(from_number="+15550006", to_number="+15550100")
        self.tools: set[int] = set()
        self.mode = mode
        # By response: its two utterances, numbered when they are first spoken.
        self.utterances: dict[tuple[int, int], int] = {}
        # Bytes that the model sent of each utterance, and that the line got.
        self.sent: Counter[int] = Counter()
        self.line: Counter[int] = Counter()
        self.closed_through = 0
        self.withdrawing: list[int] = []
        self.cancelled: Counter[int] = Counter()
        self.seen = self.keys = 0
        self.is_over = False
        self.look()

    def look(self) -> None:
        """Follow the new commands, as the line and the model would."""
        for command in self.bench.done[self.seen :]:
            assert not self.is_over or not isinstance(command, Speak | Truncate | Forget | Ask), command
            if isinstance(command, Speak):
                assert command.utterance > self.closed_through, "speech that was withdrawn reached the line"
                self.line[command.utterance] += len(command.data)
            elif isinstance(command, WithdrawSpeech):
                assert self.mode != "drain"
                assert command.through > self.closed_through
                assert self.bench.talk.notice.state is Opening.OVER, "the recording notice was cut"
                assert not self.bench.talk.tones.is_playing, "tones were cut"
                self.closed_through = command.through
                self.withdrawing.append(command.through)
            elif isinstance(command, Cancel):
                self.cancelled[command.response] += 1
                assert self.cancelled[command.response] == 1, "a second cancel of one response"
            elif isinstance(command, Truncate):
                assert 0 < command.heard_ms <= ms_of(self.sent[command.utterance]), "more than the model sent"
            elif isinstance(command, DialModel):
                self.bench.talk.coming = OFFICE if command.agent else None
            elif isinstance(command, EndCall):
                self.is_over = True
        self.seen = len(self.bench.done)

    # --- the model ---

    @rule(number=NUMBERS, purpose=st.sampled_from([None, "notice", "greeting", "answer", "continue"]))
    def began(self, number, purpose) -> None:
        self.bench.began(number, purpose)
        self.look()

    @rule(number=NUMBERS, item=st.integers(1, 2), ms=LENGTHS)
    def speech(self, number, item, ms) -> None:
        talk = self.bench.talk
        key = (number, item)
        if key not in self.utterances:
            self.utterances[key] = talk.numbers.next_utterance()
        utterance = self.utterances[key]
        response = talk.responses.get(number)
        if response is not None and response.is_making and not talk.ended and talk.sessions.is_live:
            self.sent[utterance] += ms * 8
        before = len(self.bench.done)
        self.bench.event(Speech(number, utterance, bytes(ms * 8)))
        self.look()
        if number in self.cancelled:
            assert not any(isinstance(each, Speak) for each in self.bench.done[before:])

    @rule(number=NUMBERS, item=st.integers(1, 2))
    def speech_ended(self, number, item) -> None:
        self.bench.speech_ended(self.utterances.get((number, item), 0))
        self.look()

    @rule(
        number=NUMBERS,
        outcome=st.sampled_from(["completed", "cancelled", "incomplete", "failed"]),
        is_silent=st.booleans(),
    )
    def ended(self, number, outcome, is_silent) -> None:
        spoken = tuple(each for (response, _), each in self.utterances.items() if response == number)
        silent = (self.bench.talk.numbers.next_utterance(),) if is_silent else ()
        self.bench.ended(number, outcome, cut=() if outcome == "completed" else spoken, silent=silent)
        self.look()

    @rule(number=NUMBERS, tool_call=NUMBERS, name=st.sampled_from(FUNCTIONS))
    def tool(self, number, tool_call, name) -> None:
        if tool_call not in self.tools:  # a model draws each number once
            self.tools.add(tool_call)
            self.bench.calls(name, number, tool_call, ARGUMENTS)
            self.look()

    @rule(tool_call=NUMBERS)
    def tool_answers(self, tool_call) -> None:
        self.bench.tool_answers("done", tool_call)
        self.look()

    @rule(tool_call=NUMBERS)
    def answer_taken(self, tool_call) -> None:
        self.bench.event(AnswerTaken(tool_call))
        self.look()

    @rule(kind=st.sampled_from(["cancel_too_late", "busy", "other"]), request=st.integers(0, 2))
    def fault(self, kind, request) -> None:
        self.bench.fault(kind, request)
        self.look()

    @rule(number=NUMBERS, ms=LENGTHS)
    def truncated(self, number, ms) -> None:
        self.bench.event(Truncated(number, ms))
        self.look()

    # --- the caller ---

    @rule(number=NUMBERS)
    def speaks(self, number) -> None:
        self.bench.speaks(number)
        self.look()

    @rule(number=NUMBERS, falls_silent=st.booleans())
    def stops(self, number, falls_silent) -> None:
        if falls_silent:
            self.bench.stops(number)
        else:
            self.bench.event(CallerSilent(number))
        self.look()

    @rule(key=st.sampled_from("1#"))
    def presses(self, key) -> None:
        self.keys += 1
        self.bench.done += self.bench.talk.key(key, self.bench.ns + self.keys, self.bench.ns + self.keys)
        self.look()

    @rule(number=NUMBERS)
    def told(self, number) -> None:
        self.bench.event(TellingTaken(number))

    @rule(number=NUMBERS, words=st.sampled_from(["", "Words."]))
    def words(self, number, words) -> None:
        self.bench.event(TurnTaken(number))
        self.bench.event(CallerWords(number, words))
        self.look()

    @rule(happens=st.sampled_from(["begins", "ends", "echoes"]), sound=st.sampled_from(list(Sound)))
    def near_ear(self, happens, sound) -> None:
        if happens == "begins":
            self.bench.first_sound()
        elif happens == "ends":
            self.bench.sound_ends(sound)
        else:
            self.bench.near_ear.last = sound
        self.look()

    # --- the line ---

    @rule(number=NUMBERS)
    def ear(self, number) -> None:
        self.bench.ear(number)
        self.look()

    @rule(number=NUMBERS, ms=LENGTHS)
    def shifted(self, number, ms) -> None:
        self.bench.report(PlayoutShifted(1, number, ms * MS))
        self.look()

    @rule(number=NUMBERS)
    def heard(self, number) -> None:
        self.bench.heard(number)
        self.look()

    @rule(share=st.floats(0, 2))
    def withdrawn(self, share) -> None:
        """The line answers, sometimes with more than it can have paced, which must not reach the model."""
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
        if happens == "lost":
            self.bench.event(SessionLost())
        elif happens == "ready":
            self.bench.ready()
        else:
            self.bench.dial_failed(refused=happens == "refused")
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
        ledger = self.bench.talk.utterances
        for number in range(1, ledger.last + 1):
            utterance = ledger.get(number)
            if utterance is not None:
                assert utterance.spoken_bytes <= utterance.received_bytes
                assert utterance.heard_bytes is None or 0 <= utterance.heard_bytes <= utterance.spoken_bytes
            assert (utterance.spoken_bytes if utterance is not None else 0) == self.line[number]

    @invariant()
    def one_response_is_active_at_most_and_its_region_knows(self) -> None:
        if hasattr(self, "bench"):
            talk = self.bench.talk
            assert (talk.responses.active is not None) == (talk.making.state in (Making.ACTIVE, Making.CANCELLING))

    @invariant()
    def the_line_pauses_only_for_an_interruption_to_be_confirmed(self) -> None:
        if hasattr(self, "bench") and not self.bench.talk.ended:
            talk = self.bench.talk
            confirms, is_early = talk.floor.state is Floor.CONFIRMING, talk.near.state in (Near.PAUSED, Near.ENDED)
            assert talk.playout.is_paused == (confirms or is_early)
            assert not (confirms and is_early)
            assert not is_early or talk.timers.is_set(Due.REPORT)
            assert not confirms or talk.timers.is_set(Due.CONFIRM)

    def teardown(self) -> None:
        """Without further events the conversation comes to rest: no timer is set for ever."""
        if not hasattr(self, "bench"):
            return
        bench = self.bench
        talk = bench.talk
        for round_number in range(14):
            while self.withdrawing:
                through = self.withdrawing.pop(0)
                bench.withdrawn(through, *((n, self.line[n] // 8) for n in range(1, through + 1) if self.line[n]))
            if not talk.sessions.is_live:
                bench.ready()
            if talk.floor.state is not Floor.QUIET:
                bench.stops(1)
            if talk.making.state in (Making.REQUESTED, Making.UNWANTED):
                bench.began(100 + round_number, talk.asking.requested)
            if talk.responses.active is not None:
                response = talk.responses.active.number
                if talk.responses.active.reaches_line:
                    number = talk.numbers.next_utterance()
                    self.sent[number] += 800
                    bench.event(Speech(response, number, bytes(800)))
                bench.ended(response)
            for utterance in list(talk.utterances.open()):
                bench.ear(utterance.number)
                bench.heard(utterance.number)
            self.look()
            bench.wait(2_500)
            self.look()
        assert talk.ended or talk.making.state is Making.IDLE
        assert not talk.playout.awaits_truth()
        assert talk.utterances.last_open() == 0
        assert talk.ended or talk.floor.state is Floor.QUIET
        assert talk.ended or talk.asking.chart.state is Owed.NOTHING
        assert talk.ended or talk.notice.state is talk.greeting.state is Opening.OVER
        assert talk.ended or not any(talk.tools.running())
        assert talk.ended or talk.tools.reply.state is Reply.NONE
        assert talk.ended or not talk.keypad.is_pressing
        for kind in (CallTool, AnswerTool):
            each_once = Counter(each.tool_call for each in bench.all(kind))
            assert all(count == 1 for count in each_once.values()), f"a second {kind.__name__}"
        told = Counter(each.utterance for each in bench.all(Truncate))
        assert all(count == 1 for count in told.values()), "an utterance was cut twice"
        twice = Counter(each.utterance for each in bench.all(Forget))
        assert all(count == 1 for count in twice.values()), "an utterance was forgotten twice"
        assert not set(told) & set(twice)
        assert len(bench.all(EndCall)) <= 1
        assert len(bench.all(Ask)) < 60


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
