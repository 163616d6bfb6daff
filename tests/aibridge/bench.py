"""A conversation on a bench: the test scripts the model and the line."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, TypeVar

from aibridge.core.built_in import BuiltIn
from aibridge.core.commands import Command, UseSession
from aibridge.core.conversation import Conversation
from aibridge.core.metrics import ConversationMetrics
from aibridge.core.near_ear import events
from aibridge.core.near_ear.events import NearEarEvent, Sound
from aibridge.core.near_ear.near_ear import NearEar
from aibridge.core.rules import Rules, Script
from aibridge.core.tools import ToolRule
from aibridge.metrics import DEFINITIONS
from aibridge.models.port import (
    CallerSilent,
    CallerSpeaks,
    DialFailed,
    Fault,
    FaultKind,
    Numbers,
    Outcome,
    Purpose,
    ResponseBegan,
    ResponseEnded,
    SessionLost,
    SessionReady,
    Speech,
    SpeechEnded,
    ToolCalled,
    TurnTaken,
    Words,
)
from shared.messages import PlayoutFinished, PlayoutShifted, PlayoutStarted, Withdrawn
from shared.metrics import Page

MS = 1_000_000
T0 = 1_000_000 * MS
LOUD = b"\x00\x80" * 80  # a full-scale square wave
QUIET = b"\xff" * 160
C = TypeVar("C")


class ScriptedEar(NearEar):
    """Hears what the test says."""

    def __init__(self) -> None:
        self.next: list[NearEarEvent] = []
        self.last = Sound.NOTHING
        self.listened = False

    def hear(self, audio: bytes, at_ns: int, *, is_ai_audible: bool) -> list[NearEarEvent]:
        self.listened = is_ai_audible
        heard, self.next = self.next, []
        return heard

    def without_echo(self, audio: bytes) -> bytes:
        return audio

    def sound(self, now_ns: int) -> Sound:
        return self.last


class Bench:
    """`now` is in ms since the start. `done` holds the conversation's commands, oldest first.

    The model's responses, utterances and turns have the numbers that the test gives them.
    """

    def __init__(
        self,
        *,
        rules: Rules | None = None,
        script: Script | None = None,
        start: bool = True,
        tools: Mapping[str, ToolRule] | None = None,
        built_in: BuiltIn | None = None,
    ) -> None:
        self.page = Page.in_memory(DEFINITIONS)
        self.talk = Conversation(
            script=script or Script(),
            rules=rules or Rules(),
            metrics=ConversationMetrics(self.page),
            rng=random.Random(1),
            numbers=Numbers(),
            tools=tools,
            built_in=built_in,
        )
        self.near_ear = ScriptedEar()
        self.talk.near_ear = self.near_ear
        self.now = 0.0
        self.done: list[Command] = []
        self._taken = 0
        if start:
            self.done += self.talk.start(self.ns)
            self.ready()
            self.take()

    @property
    def ns(self) -> int:
        return T0 + int(self.now * MS)

    def take(self) -> list[Command]:
        """The commands since the last call."""
        taken, self._taken = self.done[self._taken :], len(self.done)
        return taken

    def all(self, kind: type[C]) -> list[C]:
        self.take()
        return [command for command in self.done if isinstance(command, kind)]

    def count(self, name: str, value: str = "") -> float:
        return self.page.counter(name, value).value

    def wait(self, ms: float) -> None:
        """Let time pass; the conversation acts whenever something is due."""
        end = self.ns + int(ms * MS)
        while (due_ns := self.talk.next_due_ns()) is not None and due_ns <= end:
            self.now = max(self.now, (due_ns - T0) / MS)
            # Not before its hour, which the milliseconds of `now` may miss by a nanosecond.
            self.done += self.talk.advance(max(self.ns, due_ns))
        self.now = (end - T0) / MS

    # --- the model ---

    def event(self, event: Any) -> None:
        self.done += self.talk.receive(event, self.ns)

    def ready(self) -> None:
        self.event(SessionReady("a model"))

    def lost(self) -> None:
        self.event(SessionLost())

    def dial_failed(self, *, refused: bool = False) -> None:
        self.event(DialFailed(refused))

    def began(self, response: int = 1, purpose: Purpose | None = None) -> None:
        self.talk.numbers.response = max(self.talk.numbers.response, response)
        self.event(ResponseBegan(response, purpose))

    def speech(self, ms: int, utterance: int = 1, response: int = 1, words: str = "") -> None:
        self.talk.numbers.utterance = max(self.talk.numbers.utterance, utterance)
        self.event(Speech(response, utterance, bytes(ms * 8)))
        if words:
            self.event(Words(utterance, words))

    def speech_ended(self, utterance: int = 1) -> None:
        self.event(SpeechEnded(utterance))

    def ended(
        self,
        response: int = 1,
        outcome: Outcome = "completed",
        *,
        cut: tuple[int, ...] = (),
        silent: tuple[int, ...] = (),
    ) -> None:
        self.event(ResponseEnded(response, outcome, cut, silent))

    def fault(self, kind: FaultKind = "other", request: int = 0) -> None:
        self.event(Fault(kind, request))

    def calls(self, name: str = "end_call", response: int = 1, tool_call: int = 1, arguments: str = "{}") -> None:
        """The model calls a tool."""
        self.event(ToolCalled(response, tool_call, name, arguments))

    def tool_answers(self, output: str = "done", tool_call: int = 1) -> None:
        """toolbox answers."""
        self.done += self.talk.tool_answered(tool_call, output, "done", self.ns)

    # --- the caller ---

    def speaks(self, turn: int = 1) -> None:
        for _ in range(10):
            self.talk.caller.take(LOUD)
        self.event(CallerSpeaks(turn))

    def stops(self, turn: int = 1) -> None:
        self.falls_silent()
        self.event(CallerSilent(turn))
        self.event(TurnTaken(turn))

    def falls_silent(self) -> None:
        for _ in range(25):
            self.talk.caller.take(QUIET)

    def first_sound(self) -> None:
        """The near ear hears the caller, whose first sound was 60 ms ago."""
        self.near_ear.last = Sound.SPEECH
        self.hears(events.SpeechBegan(self.ns - 60 * MS))

    def sound_ends(self, sound: Sound = Sound.SPEECH) -> None:
        self.near_ear.last = sound
        self.hears(events.SpeechEnded(self.ns - 300 * MS, 150 * MS))

    def echoes(self) -> None:
        """What comes from the caller is the AI's own voice."""
        self.near_ear.last = Sound.ECHO

    def hears(self, *events: NearEarEvent) -> None:
        self.near_ear.next += events
        self.done += self.talk.hear(QUIET, self.ns, self.ns)

    # --- the line ---

    def report(self, report: PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn) -> None:
        self.done += self.talk.report(report, self.ns)

    def ear(self, utterance: int = 1) -> None:
        self.report(PlayoutStarted(1, utterance, self.ns))

    def heard(self, utterance: int = 1) -> None:
        self.report(PlayoutFinished(1, utterance, self.ns))

    def withdrawn(self, through: int, *paced: tuple[int, int]) -> None:
        """txpacer answers a withdrawal; `paced` in (utterance, ms)."""
        self.report(Withdrawn(1, through, tuple((number, ms * 8) for number, ms in paced), self.ns + 120 * MS))

    def answers(self) -> None:
        """The model makes a response of 5 s, and the caller has heard 1 s of it."""
        self.began()
        self.speech(5_000, words="one two three four five six seven eight nine ten")
        self.speech_ended()
        self.ended()
        self.ear()
        self.now += 1_000
        assert not any(isinstance(command, UseSession) for command in self.take())
