"""What crosses cells with a call: tools in flight, an entry that is half typed, the recording, and the record."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aibridge.core.keypad import IN_WORDS
from proofs.tool_scenarios import unanswered
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiSilent, Caller, HangUp, Press, Say, Step
from simulator.carrier.client import Exchange
from simulator.carrier.rest import CarrierRest

from .acts import Report, during_call, is_moved
from .machines import CELLS, HOST, Fleet

ACCOUNT: Final = "AC" + 32 * "0"
# Of Twilio's REST API, on an address that only this fleet has.
REST_PORT: Final = 8088
# The model calls both tools in answer to the caller's word, some 5 s after the beginning. Each takes this long.
TOOL_S: Final = 6
# In each call, two keys come before its cell is lost, and the rest of the entry when the call is back.
KEYS: Final = {"4": 6_200, "2": 6_400, "7": 11_500, "#": 11_700}
LOST_S: Final = 7.0
HANGS_UP_MS: Final = 22_000
APART_S: Final = 0.1
# A cell that was cut off keeps its calls for ten seconds, and then writes how they ended.
SETTLED_S: Final = 60.0

AGENT: Final = f"""
instructions = "Use your tools."
greeting = "Hello."
default = true
[keypad]
timeout_seconds = {TOOL_S}
[tools]
python = ["desk.py"]
"""
TOOLS: Final = f'''
import time
from twentyms import tool


@tool(deadline_s=20)
def book() -> str:
    """Books a table."""
    time.sleep({TOOL_S})
    return "booked"


@tool(deadline_s=20, side_effect=False)
def look() -> str:
    """Looks at the weather."""
    time.sleep({TOOL_S})
    return "sunny"
'''
BEHAVIOUR: Final = {"answer_ms": 3_000, "responses": [{}, {"tool_call": "book look"}]}


def settings(directory: Path) -> dict[str, str]:
    """Of cells whose agent has the two tools, and which record their calls."""
    agents = directory / "agents"
    agents.mkdir()
    (agents / "desk.toml").write_text(AGENT)
    (agents / "desk.py").write_text(TOOLS)
    return {
        "AGENTS_DIR": str(agents),
        "RECORDING": "on",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_API_URL": f"http://{HOST}:{REST_PORT}",
    }


def carried(fleet: Fleet, count: int, times: int) -> Report:
    """The cell with the most calls is cut off while their tools run and half an entry is typed; all are recorded."""
    report = Report([], [])
    calls = lost = 0
    for _ in range(times):
        number, records, rest = asyncio.run(_calls(fleet, count))
        fleet.mend(number)
        fleet.wait_until_up(number)
        _wait_for_records(fleet)
        for call in records:
            calls += 1
            lost += is_moved(call)
            report.broken += faults(
                call,
                during_call(call, json.loads(fleet.sessions(call.call_sid))),
                _shown(fleet, call.call_sid),
                len(rest.of_call(call.call_sid)),
            )
    kept = calls - len({text.partition(":")[0] for text in report.broken})
    report.bound(f"calls {calls}, of the lost cells {lost}", lost > 0)
    report.lines.append(f"calls whose tools, keys, recording and record are whole: {kept} of {calls}")
    return report


async def _calls(fleet: Fleet, count: int) -> tuple[int, Sequence[CallRecord], CarrierRest]:
    """The cell that was cut off, the calls, and what Twilio's REST API knows of them."""
    keys = [Press(key, AfterAnswer(at_ms)) for key, at_ms in KEYS.items()]
    rest = CarrierRest(ACCOUNT, fleet.auth_token, host=HOST, port=REST_PORT)
    async with rest, Exchange() as exchange:

        async def one(seed: int) -> CallRecord:
            await asyncio.sleep(seed * APART_S)
            steps: list[Step] = [Say("hello", AiSilent(ms=300)), *keys, HangUp(AfterAnswer(HANGS_UP_MS))]
            return await exchange.place_call(
                fleet.dialled_url, fleet.auth_token, caller=Caller(steps, seed=seed, noise=True), limit_s=60
            )

        calling = [asyncio.create_task(one(seed)) for seed in range(count)]
        await asyncio.sleep(count * APART_S + LOST_S)
        number = await asyncio.to_thread(_busiest, fleet)
        await asyncio.to_thread(fleet.cut, number)
        return number, await asyncio.gather(*calling), rest


def _busiest(fleet: Fleet) -> int:
    return max(range(len(CELLS)), key=lambda number: fleet.metric(number, "gateway_calls{"))


def _wait_for_records(fleet: Fleet) -> None:
    """Until no cell has a call, and the database has all facts."""
    deadline = time.monotonic() + SETTLED_S
    while any(
        fleet.metric(number, series)
        for number in range(len(CELLS))
        for series in ("aibridge_calls{", "callbook_spool_bytes")
    ):
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


def _shown(fleet: Fleet, call_sid: str) -> dict[str, Any]:
    """What `twentyms calls CALL` shows."""
    done = subprocess.run(
        [sys.executable, "-m", "twentyms", "calls", "--json", call_sid],
        env={**os.environ, "DATABASE_URL": fleet.database_url},
        capture_output=True,
        text=True,
        check=True,
    )
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def faults(
    call: CallRecord, sessions: list[dict[str, Any]], shown: Mapping[str, Any], recordings: int
) -> Iterator[str]:
    """What was lost or done twice, in sentences that begin with the CallSid."""
    for text in (*_heard_by_model(sessions), *_written(call, shown)):
        yield f"{call.call_sid}: {text}"
    if call.outcome != "hung-up-by-caller":
        yield f"{call.call_sid}: the call ended: {call.outcome}"
    if recordings != 1:
        yield f"{call.call_sid}: Twilio has {recordings} recordings"


def _heard_by_model(sessions: list[dict[str, Any]]) -> Iterator[str]:
    told = [each["text"] for each in sessions[-1]["told"] if each["text"].startswith(IN_WORDS)]
    entry = f"{IN_WORDS}{''.join(KEYS)[:-1]})"
    if told != [entry]:
        yield f"the model was told of the keys {told}"
    if text := unanswered(sessions):
        yield text
    outputs = [each["output"] for each in sessions[-1]["functions"] if each["type"] == "function_call_output"]
    of_look = [each for each in outputs if "sunny" in each]
    if len(of_look) != 1 or len(outputs) != 2:
        yield f"the model was told of the tools {outputs}"


def _written(call: CallRecord, shown: Mapping[str, Any]) -> Iterator[str]:
    cells = [stream["cell"] for stream in shown["streams"]]
    if len(cells) != len(call.streams) or len(set(cells)) != len(cells):
        yield f"its media streams are written down in {cells}"
    tools = Counter((turn["tool"], turn["outcome"]) for turn in shown["turns"] if turn["role"] == "tool")
    outcome = "unknown" if is_moved(call) else "done"
    if tools != {("book", outcome): 1, ("look", "done"): 1}:
        yield f"its tools are written down as {dict(tools)}"
    keys = [turn["text"] for turn in shown["turns"] if turn["role"] == "keys"]
    if keys != ["".join(KEYS)[:-1]]:
        yield f"its keys are written down as {keys}"
    if shown["ended_at"] is None or shown["end_reason"] != "stop":
        yield f"its end is written down as {shown['end_reason'] or 'none'}"
    recording = shown["recording"]
    if recording is None or recording["state"] != "started":
        yield f"its recording is written down as {recording}"
