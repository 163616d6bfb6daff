"""A conversation on a bench: a session that is there, a model and a line that say what the test has them say."""

from __future__ import annotations

import random
from typing import Any, TypeVar

from aibridge.core.commands import Command, UseSession
from aibridge.core.conversation import Conversation
from aibridge.core.metrics import DEFINITIONS, ConversationMetrics
from aibridge.core.realtime import (
    AudioDelta,
    AudioDone,
    Committed,
    ErrorBody,
    Item,
    OutputItemAdded,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerError,
    SpeechStarted,
    SpeechStopped,
    StatusDetails,
    TranscriptDelta,
)
from aibridge.core.rules import Rules, Script
from shared.messages import PlayoutFinished, PlayoutStarted, Withdrawn
from shared.metrics import Page

MS = 1_000_000
T0 = 1_000_000 * MS
LOUD = b"\x00\x80" * 80  # a full-scale square wave
QUIET = b"\xff" * 160
C = TypeVar("C")


class Bench:
    """`now` is in ms since the start. What the conversation commanded stands in `done`, oldest first."""

    def __init__(self, *, rules: Rules | None = None, script: Script | None = None, start: bool = True) -> None:
        self.page = Page.in_memory(DEFINITIONS)
        self.talk = Conversation(
            script=script or Script(greets=False),
            rules=rules or Rules(),
            metrics=ConversationMetrics(self.page),
            rng=random.Random(1),
        )
        self.now = 0.0
        self.done: list[Command] = []
        if start:
            self.talk.start(self.ns)
            self.talk.session_ready(self.ns)
            self.take()

    @property
    def ns(self) -> int:
        return T0 + int(self.now * MS)

    def take(self) -> list[Command]:
        """What was commanded since the last time."""
        taken = list(self.talk.commands)
        self.talk.commands.clear()
        self.done += taken
        return taken

    def all(self, kind: type[C]) -> list[C]:
        self.take()
        return [command for command in self.done if isinstance(command, kind)]

    def count(self, name: str, value: str = "") -> float:
        return self.page.counter(name, value).value

    def wait(self, ms: float) -> None:
        """Time passes; what falls due is done at its hour."""
        end = self.ns + int(ms * MS)
        while (due_ns := self.talk.next_due_ns()) is not None and due_ns <= end:
            self.now = max(self.now, (due_ns - T0) / MS)
            # Not before its hour, which the milliseconds of `now` may miss by a nanosecond.
            self.talk.advance(max(self.ns, due_ns))
        self.now = (end - T0) / MS

    # --- the model ---

    def event(self, event: Any) -> None:
        self.talk.receive(event, self.ns)

    def created(self, response_id: str = "r1", purpose: str = "") -> None:
        self.event(ResponseCreated(Response(response_id, metadata={"purpose": purpose} if purpose else None)))

    def audio(self, ms: int, item: str = "i1", response_id: str = "r1", text: str = "") -> None:
        self.event(OutputItemAdded(response_id, Item(item, "message", "assistant")))
        self.event(AudioDelta(response_id, item, 0, bytes(ms * 8)))
        if text:
            self.event(TranscriptDelta(response_id, item, text))

    def audio_done(self, item: str = "i1", response_id: str = "r1") -> None:
        self.event(AudioDone(response_id, item, 0))

    def response_done(
        self, response_id: str = "r1", status: str = "completed", items: tuple[str, ...] = (), code: str = ""
    ) -> None:
        output = [
            Item(item, "message", "assistant", "completed" if status == "completed" else "incomplete") for item in items
        ]
        details = StatusDetails(error=ErrorBody(code=code)) if code else None
        self.event(ResponseDone(Response(response_id, status, details, output)))

    def error(self, code: str, event_id: str | None = None) -> None:
        self.event(ServerError(ErrorBody(code=code, event_id=event_id)))

    # --- the caller ---

    def speaks(self, item: str = "u1") -> None:
        for _ in range(10):
            self.talk.caller.take(LOUD)
        self.event(SpeechStarted(item))

    def stops(self, item: str = "u1") -> None:
        self.falls_silent()
        self.event(SpeechStopped(item))
        self.event(Committed(item))

    def falls_silent(self) -> None:
        for _ in range(25):
            self.talk.caller.take(QUIET)

    # --- the line ---

    def ear(self, utterance: int = 1) -> None:
        self.talk.report(PlayoutStarted(1, utterance, self.ns), self.ns)

    def heard(self, utterance: int = 1) -> None:
        self.talk.report(PlayoutFinished(1, utterance, self.ns), self.ns)

    def withdrawn(self, through: int, *paced: tuple[int, int]) -> None:
        """txpacer's answer; `paced` in (utterance, ms)."""
        answer = Withdrawn(1, through, tuple((number, ms * 8) for number, ms in paced), self.ns + 120 * MS)
        self.talk.report(answer, self.ns)

    def answers(self) -> None:
        """A response of 5 s that is made and has been heard for 1 s."""
        self.created()
        self.audio(5_000, text="one two three four five six seven eight nine ten")
        self.audio_done()
        self.response_done(items=("i1",))
        self.ear()
        self.now += 1_000
        assert not any(isinstance(command, UseSession) for command in self.take())
