"""The nemesis: `python -m proofs.nemesis --seed 1` breaks everything that can break, beside 20 calls, for 5 minutes.

The schedule follows from the seed alone: SIGKILL and SIGSTOP for every process of a supervised cell, media and model
sockets that are lost or not read for a while. Everything is recorded, and a checker (nemesis_check.py) reads the record
afterwards: every byte at the ear is of that call, in order, and fresh; what is not, an act nearby explains; the model
believes what was heard; every turn is answered; no process, descriptor or file is left.

`--check FOLDER` judges a record again: of a run of your own, because a record is a pickle. `--early`: the caller's
first sound pauses the AI, and the model notices it later. Repeat it with `--check`.
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
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from shared.process import run
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, Caller, HangUp
from simulator.carrier.client import Exchange, sid
from twentyms.stack import Stack, get

from . import counted
from .acts import Act, Deed
from .cell import nemesis as virtual
from .cell_processes import connections, descriptors, excess, lives, pacing_pids, processes
from .matrix import near_ear
from .nemesis_check import check, check_run
from .schedule import QUIET_S, schedule, script

# A caller who got the fallback calls again after this.
REDIAL_S: Final = 3.0
# Less than half a second of a call, so that an unread socket is felt at the gateway.
RECEIVE_BUFFER_BYTES: Final = 4_096
# After the last call, sessions and lines wait this long for their callers to return.
SETTLE_S: Final = 30.0
# Children of toolbox for one agent: the default of TOOL_PROCESSES. The first calls need fewer.
RUNNERS_MAX: Final = 4
# Calls before the first act: what a process opens with its first calls is not a leak.
WARM_UP_CALLS: Final = 8


class Nemesis:
    """Carries out a schedule on a running stack. `phones` are the calls of its phones, by number."""

    def __init__(self, stack: Stack, exchange: Exchange, phones: list[str]) -> None:
        self.deeds: list[Deed] = []
        self._stack = stack
        self._exchange = exchange
        self._phones = phones

    async def run(self, acts: list[Act], began: float) -> None:
        for act in acts:
            await asyncio.sleep(max(0.0, began + act.at_s - time.monotonic()))
            began_ns = time.monotonic_ns()
            victims: set[str] = set()
            if act.kind in ("kill", "stop"):
                failure = await self._harm_process(act, victims)
            else:
                victims.add(self._phones[act.which % len(self._phones)])
                failure = await self._harm_socket(act, *victims)
            self.deeds.append(Deed(act, began_ns, time.monotonic_ns(), tuple(sorted(victims)), failure))
            lasting = act.seconds or ""
            print(f"{act.at_s:6.1f} s  {act.kind} {act.target} {lasting} {failure or len(victims)}", flush=True)

    async def _harm_process(self, act: Act, victims: set[str]) -> str:
        """Why nothing was done; empty when it was. `victims` gets the calls that the process held meanwhile."""
        run_dir = self._stack.run_dir
        found = [each.pid for each in processes(run_dir) if each.name == act.target]
        if act.target == "txpacer":
            found = [pid for pid in found if pid in pacing_pids(run_dir)]
        if not found:
            return "(there was none)"
        pid = found[act.which % len(found)]
        # It may die by itself at any time.
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            # What is to be killed is stopped first: it takes no other call while its calls are counted.
            os.kill(pid, signal.SIGSTOP)
            try:
                victims |= await asyncio.to_thread(self._held_by, act.target, pid)
                await asyncio.sleep(act.seconds)
                if act.seconds:
                    victims |= await asyncio.to_thread(self._held_by, act.target, pid)
            finally:
                os.kill(pid, signal.SIGKILL if act.kind == "kill" else signal.SIGCONT)
            return ""
        return "(it was gone)"

    def _held_by(self, name: str, pid: int) -> set[str]:
        """The calls of a process, by the other ends of its sockets.

        A call without a socket may be about to have one at any process. txpacer has every line, and toolbox any tool.
        """
        live = {call_sid for call_sid in self._phones if call_sid}
        if name == "callbook":
            return set()
        if name in ("txpacer", "toolbox", "runner"):
            return live
        held = connections(pid)
        if name == "gateway":
            sockets = {call_sid: self._exchange.socket_of(call_sid) for call_sid in live}
            ports = {call_sid: socket.local_address[1] for call_sid, socket in sockets.items() if socket is not None}
            return {call_sid for call_sid in live if ports.get(call_sid) in (None, *held.others)}
        ports = msgspec.json.decode(get(self._stack.model_port, "/simulator/peers")[1])
        return {call_sid for call_sid in live if ports.get(call_sid) in (None, *held.own)}

    async def _harm_socket(self, act: Act, call_sid: str) -> str:
        """Why nothing was done; empty when it was."""
        if act.target == "model":
            path = f"/simulator/harm?request_id={call_sid}&seconds={act.seconds}"
            _, body = await asyncio.to_thread(get, self._stack.model_port, path)
            await asyncio.sleep(act.seconds)
            return "" if body and msgspec.json.decode(body)["harmed"] else "(it had no session)"
        socket = self._exchange.socket_of(call_sid)
        if socket is None:
            return "(it had no socket)"
        if act.kind == "lose":
            socket.transport.abort()
            return ""
        socket.transport.pause_reading()
        try:
            await asyncio.sleep(act.seconds)
        finally:
            if not socket.transport.is_closing():
                socket.transport.resume_reading()
        return ""


async def _carry(
    stack: Stack, acts: list[Act], seed: int, calls: int, seconds: float
) -> tuple[list[CallRecord], list[Deed]]:
    records: list[CallRecord] = []
    phones = [""] * calls
    async with Exchange(receive_buffer_bytes=RECEIVE_BUFFER_BYTES) as exchange:
        began = time.monotonic()

        async def phone(number: int) -> None:
            """Place one call after the other while there is time."""
            rng = random.Random(seed * 1_000 + number)
            await asyncio.sleep(number * 3.0 / calls)
            while time.monotonic() - began < seconds - QUIET_S:
                phones[number] = sid("CA")
                records.append(
                    await exchange.place_call(
                        stack.webhook_url,
                        stack.auth_token,
                        caller=script(rng),
                        call_sid=phones[number],
                        limit_s=120,
                    )
                )
                if not records[-1].streams:  # it got the fallback
                    await asyncio.sleep(REDIAL_S)

        nemesis = Nemesis(stack, exchange, phones)
        harm = asyncio.create_task(nemesis.run(acts, began))
        await asyncio.gather(*(phone(number) for number in range(calls)))
        await harm
    return records, nemesis.deeds


async def _warm_up(stack: Stack) -> None:
    caller = (Caller([HangUp(AiHeard(ms=500))]) for _ in range(WARM_UP_CALLS))
    async with Exchange() as exchange:
        await asyncio.gather(
            *(exchange.place_call(stack.webhook_url, stack.auth_token, caller=each) for each in caller)
        )


def _settled(stack: Stack) -> list[str]:
    """What still lives of the calls that are over, a sentence each."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = lives(get(int(stack.env["METRICS_PORT"]), "/metrics")[1].decode())
        left = [f"{name} is {value:g} after the last call" for name, value in found.items() if value]
        if (found and not left) or time.monotonic() > deadline:
            return left if found else ["/metrics does not say what still lives"]
        time.sleep(0.2)


