"""Scenarios of tools: every order of the answer, the caller, the end of the response, and lost sessions and workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from aibridge.core.tools import ToolRule
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, HangUp, Say
from simulator.model.behaviour import Behaviour

from .cell.cell import Cell
from .cell.clock import MS
from .cell.toolbox import VirtualTool
from .scenario import Expected, Scenario, Sessions
from .verdict import ALREADY_ACTIVE, Verdict

SHORT: Final = "hello"


def _rule(*, ends_at_speech: bool = False, filler_ms: int = 0, deadline_ms: int = 8_000) -> ToolRule:
    return ToolRule(deadline_ms * MS, ends_at_speech, filler_ms * MS)


def answered_once(_: Verdict, sessions: Sessions) -> str:
    """Each call of a tool got one answer in its own session or, after a loss, in the next one."""
    return unanswered(sessions)


def unanswered(sessions: Sessions) -> str:
    """What contradicts `answered_once`."""
    calls = 0
    for session in sessions:
        functions = session["functions"]
        known = {each["call_id"] for each in functions if each["type"] == "function_call" and is_whole(each)}
        answers = Counter(each["call_id"] for each in functions if each["type"] == "function_call_output")
        calls += len(known)
        if any(count > 1 for count in answers.values()):
            return "A call of a tool was answered twice."
        if set(answers) - known:
            return "A call that the session does not know was answered."
        if session is sessions[-1] and known - set(answers):
            return f"{len(known - set(answers))} calls of tools were never answered."
        if any(each["code"] == ALREADY_ACTIVE for each in session["errors"]):
            return "A response was requested while another one was made."
    return "" if calls else "No tool was called; the scenario shows nothing."


def _spoken_about_once(verdict: Verdict, sessions: Sessions) -> str:
    """The model's server carried one tool out, and the model was asked for the greeting and for words about that."""
    (session,) = sessions
    calls = [each["type"] for each in session["functions"]]
    asked = sum((each["dir"], each["type"]) == ("in", "response.create") for each in session["events"])
    return "" if (calls, asked) == (["mcp_call"], 2) else f"{calls} were called, and {asked} responses requested."


def is_whole(call: dict[str, Any]) -> bool:
    return bool(call["status"] == "completed")


def _calls(names: str, *, preamble: bool = False) -> tuple[Behaviour, ...]:
    """The greeting, then a response that calls tools, then answers."""
    return (Behaviour(responses=(Behaviour(), Behaviour(tool_call=names, preamble=preamble))),)


def _later(ms: float) -> Expected:
    """The answer to the caller waits for the tool; a hop to each side and the model's own time come on top."""
    return Expected("late answer", count=(0, 2), amount=(0, ms + 500))


# A tool that takes this long is answered after the caller has begun to speak again.
SECOND_TURN_MS: Final = 2_000
# The caller speaks again before the tool is answered: the answer to the second turn is the answer to both.
_ANSWERED_TOGETHER: Final = Expected("unanswered", count=(0, 1))


def tool_scenarios() -> Iterator[Scenario]:
    ask = Say(SHORT, AiSilent(ms=400))
    for after_ms in (5, 200, 320, 1_000, 3_000):
        for preamble in (False, True):
            yield Scenario(
                f"tool: answers after {after_ms} ms{', after a preamble' if preamble else ''}",
                (ask, HangUp(AfterAnswer(ms=22_000))),
                _calls("look", preamble=preamble),
                tools={"look": VirtualTool(after_ms, _rule())},
                forced=(_later(after_ms),),
                also=answered_once,
            )
    # The answer meets the caller's speech, its end, and the beginning of the response to it.
    for after_ms in (800, 1_400, 2_000, 2_600, 3_200, 3_800, 4_400, 5_000, 5_600):
        for ends in (False, True):
            yield Scenario(
                f"tool: the caller speaks, the answer comes after {after_ms} ms{', the tool ends' if ends else ''}",
                (ask, Say(SHORT, AfterAnswer(ms=9_500)), HangUp(AfterAnswer(ms=26_000))),
                _calls("look"),
                tools={"look": VirtualTool(after_ms, _rule(ends_at_speech=ends))},
                forced=(_later(after_ms), *([_ANSWERED_TOGETHER] if after_ms >= SECOND_TURN_MS else [])),
                also=answered_once,
            )
    yield Scenario(
        "tool: two at once, a slow one and a quick one",
        (ask, HangUp(AfterAnswer(ms=24_000))),
        _calls("look book"),
        tools={"look": VirtualTool(100, _rule()), "book": VirtualTool(2_500, _rule())},
        forced=(_later(2_500),),
        also=answered_once,
    )
    for preamble in (False, True):
        yield Scenario(
            f"tool: carried out by the model's server{', after a preamble' if preamble else ''}",
            (ask, HangUp(AfterAnswer(ms=22_000))),
            _calls("notes.find", preamble=preamble),
            agent={"mcp": [{"name": "notes", "url": "https://notes.example.com/mcp", "only": ["find"]}]},
            forced=(_later(300),),
            also=_spoken_about_once,
        )
    yield Scenario(
        "tool: never answers",
        (ask, HangUp(AfterAnswer(ms=28_000))),
        _calls("look"),
        tools={"look": VirtualTool(None, _rule(deadline_ms=2_000))},
        forced=(_later(3_000),),
        also=answered_once,
    )
    yield Scenario(
        "tool: slow, with a filler",
        (ask, HangUp(AfterAnswer(ms=28_000))),
        _calls("look"),
        tools={"look": VirtualTool(4_000, _rule(filler_ms=1_500))},
        forced=(_later(1_500),),
        also=answered_once,
    )
    yield Scenario(
        "tool: slow, the filler is interrupted",
        (ask, Say(SHORT, AiHeard(ms=600)), HangUp(AfterAnswer(ms=30_000))),
        _calls("look"),
        tools={"look": VirtualTool(6_000, _rule(filler_ms=1_000))},
        forced=(_later(1_000),),
        also=answered_once,
    )
    for at_ms in (8_000, 9_000, 10_000):
        for name, happens, lost_ms in (("session", lose_session, 200), ("worker", lose_worker, 3_000)):
            yield Scenario(
                f"tool: runs while the {name} is lost at {at_ms} ms",
                (ask, HangUp(AfterAnswer(ms=30_000))),
                _calls("look"),
                tools={"look": VirtualTool(2_500, _rule())},
                forced=(_later(2_500 + lost_ms),),
                events=((at_ms, happens),),
                also=answered_once,
            )


def lose_session(cell: Cell) -> None:
    cell.model.drop("CA1")


def lose_worker(cell: Cell) -> None:
    cell.workers[0].kill(1_500)
