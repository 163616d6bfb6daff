"""Tools whose side effects are counted: for each call of one, how often it was carried out and what the model was told.

The simulated model names each call by an argument, `once`; the tool writes it down when it is carried out. So both ends
can be compared without asking the system under test. Pure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from simulator.model.behaviour import Behaviour

TOOL: Final = "count"
DEADLINE_S: Final = 3.0
# The tool's work, half of it before the effect and half after it: long enough for a kill to hit both.
WORK_S: Final = 0.4
AGENT: Final = f"""instructions = "Count."
greeting = "Hello."
[tools]
python = ["{TOOL}.py"]
"""
SOURCE: Final = f'''
import os, time
from twentyms import tool

@tool(deadline_s={DEADLINE_S})
def {TOOL}(once: str) -> str:
    """Count."""
    time.sleep({WORK_S / 2})
    file = os.open(os.environ["DATA_DIR"] + "/effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{{once}}\\n".encode())
    os.close(file)
    time.sleep({WORK_S / 2})
    return "counted " + once
'''
# Calls of the tool in one session, at most: more than a caller of half a minute waits for.
CALLS: Final = 12
# What the answers say of the effect, by a part of their words.
_DONE: Final = "counted "
_NOT_DONE: Final = ("not carried out", "was not done")
_PERHAPS: Final = ("not known whether", "took too long")
# A call is answered within its deadline, and what toolbox and the worker wait beyond it.
ANSWERED_NS: Final = int((DEADLINE_S + 2) * 1e9)
# A worker or a session that dies within this time after the model's call may not have passed it on.
UNREAD_NS: Final = 500_000_000

# Later than everything.
_NEVER_NS: Final = 1 << 63


def behaviour(model: Behaviour) -> Behaviour:
    """This model, calling the tool in every other one of its first responses, after a few words."""
    calls = replace(model, tool_call=TOOL, tool_arguments='{"once": "$call_id"}', preamble=True)
    return replace(model, responses=(model, *(CALLS * (calls, model))))


@dataclass
class Counted:
    """One call of the tool: when the model made it, and what the sessions were told, in order."""

    at_ns: int
    closed_ns: int
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Doubt:
    """A call whose effect is not known, or that was not made: an act must explain it, from `at_ns` to `until_ns`."""

    at_ns: int
    until_ns: int
    text: str


def counted(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Counted]:
    """The calls of the tool by their name, in all sessions of a phone call."""
    found: dict[str, Counted] = {}
    for session in sessions:
        closed_ns = session["closed_ns"] or _NEVER_NS
        made_ns = {
            each["item_id"]: each["at_ns"]
            for each in session.get("events", ())
            if each["type"] == "response.function_call_arguments.done"
        }
        names: dict[str, str] = {}
        functions = session.get("functions", ())
        for each in functions:
            if each["type"] == "function_call" and each["name"] == TOOL and each["status"] == "completed":
                name = names[each["call_id"]] = json.loads(each["arguments"])["once"]
                at_ns = made_ns.get(each["item_id"])
                if at_ns is not None and at_ns <= closed_ns:
                    found[name] = Counted(at_ns, closed_ns)
        for each in functions:
            if each["type"] == "function_call_output" and (call := found.get(names.get(each["call_id"], ""))):
                call.answers.append(each["output"])
    return found


def problems(sessions: Sequence[Mapping[str, Any]], effects: Mapping[str, int], ended_ns: int) -> Iterator[str | Doubt]:
    """What is wrong with the calls of a phone call that ended at `ended_ns`: for good, or unless an act explains it."""
    for session in sessions:
        outputs = (each for each in session.get("functions", ()) if each["type"] == "function_call_output")
        answered = Counter(each["call_id"] for each in outputs)
        if any(times > 1 for times in answered.values()):
            yield "a session was told the answer of a tool twice"
    for name, call in counted(sessions).items():
        times = effects.get(name, 0)
        if times > 1:
            yield f"{name} was carried out {times} times"
        until_ns = call.at_ns + ANSWERED_NS
        *before, last = dict.fromkeys(call.answers) or [""]
        if all(any(part in each for part in _PERHAPS) for each in before):
            for _ in before:  # by a worker that was stopped, to the session that its successor has replaced
                yield Doubt(call.at_ns, until_ns, f"a session that was given up was told that {name} took too long")
        else:
            yield f"{name} was answered in {1 + len(before)} ways"
        if not call.answers:
            if call.closed_ns - call.at_ns <= UNREAD_NS and not times:
                yield Doubt(call.at_ns, call.closed_ns, f"{name} died with its session")
            elif ended_ns > until_ns:
                yield f"{name} was never answered, and carried out {times} times"
        elif _DONE in last:
            if times != 1:
                yield f"{name} is said to be done, and was carried out {times} times"
        elif any(part in last for part in _NOT_DONE):
            if times:
                yield f"{name} is said not to be carried out, and it was"
            if "interrupted" not in last:
                yield Doubt(call.at_ns, until_ns, f"{name} was not carried out")
        elif any(part in last for part in _PERHAPS):
            yield Doubt(call.at_ns, until_ns, f"whether {name} was carried out is not known")
        else:
            yield f"{name} got an answer that says nothing of its effect: {last[:80]}"
