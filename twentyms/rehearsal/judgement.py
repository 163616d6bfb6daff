"""What was wrong with a rehearsed call. Pure: it compares the scenario with the caller's side and with the records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.audio import BYTE_NS
from simulator.carrier.call import STREAM_CLOSED, CallRecord

from ..heard import gaps_ms, runs
from .scenario import Expect, ExpectedTool, Scenario

_ENDED_BY: Final = {"hung-up-by-caller": "caller", "hung-up-by-server": "agent"}


@dataclass(frozen=True)
class ToolUse:
    """A call of a tool as the records tell it. `outcome` "": it did not answer."""

    name: str
    arguments: dict[str, Any]
    outcome: str
    answer: str


@dataclass
class Rehearsed:
    """One call of a scenario. `record` is what `twentyms calls --json` prints of it; {}: there is none."""

    scenario: Scenario
    call: CallRecord
    record: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    @property
    def ended_by(self) -> str:
        """ "caller", "agent", or how else the call ended."""
        return _ENDED_BY.get(self.call.outcome, self.call.outcome)

    @property
    def turns(self) -> Sequence[dict[str, Any]]:
        return [turn for turn in self.record.get("turns", ()) if turn["role"] != "tool"]

    @property
    def heard(self) -> str:
        """All words of the AI that the caller heard."""
        return " ".join(turn["heard_text"] for turn in self.turns if turn["role"] == "ai")

    @property
    def tools(self) -> list[ToolUse]:
        return [
            ToolUse(turn["tool"], _arguments(turn["arguments"]), turn["outcome"], turn["text"])
            for turn in self.record.get("turns", ())
            if turn["role"] == "tool"
        ]

    @property
    def answers_ms(self) -> list[float]:
        """From the caller's last sound to the AI's first, for each time that the caller spoke into silence."""
        spoken = list(runs(self.call))
        found = []
        for said in self.call.said:
            ended_ns = said.at_ns + len(said.audio) * BYTE_NS
            if any(run.began_ns < ended_ns < run.ended_ns for run in spoken):
                continue
            after = [run.began_ns for run in spoken if run.began_ns >= ended_ns]
            if after:
                found.append((after[0] - ended_ns) / 1e6)
        return found

    @property
    def gaps_ms(self) -> list[float]:
        return gaps_ms(self.call)

    @property
    def transcript(self) -> str:
        """What both sides said, as far as it was heard, and the tools; one line each."""
        lines = []
        for turn in self.record.get("turns", ()):
            if turn["role"] == "tool":
                lines.append(f"tool {turn['tool']} {turn['arguments']}: {turn['text']}")
            else:
                cut = " [interrupted]" if turn["interrupted"] else ""
                lines.append(f"{turn['role']}: {turn['heard_text'] or '(not written down)'}{cut}")
        return "\n".join(lines)


def judged(rehearsed: Rehearsed) -> Iterator[str]:
    """What the scenario expects and the call did not do, one line each."""
    expect = rehearsed.scenario.expect
    if not rehearsed.call.started_ns:
        yield f"the call was not answered ({rehearsed.call.outcome or 'no media stream'}); look at the processes' log"
        return
    if not rehearsed.record:
        yield "the call has no record; look at the processes' log"
        return
    yield from _of_sound(rehearsed, expect)
    yield from _of_words(rehearsed, expect)
    tools = rehearsed.tools
    for each in expect.tool:
        yield from _of_tool(each, tools)
    if expect.ended_by and rehearsed.ended_by != expect.ended_by:
        yield f"ended by {rehearsed.ended_by}, not by the {expect.ended_by}"
    elif rehearsed.ended_by not in ("caller", "agent"):
        yield f"the call ended with {rehearsed.ended_by}"
    if expect.agent and rehearsed.record["agent"] != expect.agent:
        yield f"the agent was {rehearsed.record['agent']}, not {expect.agent}"


def _of_sound(rehearsed: Rehearsed, expect: Expect) -> Iterator[str]:
    gap_ms = sum(rehearsed.gaps_ms)
    if gap_ms > expect.gaps_ms_at_most:
        yield f"{gap_ms:.0f} ms of gaps at the ear, {expect.gaps_ms_at_most} at most were expected"
    slowest_ms = max(rehearsed.answers_ms, default=0.0)
    if expect.answered_within_ms is not None and slowest_ms > expect.answered_within_ms:
        yield f"answered after {slowest_ms:.0f} ms, within {expect.answered_within_ms} ms was expected"
    interruptions = len(rehearsed.record["interruptions"])
    if expect.interruptions_at_most is not None and interruptions > expect.interruptions_at_most:
        yield f"{interruptions} interruptions, {expect.interruptions_at_most} at most were expected"
    for warning in rehearsed.call.warnings:
        # Twilio notes it whenever the server ends a call.
        if warning.code == STREAM_CLOSED and rehearsed.ended_by == "agent":
            continue
        yield f"{warning.text} (as Twilio's debugger would say, {warning.code})"


def _of_words(rehearsed: Rehearsed, expect: Expect) -> Iterator[str]:
    heard = _plain(rehearsed.heard)
    for words in expect.heard:
        if _plain(words) not in heard:
            yield f'"{words}" was not heard'
    for words in expect.not_heard:
        if _plain(words) in heard:
            yield f'"{words}" was heard'


def _of_tool(expected: ExpectedTool, tools: Sequence[ToolUse]) -> Iterator[str]:
    named = [each for each in tools if each.name == expected.name]
    fitting = [each for each in named if expected.arguments.items() <= each.arguments.items()] if named else []
    right = [each for each in fitting if each.outcome == expected.outcome]
    if len(right) == expected.times:
        return
    wanted = f"{expected.name}({json.dumps(expected.arguments)})" if expected.arguments else expected.name
    if len(right) > expected.times or (fitting and len(fitting) == len(right)):
        yield f"{wanted} was called {len(right)} times, not {expected.times}"
    elif fitting:
        was = fitting[0].outcome or "no answer"
        yield f'{wanted} ended with "{was}", not "{expected.outcome}": {fitting[0].answer}'
    elif named:
        yield f"{wanted} was called with {json.dumps(named[0].arguments)}"
    else:
        yield f"{wanted} was not called"


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {"": text}
    return found if isinstance(found, dict) else {"": found}


def _plain(words: str) -> str:
    return " ".join(words.casefold().split())
