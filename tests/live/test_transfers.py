"""Callers who are connected to a person: whoever is busy, does not answer or hangs up, nobody is left in silence."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from simulator.carrier.dial import Callee
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]

DESK, OURS = "+15550123", "+15550100"
# By what the person does, the outcome of each attempt to reach them.
PEOPLE = {
    "answers": (Callee("answers", after_s=1, talks_s=2), ["completed"]),
    "is busy": (Callee("busy", after_s=1), ["busy"]),
    "does not answer": (Callee("no-answer"), ["no-answer"]),
    "has no telephone": (Callee("failed"), ["failed", "failed"]),
    "takes no calls with others' numbers": (Callee(refuses_callers_number=True), ["failed", "completed"]),
    "is too slow for the caller": (Callee(after_s=4, caller_leaves_s=2), ["canceled"]),
    "outlives the caller": (Callee(after_s=1, talks_s=60, caller_leaves_s=3), ["completed"]),
}
# From the end of a leg until the caller hears the agent again.
SILENCE_MAX_S = 2.0


def write(directory: Path) -> None:
    directory.mkdir()
    (directory / "office.toml").write_text(
        'instructions = "Connect people."\ngreeting = "Hello."\ndefault = true\n[transfer.desk]\n'
        f'to = "{DESK}"\ndescription = "A person."\ntimeout_s = 5\n'
    )


def kept(stack: Stack, call_sid: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(get(int(stack.env["METRICS_PORT"]), f"/api/calls/{call_sid}")[1])
    return told


def settled(stack: Stack, call_sid: str) -> dict[str, Any]:
    """The call's record when callbook has all of it."""
    for _ in range(50):
        record = kept(stack, call_sid)
        if record["ended_at"] and all(dial["ended_at"] for dial in record["dials"]):
            break
        time.sleep(0.1)
    return record


def test_a_transfer_ends_with_two_people_who_speak_or_with_the_agent_and_leaves_no_leg(tmp_path: Path) -> None:
    write(tmp_path / "agents")
    transfer = {"tool_call": "transfer_call", "tool_arguments": '{"destination": "desk"}', "preamble": True}
    behaviour = tmp_path / "behaviour.json"
    behaviour.write_text(json.dumps({"responses": [{}, transfer]}))
    env = {"AGENTS_DIR": str(tmp_path / "agents")}
    with Stack(log=tmp_path / "log", env=env, model=("--behaviour", str(behaviour))) as stack:

        async def calls() -> list[CallRecord]:
            async with Exchange() as exchange:

                async def one(number: int, person: Callee) -> CallRecord:
                    await asyncio.sleep(number * 0.2)
                    script = [Say("hello", AiSilent(ms=300)), HangUp(AiHeard(ms=2_000, talkspurt=3))]
                    return await exchange.place_call(
                        stack.webhook_url,
                        stack.auth_token,
                        caller=Caller(script, seed=number, noise=True),
                        from_number=f"+1555020{number}",
                        to_number=OURS,
                        callees={DESK: person},
                    )

                people = [person for person, _ in PEOPLE.values()]
                return list(await asyncio.gather(*(one(number, person) for number, person in enumerate(people))))

        records = asyncio.run(calls())
        for (name, (person, outcomes)), record in zip(PEOPLE.items(), records, strict=True):
            assert [leg.status for leg in record.legs] == outcomes, name
            assert all(leg.ended_ns for leg in record.legs), f"{name}: a leg is left"
            assert [leg.caller_id for leg in record.legs][1:] == [OURS] * (len(outcomes) - 1), name
            assert record.outcome == "hung-up-by-caller", name
            told = settled(stack, record.call_sid)
            assert [dial["outcome"] for dial in told["dials"]] == outcomes, name
            assert {dial["to"] for dial in told["dials"]} == {DESK}, name
            has_left = person.caller_leaves_s is not None
            assert [dial["caller_left"] for dial in told["dials"]] == [False] * (len(outcomes) - 1) + [has_left], name
            if has_left:
                assert len(record.streams) == 1, f"{name}: the agent speaks to nobody"
                continue
            first, again = stack.sessions(record.call_sid)
            back_ns = record.legs[-1].ended_ns
            heard_ns = next(at_ns for at_ns in record.ear.play_start_ns if at_ns > back_ns)
            print(f"{name}: the agent is heard {(heard_ns - back_ns) / 1e6:.0f} ms after the leg")
            assert heard_ns - back_ns < SILENCE_MAX_S * 1e9, name
            assert [*first["errors"], *again["errors"]] == [], name
            (answer,) = [each["output"] for each in again["functions"] if each["type"] == "function_call_output"]
            assert "the caller is back with you now" in answer, name
