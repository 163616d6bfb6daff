"""Scenarios of the caller's keys: before, in and after an answer, in a greeting, during a tool, and across losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from aibridge.core.keypad import IN_WORDS
from aibridge.core.tools import ToolRule
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, HangUp, Press, Say, Step, Trigger, Wait
from simulator.model.behaviour import Behaviour

from .cell.cell import Cell
from .cell.clock import MS
from .cell.toolbox import VirtualTool
from .scenario import Expected, Scenario, Sessions
from .verdict import ALREADY_ACTIVE, Verdict

SHORT: Final = "hello"
BYE: Final = HangUp(AiSilent(ms=4_000))
LONG: Final = Behaviour(answer_ms=9_000)
# Nothing is asked of the model while keys come in, so an answer to speech before them waits for the end of the entry.
_AFTER_THE_ENTRY: Final = Expected("late answer", count=(0, 1), amount=(0, 1_500))
# What each loss forces: a key that nobody reads stops nothing; the ear of a lost socket is known to some frames.
_FORCED: Final[dict[str, tuple[Expected, ...]]] = {
    "session": (),
    "worker": (Expected("leftover", count=(0, 1), amount=(0, 1_600)),),
    "media socket": (
        Expected("warning", "31921"),
        Expected("gap", count=(0, 1), amount=(0, 20)),
        Expected("damage", "twice", count=(0, 1), amount=(0, 480)),
        Expected("history", count=(0, 1), amount=(0, 60)),
    ),
}


def press(keys: str, when: Trigger, pause_ms: int = 200) -> list[Step]:
    return [Press(keys[0], when), *(Press(key, Wait(ms=pause_ms)) for key in keys[1:])]


def told_once(*entries: str) -> Callable[[Verdict, Sessions], str]:
    """The model of the last session was told these entries, in order and once each, and answered after the last."""

    def check(_: Verdict, sessions: Sessions) -> str:
        for session in sessions:
            if any(each["code"] == ALREADY_ACTIVE for each in session["errors"]):
                return "A response was requested while another one was made."
        told = [each for each in sessions[-1]["told"] if each["text"].startswith(IN_WORDS)]
        texts = [each["text"][len(IN_WORDS) : -1] for each in told]
        if texts != list(entries):
            return f"The model was told the entries {texts}; it should know {list(entries)}."
        events = [each for each in sessions[-1]["events"] if each["dir"] == "out"]
        added = [n for n, each in enumerate(events) if told and each.get("item_id") == told[-1]["item_id"]]
        if not any(each["type"] == "response.created" for each in events[added[0] :]):
            return "The model was asked for no answer to the last entry."
        return ""

    return check


def key_scenarios() -> Iterator[Scenario]:
    ask = Say(SHORT, AiSilent(ms=400))
    yield from _gathered()
    for interrupts in (False, True):
        agent = {"keypad": {"interrupts": interrupts}}
        how = "interrupt" if interrupts else "are heard over"
        for at_ms in (40, 900, 1_300, 2_500):
            yield Scenario(
                f"keys: after {at_ms} ms, they {how} the greeting",
                (*press("12#", AfterAnswer(ms=at_ms)), BYE),
                agent=agent,
                also=told_once("12"),
                virtual_only=True,
            )
        # The entry meets the end of the turn, the model's own response, and its end.
        for after_ms in (0, 300, 600, 900, 1_500):
            yield Scenario(
                f"keys: {after_ms} ms after speech, they {how} the answer",
                (ask, *press("5#", Wait(ms=after_ms), 20), BYE),
                agent=agent,
                forced=(_AFTER_THE_ENTRY,),
                also=told_once("5"),
                virtual_only=True,
            )
        yield Scenario(
            f"keys: they {how} a long answer",
            (ask, *press("123#", AiHeard(ms=1_500)), BYE),
            (LONG,),
            agent=agent,
            also=told_once("123"),
            virtual_only=True,
        )
        yield Scenario(
            f"keys: they {how} an answer, and the caller speaks, too",
            (ask, *press("1", AiHeard(ms=1_000)), Say(SHORT, Wait(ms=300)), *press("2#", Wait(ms=100)), BYE),
            (LONG,),
            agent=agent,
            also=told_once("12"),
            virtual_only=True,
        )
        yield from _with_a_tool(agent, how)
        yield from _across_losses(agent, how)


def _gathered() -> Iterator[Scenario]:
    at_rest = AiSilent(ms=500)
    for name, keypad, steps, entries in (
        ("a time-out", {}, press("123", at_rest), ("123",)),
        ("a terminator", {}, press("123#4#", at_rest), ("123", "4")),
        ("its length", {"length": 2}, press("1234", at_rest), ("12", "34")),
        (
            "a time-out, twice",
            {"timeout_seconds": 0.5},
            [*press("12", at_rest), *press("3", Wait(ms=900))],
            ("12", "3"),
        ),
        ("a key at once", {"length": 1, "interrupts": True}, press("12", at_rest, 1_500), ("1", "2")),
        ("a terminator, and it is secret", {"secret": True}, press("4071#", at_rest), ("4 secret keys",)),
    ):
        yield Scenario(
            f"keys: an entry ends with {name}",
            (*steps, BYE),
            agent={"keypad": keypad},
            also=told_once(*entries),
            virtual_only=True,
        )


def _with_a_tool(agent: dict[str, Any], how: str) -> Iterator[Scenario]:
    calls = (Behaviour(responses=(Behaviour(), Behaviour(tool_call="look"))),)
    for ends in (False, True):
        for after_ms in (300, 1_500, 2_500):
            yield Scenario(
                f"keys: they {how} a tool of {after_ms} ms{', which ends' if ends else ''}",
                (Say(SHORT, AiSilent(ms=400)), *press("12#", Wait(ms=1_200)), HangUp(AfterAnswer(ms=20_000))),
                calls,
                tools={"look": VirtualTool(after_ms, ToolRule(8_000 * MS, ends))},
                agent=agent,
                forced=(_AFTER_THE_ENTRY,),
                also=told_once("12"),
                virtual_only=True,
            )


def _across_losses(agent: dict[str, Any], how: str) -> Iterator[Scenario]:
    for name, happens in (("session", _lose_session), ("worker", _lose_worker), ("media socket", _lose_socket)):
        for at_ms in (7_900, 8_300, 9_200):
            yield Scenario(
                f"keys: they {how} an answer while the {name} is lost at {at_ms} ms",
                (
                    Say(SHORT, AfterAnswer(ms=5_000)),
                    *press("1234#", AfterAnswer(ms=8_000)),
                    HangUp(AfterAnswer(ms=25_000)),
                ),
                (LONG,),
                agent=agent,
                forced=_FORCED[name],
                events=((at_ms, happens),),
                also=told_once("1234"),
            )


def _lose_session(cell: Cell) -> None:
    cell.model.drop("CA1")


def _lose_worker(cell: Cell) -> None:
    cell.workers[0].kill(1_500)


def _lose_socket(cell: Cell) -> None:
    socket = cell.phones["CA1"].socket
    assert socket is not None  # the call goes on until 30 s
    socket.abort()