def _too_many(stack: Stack, idle: dict[str, Counter[str]]) -> list[str]:
    """Descriptors that a process holds beyond those that its kind held before the first act."""
    return [
        f"{each.name} {each.number} holds {count} of {kind} too many"
        for each in processes(stack.run_dir)
        for kind, count in excess(
            each.descriptors(), idle[each.name], children=RUNNERS_MAX if each.name == "toolbox" else 0
        ).items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proofs.nemesis", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--out", type=Path, help="where the record goes (default: out/nemesis/SEED)")
    parser.add_argument("--virtual", action="store_true", help="in virtual time: 5 minutes take half a one")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="judge a record again")
    parser.add_argument("--early", action="store_true", help="with BARGE_IN_EARLY=on")
    arguments = parser.parse_args()
    early: bool = arguments.early
    folder: Path = arguments.check or arguments.out or Path("out/nemesis") / str(arguments.seed)
    if arguments.virtual:
        heard_by = near_ear() if early else None
        run = virtual.carry(arguments.seed, seconds=arguments.seconds, calls=arguments.calls, detectors=heard_by)
        problems = check_run(run.calls, run.deeds, run.left, run.effects, early=early)
    else:
        if not arguments.check:
            _record(folder, arguments.seed, arguments.seconds, arguments.calls, early=early)
        problems = check(folder, early=early)
    for problem in problems:
        print(f"BROKEN: {problem}")
    sys.exit(1 if problems else 0)


def _record(folder: Path, seed: int, seconds: float, calls: int, *, early: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    acts = schedule(seed, seconds, tools=True)
    (folder / f"{counted.TOOL}.py").write_text(counted.SOURCE)
    (folder / "agent.toml").write_text(counted.AGENT)
    (folder / "behaviour.json").write_bytes(msgspec.json.encode(virtual.model_of(early=early)))
    env = {"AGENT_FILE": str((folder / "agent.toml").resolve()), "BARGE_IN_EARLY": "on" if early else "off"}
    model = ("--behaviour", str((folder / "behaviour.json").resolve()), "--keep-input")
    with Stack(log=folder / "processes.log", model=model, env=env, supervised=True) as stack:
        uvloop.run(_warm_up(stack))
        left = _settled(stack)
        idle = descriptors(stack.run_dir)
        records, deeds = uvloop.run(_carry(stack, acts, seed, calls, seconds))
        left += _settled(stack)
        left += _too_many(stack, idle)
        for record in records:
            (folder / f"{record.call_sid}.call").write_bytes(pickle.dumps(record))
            sessions = msgspec.json.encode(stack.sessions(record.call_sid))
            (folder / f"{record.call_sid}.sessions").write_bytes(sessions)
        effects = Path(stack.env["DATA_DIR"], "effects").read_text().split()
        run_dir = stack.run_dir
    left += [f"process {each.pid} ({each.name}) is left" for each in processes(run_dir)]
    left += [f"{path} is left" for path in stack.left]
    if "Traceback" in (folder / "processes.log").read_text(errors="replace"):
        left.append("a process logged a traceback: see processes.log")
    (folder / "deeds.json").write_bytes(msgspec.json.format(msgspec.json.encode(deeds)))
    (folder / "effects.json").write_bytes(msgspec.json.encode(Counter(effects)))
    (folder / "left.json").write_bytes(msgspec.json.encode(left))


if __name__ == "__main__":
    run("nemesis", main)
