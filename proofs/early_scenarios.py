"""Scenarios of the early pause and of echo: every order of the first sound, the model's report, and what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Final

from shared.audio import BYTES_PER_MS
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, HangUp, Say, Step
from simulator.carrier.speakerphone import Speakerphone
from simulator.model.behaviour import Behaviour
from simulator.voice import clip

from .cell.cell import RESTART_MS, Cell
from .scenario import Expected, Scenario, Sessions
from .verdict import Verdict

BYE: Final = HangUp(AiSilent(ms=1_200))
SHORT: Final = "hello"
LONG: Final = "vm-sorry"
ANSWER_MS: Final = 9_000
EARLY: Final = {"BARGE_IN_EARLY": "on"}
# A model that needs as much speech as OpenAI's, one that is later than the pause waits, and one that notices nothing.
NOTICES_MS: Final = 300
LATE_MS: Final = 860
NEVER_MS: Final = 600_000
# A pause that nobody confirms: BARGE_IN_EARLY_MS less the lead, which the caller hears first.
_HESITATION: Final = Expected("gap", amount=(80, 500))
# The call's first answer lasts from here on; in a script of AfterAnswer.
_IN_ANSWER_MS: Final = 7_000


@cache
def spoken(ms: int) -> bytes:
    """Speech of exactly this length: a recorded voice, from its first loud moment on."""
    return clip("tt-weasels").audio[1_600:][: ms * BYTES_PER_MS]


def _say(ms: int, when: Any) -> Say:
    return Say(f"speech of {ms} ms", when, spoken(ms))


def _model(detection_ms: int, **fields: Any) -> Behaviour:
    return Behaviour(answer_ms=ANSWER_MS, detection_ms=detection_ms, **fields)


def _uncut(_: Verdict, sessions: Sessions) -> str:
    cut = any(item["truncated_ms"] is not None for session in sessions for item in session["items"])
    return "An item was cut without an interruption." if cut else ""


def _never_cancelled(verdict: Verdict, sessions: Sessions) -> str:
    return _uncut(verdict, sessions) or ("A response was cancelled." if verdict.cancels else "")


def _confirmed() -> Iterator[Scenario]:
    """The model reports the speech that paused the line, in time or late."""
    polite = (Say(SHORT, AiSilent(ms=400)),)
    for name, behaviour in {
        "an answer that was made": _model(NOTICES_MS, speed=60),
        "an answer that is being made": _model(NOTICES_MS, speed=1.2),
        "two items": _model(NOTICES_MS, preamble=True),
    }.items():
        for at_ms in (0, 60, 2_500):
            yield Scenario(
                f"early pause: {name}, at {at_ms} ms",
                (*polite, Say(LONG, AiHeard(ms=at_ms)), BYE),
                (behaviour,),
                env=EARLY,
                interruptions=1,
                virtual_only=at_ms != 2_500,
            )
    yield Scenario(
        "early pause: three answers in a row",
        (*polite, *(Say(LONG, AiHeard(ms=200, upto_ms=3_000)) for _ in range(3)), BYE),
        (_model(NOTICES_MS),),
        env=EARLY,
        interruptions=3,
    )
    yield Scenario(
        "early pause: reported late, after the line went on",
        (_say(1_600, AiSilent(ms=400)), _say(1_600, AiHeard(ms=2_000)), BYE),
        (_model(LATE_MS),),
        env=EARLY,
        interruptions=1,
        forced=(_HESITATION,),
    )
    yield Scenario(
        "early pause: with BARGE_IN=clear and a long lead",
        (*polite, Say(LONG, AiHeard(ms=2_000)), BYE),
        (_model(NOTICES_MS),),
        env={**EARLY, "BARGE_IN": "clear", "TX_LEAD_MS": "400"},
        interruptions=1,
    )
    yield Scenario(
        "early pause: then BARGE_IN_CONFIRM_MS",
        (*polite, Say(LONG, AiHeard(ms=2_000)), BYE),
        (_model(NOTICES_MS),),
        env={**EARLY, "BARGE_IN_CONFIRM_MS": "300"},
        interruptions=1,
    )


def _unconfirmed() -> Iterator[Scenario]:
    """The model takes it for nothing: the AI hesitates and goes on."""
    for name, script, times in (
        ("once", (_say(680, AiHeard(ms=2_000)),), 1),
        ("twice", (_say(600, AiHeard(ms=2_000)), _say(600, AiHeard(ms=3_500))), 2),
        ("a word", (_say(300, AiHeard(ms=2_000)),), 1),
    ):
        yield Scenario(
            f"early pause: not reported, {name}",
            (*script, HangUp(AiSilent(ms=1_200))),
            (replace(_model(NEVER_MS), responses=(_model(NEVER_MS),)),),
            env=EARLY,
            interruptions=0,
            forced=(replace(_HESITATION, count=(times, times)),),
            also=_never_cancelled,
        )


def _protected() -> Iterator[Scenario]:
    """Words that nothing interrupts are not paused either."""
    yield Scenario(
        "early pause: the greeting is paused when its protection ends",
        (_say(1_500, AiHeard(ms=0)), BYE),
        (_model(NOTICES_MS),),
        env=EARLY,
        interruptions=1,
    )
    yield Scenario(
        "early pause: speech that ends inside the protection",
        (_say(200, AiHeard(ms=0)), BYE),
        (_model(NEVER_MS),),
        env=EARLY,
        interruptions=0,
        also=_never_cancelled,
    )
    yield Scenario(
        "early pause: over the recording notice",
        (_say(900, AiHeard(ms=300)), BYE),
        (_model(NEVER_MS),),
        env=EARLY,
        agent={"recording": "on", "recording_notice": "This call is recorded."},
        interruptions=0,
        also=_never_cancelled,
        virtual_only=True,
    )


def _losses() -> Iterator[Scenario]:
    """Whatever is lost in the pause, the line does not stay paused."""
    script: tuple[Step, ...] = (_say(680, AfterAnswer(ms=_IN_ANSWER_MS)), HangUp(AfterAnswer(ms=16_000)))
    long_greeting = Behaviour(answer_ms=12_000, detection_ms=NEVER_MS)
    gap = Expected("gap", count=(0, 2), amount=(5, 800))
    for name, happens, damage in (
        ("the model's session", lambda cell: cell.model.drop("CA1"), ()),
        ("the worker", lambda cell: cell.workers[0].kill(RESTART_MS), ()),
        ("txpacer", Cell.restart_pacer, ()),
        ("the media socket", _lose_socket, (_TWICE, Expected("warning", count=(0, 1)))),
    ):
        for after_ms in (150, 300, 560):
            yield Scenario(
                f"early pause: {name} is lost {after_ms} ms after the first sound",
                script,
                (long_greeting,),
                env=EARLY,
                forced=(gap, *damage),
                events=((_IN_ANSWER_MS + after_ms, happens),),
                also=_heard_on,
            )


# What the ear may have missed is repeated.
_TWICE: Final = Expected("damage", "twice", count=(0, 1), amount=(1, 900))


def _lose_socket(cell: Cell) -> None:
    socket = cell.phones["CA1"].socket
    if socket is not None:
        socket.abort()


def _heard_on(verdict: Verdict, _: Sessions) -> str:
    return "" if verdict.speech_ms > 9_000 else f"Only {verdict.speech_ms:.0f} ms were heard: the line stayed paused."


def _echoes() -> Iterator[Scenario]:
    """A speakerphone returns the AI's voice, and the model takes it for the caller's."""
    for delay_ms in (60, 200, 350):
        phone = Speakerphone(delay_ms=delay_ms, loss_db=12)
        # The judge hears the model report speech, and the AI go on.
        ignored = (
            Expected("leftover", count=(1, 4), amount=(2_000, 9_000)),
            Expected("unanswered", count=(0, 1)),
        )
        yield Scenario(
            f"echo: {delay_ms} ms, ignored",
            (Say(SHORT, AiSilent(ms=1_500)), BYE),
            (_model(NOTICES_MS),),
            env=EARLY | {"ECHO_GUARD": "on"},
            speakerphone=phone,
            forced=ignored,
            also=_uncut,
            virtual_only=True,
        )
        yield Scenario(
            f"echo: {delay_ms} ms, and the caller interrupts through it",
            (Say(SHORT, AiSilent(ms=1_500)), Say(LONG, AiHeard(ms=3_000)), BYE),
            (_model(NOTICES_MS),),
            env=EARLY | {"ECHO_GUARD": "on"},
            speakerphone=phone,
            forced=ignored,
            also=_cut_once,
            virtual_only=True,
        )


def _cut_once(_: Verdict, sessions: Sessions) -> str:
    cut = sum(item["truncated_ms"] is not None for session in sessions for item in session["items"])
    return "" if cut == 1 else f"{cut} items were cut; the caller interrupted one."


def early_scenarios() -> list[Scenario]:
    groups = (_confirmed, _unconfirmed, _protected, _losses, _echoes)
    return [scenario for group in groups for scenario in group()]
