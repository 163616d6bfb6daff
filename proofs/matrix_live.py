"""The scenarios of turn taking through real processes, and two promises under load.

`python -m proofs.matrix_live interruptions` carries 50 calls at once, each interrupted three times at random;
`python -m proofs.matrix_live losses` drops the model's socket in mid-sentence in 10 calls at once. Both print what
was measured and exit 1 when a promise is broken. (`proofs.matrix --live` carries the matrix.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from shared.process import run
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, Caller, HangUp, Say, Step
from simulator.carrier.client import Exchange, sid
from simulator.model.behaviour import Behaviour, Behaviours
from simulator.model.server import ModelServer
from simulator.voice import VOICES
from twentyms.stack import Stack

from .judge import judge
from .matrix_rows import Row, row
from .retold import forgotten
from .scenario import Expected, Scenario, Sessions
from .spoken import listen, read_sessions
from .verdict import LAG_LIMIT_MS

# Calls of the matrix at once: model and carrier share one process here, and must not be what is measured.
AT_ONCE: Final = 6
# A call with a late carrier measures the machine, not the system: it is repeated.
TRIES: Final = 3
LOG: Final = Path("out/matrix/processes.log")
# The cost of a loss. The dying socket does not deliver what the server has just written: 100 ms of an answer that is
# made at twice real time. The history of that session is not corrected.
LOST: Final = (
    Expected("cut", count=(0, 1), amount=(0, 200)),
    Expected("history", count=(0, 1), amount=(0, 200)),
)


# It logs a line for each connection of the model.
logging.getLogger("websockets.server").setLevel(logging.WARNING)


def live(scenarios: Sequence[Scenario], *, tolerance_ms: int) -> list[Row]:
    """Carry every scenario once; those of equal settings through the same processes."""
    groups: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in scenarios:
        groups[json.dumps([scenario.env, scenario.agent], sort_keys=True)].append(scenario)
    rows: dict[str, Row] = {}
    for number, group in enumerate(groups.values(), 1):
        print(f"settings {number} of {len(groups)}: {len(group)} calls ...", flush=True)
        for each in uvloop.run(_group(group, tolerance_ms)):
            rows[each.name] = each
    return [rows[scenario.name] for scenario in scenarios]


@asynccontextmanager
async def _running(
    behaviours: Behaviours, env: Mapping[str, str]
) -> AsyncIterator[tuple[ModelServer, Exchange, Stack]]:
    """A cell, its model in this process, and the carrier of its calls."""
    async with ModelServer(behaviour_for=behaviours, keeps_input=True) as model, Exchange() as exchange:
        stack = Stack(env={**env, "OPENAI_BASE_URL": f"http://127.0.0.1:{model.port}/v1"}, log=LOG)
        await asyncio.to_thread(stack.__enter__)
        try:
            yield model, exchange, stack
        finally:
            await asyncio.to_thread(stack.stop)


async def _group(group: Sequence[Scenario], tolerance_ms: int) -> list[Row]:
    behaviours = Behaviours()
    slots = asyncio.Semaphore(AT_ONCE)
    with tempfile.TemporaryDirectory() as directory:
        env = dict(group[0].env)
        if group[0].agent:
            env["AGENT_FILE"] = str(_agent_file(Path(directory), group[0].agent))
        async with _running(behaviours, env) as (model, exchange, stack):

            async def carry(scenario: Scenario, seed: int) -> Row:
                async with slots:
                    for _ in range(TRIES):
                        call_sid = sid("CA")
                        behaviours.expect(call_sid, scenario.behaviours)
                        caller = Caller(scenario.script, seed=seed, noise=True, speakerphone=scenario.speakerphone)
                        record = await _place(exchange, stack, call_sid, caller)
                        # All sockets of a call are closed 3 s after it; here they have one.
                        await asyncio.sleep(1)
                        found = row(scenario, record, model.records(call_sid), tolerance_ms=tolerance_ms)
                        if not found.problems or found.verdict.lag_max_ms <= LAG_LIMIT_MS:
                            break
                    return found

            return await asyncio.gather(*(carry(each, seed) for seed, each in enumerate(group, 1)))


def _agent_file(directory: Path, fields: Mapping[str, Any]) -> Path:
    """An agent's file with these fields; JSON's strings and numbers are TOML's, too."""
    path = directory / "agent.toml"
    lines = ['instructions = "You are friendly."', 'greeting = "Hello."', 'transcription_model = "gpt-transcribe"']
    lines = [line for line in lines if line.split(" ")[0] not in fields]
    path.write_text("\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in fields.items())]))
    if "greeting_file" in fields:
        shutil.copy(VOICES / "demo-congrats.wav", directory / fields["greeting_file"])
    return path


async def _place(exchange: Exchange, stack: Stack, call_sid: str, caller: Caller) -> CallRecord:
    return await exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller, call_sid=call_sid, limit_s=120)


# --- promises under load ---


