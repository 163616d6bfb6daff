"""The nemesis: `python -m simulator.nemesis --seed 1` breaks everything that can break, beside 20 calls, for 5 minutes.

The schedule follows from the seed alone: SIGKILL and SIGSTOP for every process of a supervised cell, media sockets that
are lost or not read for a while. Everything is recorded, and a checker reads the record afterwards: every byte at the
ear is of that call, in order, and fresh; the model believes what was heard; no process, descriptor or file is left.

`--check FOLDER` judges a record again: of a run of your own, because a record is a pickle.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pickle
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from shared.process import run

from .caller import AiHeard, AiSilent, Caller, HangUp, Say
from .carrier import CallRecord
from .carrier_client import Exchange
from .cell_processes import pacing, processes
from .judge import judge
from .stack import Stack
from .verdict import Verdict

# Between two acts: as long as supervisord takes to bring a process back, so that one of two always lives.
PAUSE_S: Final = (4.0, 9.0)
# Quiet at both ends: for the calls to begin, and for the last act to be survived.
QUIET_S: Final = 5.0
# What may be heard of one act, ms. A process frozen for up to 2 s is a silence of that; one that dies is less.
GAP_MS: Final = 3_000
# After an interruption a frozen process may let the AI go on for as long as it is frozen.
STALE_MS: Final = 2_500
# Where exactly an ear stopped whose socket was lost, nobody can say: bytes heard twice or never for each loss.
LOSS_BYTES: Final = 2_400
HISTORY_MS: Final = 300
# No answer is made sooner after a turn: one that seems to be was not the interrupted one.
ANSWER_NS: Final = 50_000_000

_CLIPS: Final = ("hello", "auth-thankyou", "vm-sorry", "vm-no")


@dataclass(frozen=True)
class Act:
    """One piece of harm. `seconds` is how long a process is stopped, or a socket not read."""

    at_s: float
    kind: str  # "kill", "stop", "lose", "slow"
    target: str  # a process's name; "" for sockets
    which: int  # which one of several
    seconds: float = 0.0


def schedule(seed: int, seconds: float) -> list[Act]:
    """The acts of one run, in order."""
    rng = random.Random(seed)
    acts = []
    at_s = QUIET_S
    while at_s < seconds - QUIET_S:
        kind = rng.choice(("kill", "kill", "stop", "lose", "slow"))
        target = rng.choice(("txpacer", "aibridge", "gateway", "callbook")) if kind in ("kill", "stop") else ""
        length = round(rng.uniform(0.05, 2.0), 2) if kind in ("stop", "slow") else 0.0
        acts.append(Act(round(at_s, 2), kind, target, rng.randrange(1_000), length))
        at_s += rng.uniform(*PAUSE_S)
    return acts


def script(rng: random.Random) -> Caller:
    """A call of half a minute or so: questions, polite and not."""
    steps: list[Any] = [Say(rng.choice(_CLIPS), AiSilent(ms=400))]
    for _ in range(3):
        when = AiHeard(ms=1_000, upto_ms=5_000) if rng.random() < 0.5 else AiSilent(ms=400)
        steps.append(Say(rng.choice(_CLIPS), when))
    return Caller([*steps, HangUp(AiHeard(ms=2_000))], seed=rng.getrandbits(32))


class Nemesis:
    """Carries out a schedule on a running stack."""

    def __init__(self, stack: Stack, exchange: Exchange) -> None:
        self._stack = stack
        self._exchange = exchange

    async def run(self, acts: list[Act], began: float) -> None:
        for act in acts:
            await asyncio.sleep(max(0.0, began + act.at_s - time.monotonic()))
            print(f"{act.at_s:6.1f} s  {act.kind} {act.target} {act.seconds or ''}".rstrip(), flush=True)
            with contextlib.suppress(ProcessLookupError, StopIteration, OSError):
                if act.target:
                    await self._harm_process(act)
                else:
                    await self._harm_socket(act)

    async def _harm_process(self, act: Act) -> None:
        run_dir = self._stack.run_dir
        if act.target == "txpacer":
            pid = pacing(run_dir).pid
        else:
            found = [each for each in processes(run_dir) if each.name == act.target]
            pid = found[act.which % len(found)].pid
        if act.kind == "kill":
            os.kill(pid, signal.SIGKILL)
            return
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(act.seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def _harm_socket(self, act: Act) -> None:
        sockets = self._exchange.sockets
        if not sockets:
            return
        transport = sockets[act.which % len(sockets)].transport
        if act.kind == "lose":
            transport.abort()
            return
        transport.pause_reading()
        try:
            await asyncio.sleep(act.seconds)
        finally:
            transport.resume_reading()


async def _carry(stack: Stack, acts: list[Act], seed: int, calls: int, seconds: float) -> list[CallRecord]:
    records: list[CallRecord] = []
    async with Exchange() as exchange:
        began = time.monotonic()

        async def line(number: int) -> None:
            """One of the phones: calls again as long as there is time."""
            rng = random.Random(seed * 1_000 + number)
            await asyncio.sleep(number * 3.0 / calls)
            while time.monotonic() - began < seconds - QUIET_S:
                caller = script(rng)
                records.append(
                    await exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller, limit_s=120)
                )

        harm = asyncio.create_task(Nemesis(stack, exchange).run(acts, began))
        await asyncio.gather(*(line(number) for number in range(calls)))
        await harm
    return records


def check(folder: Path) -> list[str]:
    """What is wrong with a record, a sentence each."""
    problems: list[str] = list(msgspec.json.decode((folder / "left.json").read_bytes()))
    figures: list[Verdict] = []
    losses = refused = 0
    for path in sorted(folder.glob("*.call")):
        call: CallRecord = pickle.loads(path.read_bytes())
        sessions = msgspec.json.decode(path.with_suffix(".sessions").read_bytes())
        verdict = judge(call, sessions)
        figures.append(verdict)
        refused += _is_refused(call, verdict)
        losses += max(0, len(call.streams) - 1)
        problems += [f"{call.call_sid}: {problem}" for problem in _problems(call, sessions, verdict)]
    gaps = sorted(gap.ms for verdict in figures for gap in verdict.gaps)
    print(
        f"{len(figures) - refused} calls ({refused} more got the fallback), {losses} lost sockets,"
        f" {sum(v.speech_ms for v in figures) / 1_000:.0f} s of speech,"
        f" {len(gaps)} gaps"
        f" (the longest {gaps[-1] if gaps else 0:.0f} ms), {sum(v.lost_bytes for v in figures)} bytes lost,"
        f" {sum(v.doubled_bytes for v in figures)} heard twice, {sum(v.out_of_order_bytes for v in figures)} out of"
        f" order, {sum(v.invented_bytes for v in figures)} of no item of their call;"
        f" {sum(len(v.interruptions) for v in figures)} interruptions,"
        f" history error {max((v.history_error_ms for v in figures), default=0)} ms at most"
    )
    return problems


def _is_refused(call: CallRecord, verdict: Verdict) -> bool:
    """It got the fallback and no conversation, as it should while too much is broken at the same time."""
    return verdict.first_audio_ms is None and any(verb.name == "Say" for verb in call.verbs)


def _problems(call: CallRecord, sessions: list[dict[str, Any]], verdict: Verdict) -> list[str]:
    losses = max(0, len(call.streams) - 1)
    problems = []
    if _is_refused(call, verdict):
        return []
    if call.outcome not in ("hung-up-by-caller", "time-limit"):
        problems.append(f"the call ended as {call.outcome}")
    if verdict.invented_bytes:
        problems.append(f"{verdict.invented_bytes} bytes are of no item of this call")
    damage = verdict.lost_bytes + verdict.doubled_bytes + verdict.out_of_order_bytes
    if damage > losses * LOSS_BYTES:
        problems.append(f"{damage} bytes lost, doubled or out of order, with {losses} lost sockets")
    longest = max((gap.ms for gap in verdict.gaps), default=0.0)
    if longest > GAP_MS:
        problems.append(f"a gap of {longest:.0f} ms")
    # A frozen gateway hands over what the caller said at once: begin and end of it, and the answer, in one instant.
    created = {response["id"]: response["created_ns"] for session in sessions for response in session["responses"]}
    stale = sum(
        each.leftover_ms(STALE_MS)
        for each in verdict.interruptions
        if all(each.at_ns - created.get(response, 0) > ANSWER_NS for response in each.response_ids)
    )
    if stale:
        problems.append(f"{stale:.0f} ms of speech were heard more than {STALE_MS} ms after their interruption")
    # But for the last item: the call may have ended in the midst of an act.
    wrong_ms = max((each.error_ms for each in verdict.history[:-1]), default=0)
    if wrong_ms > HISTORY_MS * (1 + losses):
        problems.append(f"the model is wrong by {wrong_ms} ms about what was heard")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulator.nemesis", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/nemesis"))
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="judge a record again")
    arguments = parser.parse_args()
    folder: Path = arguments.check or arguments.out
    if not arguments.check:
        _record(folder, arguments.seed, arguments.seconds, arguments.calls)
    problems = check(folder)
    for problem in problems:
        print(f"BROKEN: {problem}")
    sys.exit(1 if problems else 0)


def _record(folder: Path, seed: int, seconds: float, calls: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    acts = schedule(seed, seconds)
    (folder / "schedule.json").write_bytes(msgspec.json.format(msgspec.json.encode(acts)))
    with Stack(log=folder / "processes.log", model=("--speed", "5"), supervised=True) as stack:
        records = uvloop.run(_carry(stack, acts, seed, calls, seconds))
        for record in records:
            (folder / f"{record.call_sid}.call").write_bytes(pickle.dumps(record))
            sessions = msgspec.json.encode(stack.sessions(record.call_sid))
            (folder / f"{record.call_sid}.sessions").write_bytes(sessions)
        run_dir = stack.run_dir
    left = [f"process {each.pid} ({each.name}) is left" for each in processes(run_dir)]
    left += [f"{run_dir} is left"] if run_dir.exists() else []
    if "Traceback" in (folder / "processes.log").read_text(errors="replace"):
        left.append("a process logged a traceback: see processes.log")
    (folder / "left.json").write_bytes(msgspec.json.encode(left))


if __name__ == "__main__":
    run("nemesis", main)