def interruptions(calls: int, *, early: bool = False) -> list[str]:
    """`calls` calls at once, each interrupted three times at random moments of a 9 s answer."""
    script: tuple[Step, ...] = (
        Say("hello", AiSilent(ms=400)),
        *(Say("vm-sorry", AiHeard(ms=200, upto_ms=7_000)) for _ in range(3)),
        HangUp(AiSilent(ms=1_200)),
    )
    with tempfile.TemporaryDirectory() as directory:
        behaviour = Path(directory) / "behaviour.json"
        behaviour.write_text('{"answer_ms": 9000, "preamble": true}')
        env = {"MAX_CALLS": "500", "MAX_CALLS_PER_SOURCE": "500", "BARGE_IN_EARLY": "on" if early else "off"}
        with Stack(env=env, model=("--behaviour", str(behaviour), "--keep-input"), log=LOG) as stack:
            records = uvloop.run(_together(stack, [Caller(script, seed=seed, noise=True) for seed in range(calls)]))
            sessions = {record.call_sid: stack.sessions(record.call_sid) for record in records}
    verdicts = [judge(record, sessions[record.call_sid]) for record in records]
    problems = [f"call {n}: {text}" for n, each in enumerate(verdicts) for text in each.problems()]
    silences = sorted(i.silence_ms for each in verdicts for i in each.interruptions if i.effective_ns is not None)
    if len(silences) < 3 * calls:
        problems.append(f"only {len(silences)} interruptions happened")
    if not silences:
        return problems
    p50, p99 = silences[len(silences) // 2], silences[min(len(silences) - 1, len(silences) * 99 // 100)]
    print(f"{calls} calls, {len(silences)} interruptions: silent after {p50:.0f} ms (p50), {p99:.0f} ms (p99), "
          f"{silences[-1]:.0f} ms (max)")  # fmt: skip
    print(f"leftovers beyond 170 ms: {sum(each.leftover_ms(170) for each in verdicts):.0f} ms; "
          f"history error {max(each.history_error_ms for each in verdicts)} ms; "
          f"unanswered {sum(each.unanswered for each in verdicts)}; "
          f"gaps {sum(len(each.gaps) for each in verdicts)}; "
          f"carrier late by {max(each.lag_max_ms for each in verdicts):.0f} ms at most")  # fmt: skip
    if p99 > 150:
        problems.append(f"silence after {p99:.0f} ms at p99; 150 ms are promised")
    left = sum(session["closed_ns"] is None for each in sessions.values() for session in each)
    print(f"model sockets open after the calls: {left}")
    return problems


async def _together(stack: Stack, callers: Sequence[Caller]) -> list[CallRecord]:
    async with Exchange() as exchange:

        async def one(number: int, caller: Caller) -> CallRecord:
            await asyncio.sleep(number * 0.06)  # calls do not ring in the same millisecond
            return await _place(exchange, stack, sid("CA"), caller)

        records = await asyncio.gather(*(one(number, caller) for number, caller in enumerate(callers)))
        await asyncio.sleep(3)
        return records


def losses(calls: int) -> list[str]:
    """The model's socket is dropped in mid-sentence, in `calls` calls at once."""
    return uvloop.run(_losses(calls))


async def _losses(calls: int) -> list[str]:
    # The session dies 6.5 s after it opened, for all calls at once; an answer of 12 s that is made at twice the speed
    # of speech is being spoken then.
    breaks = Behaviour(answer_ms=12_000, speed=2, drop_session_at_ms=6_500, responses=(Behaviour(answer_ms=1_000),))
    healthy = Behaviour(answer_ms=4_000)
    script = (
        Say("hello", AfterAnswer(ms=2_200)),
        Say("vm-sorry", AiSilent(ms=2_500)),
        HangUp(AiSilent(ms=1_500)),
    )
    behaviours = Behaviours()
    problems: list[str] = []
    silences: list[float] = []
    sids = [sid("CA") for _ in range(calls)]
    for call_sid in sids:
        behaviours.expect(call_sid, (breaks, healthy))
    async with _running(behaviours, {}) as (model, exchange, stack):
        records = await asyncio.gather(
            *(_place(exchange, stack, each, Caller(script, seed=n, noise=True)) for n, each in enumerate(sids))
        )
        await asyncio.sleep(1)
    for number, record in enumerate(records):
        sessions: Sessions = model.records(record.call_sid)
        problems += _after_loss(number, record, sessions, silences)
    if silences:
        print(
            f"{calls} calls lost their model in mid-sentence, at once: {len(silences)} went on; "
            f"the longest silence between the old session's words and the new one's: {max(silences):.0f} ms"
        )
    return problems


def _after_loss(number: int, record: CallRecord, sessions: Sessions, silences: list[float]) -> list[str]:
    """Judge one call that lost its first session."""
    verdict = judge(record, sessions)
    faults, wrong = verdict.faults(), []
    for expected in LOST:
        faults, more = expected.settle(faults)
        wrong += more
    spoken, _ = listen(record, read_sessions(sessions))
    wrong += [each.text for each in forgotten(spoken, sessions)]
    problems = [f"call {number}: {text}" for text in verdict.with_remark([*(each.text for each in faults), *wrong])]
    if len(sessions) < 2:
        return [*problems, f"call {number}: there was no second session"]
    before = [each.ended_ns for each in spoken if each.heard and each.session == 0]
    after = [each.began_ns for each in spoken if each.heard and each.session == 1]
    if not (before and after):
        return [*problems, f"call {number}: the conversation did not go on"]
    silences.append(max(0.0, (min(after) - max(before)) / 1e6))
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proofs.matrix_live", description=__doc__)
    parser.add_argument("what", choices=("interruptions", "losses"))
    parser.add_argument("--calls", type=int, default=0, help="how many at once (default 50, or 10)")
    parser.add_argument("--early", action="store_true", help="interruptions with BARGE_IN_EARLY=on")
    arguments = parser.parse_args()
    if arguments.what == "interruptions":
        problems = interruptions(arguments.calls or 50, early=arguments.early)
    else:
        problems = losses(arguments.calls or 10)
    for problem in problems:
        print(f"BROKEN: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    run("matrix_live", main)
