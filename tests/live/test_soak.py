"""A thousand short calls leave nothing behind: in no process more memory, descriptors, threads or tasks than before."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulator.caller import AfterAnswer, Caller, HangUp
from simulator.carrier_client import Exchange
from simulator.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

CALLS = 1_000
AT_ONCE = 30
# A fifth of it before the baseline: what is allocated once (caches, arenas, kept records) is there then.
WARM_UP = 250
NAMES = ("gateway", "txpacer", "aibridge", "callbook")
# What the allocator keeps: 1,000 calls at 150 kB each would be 150 MB.
MEMORY_KB = 12_000


@dataclass
class Usage:
    memory_kb: int
    descriptors: int
    threads: int


def usage(stack: Stack) -> dict[str, Usage]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            if str(stack.run_dir).encode() not in (path / "environ").read_bytes():
                continue
            name = next(
                (n for n in NAMES if any(part in (n.encode(), f"gateway.{n}".encode()) for part in command)), ""
            )
            status = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines() if ":" in line)
            if name:
                found[name] = Usage(
                    int(status["VmRSS"].split()[0]), len(list((path / "fd").iterdir())), int(status["Threads"])
                )
        except OSError:
            continue
    return found


def gauges(stack: Stack) -> dict[str, float]:
    """Gauges that count what lives: calls, sessions, lines, tasks."""
    text = get(int(stack.env["METRICS_PORT"]), "/metrics")[1].decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    wanted = ("gateway_calls{", "bridge_calls{", "bridge_sessions_open", "tx_lines", "tasks{")
    return {name: float(value) for name, _, value in lines if any(each in name for each in wanted)}


async def place(stack: Stack, count: int) -> int:
    slots = asyncio.Semaphore(AT_ONCE)
    async with Exchange() as exchange:

        async def one(number: int) -> bool:
            async with slots:
                caller = Caller([HangUp(AfterAnswer(ms=200))], seed=number)
                record = await exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller)
                return record.outcome == "hung-up-by-caller" and bool(record.streams)

        return sum(await asyncio.gather(*(one(number) for number in range(count))))


def settled(stack: Stack, lives: dict[str, float] | None) -> dict[str, float]:
    """The gauges once no call is left and, if given, they are back at `lives`."""
    deadline = time.monotonic() + 20
    while True:
        found = gauges(stack)
        calls = sum(value for name, value in found.items() if "calls" in name or "sessions" in name or "lines" in name)
        if (found and not calls and lives in (None, found)) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def test_a_thousand_short_calls_leave_nothing_behind(tmp_path: Path) -> None:
    with Stack(log=tmp_path / "log") as stack:
        assert asyncio.run(place(stack, WARM_UP)) == WARM_UP
        lives = settled(stack, None)
        before = usage(stack)
        assert set(before) == set(NAMES)
        began = time.monotonic()
        assert asyncio.run(place(stack, CALLS)) == CALLS
        took = time.monotonic() - began
        assert settled(stack, lives) == lives
        after = usage(stack)
    print(f"{CALLS} calls in {took:.0f} s; " + json.dumps(lives))
    for name in NAMES:
        print(f"{name}: {before[name]} -> {after[name]}")
        assert after[name].descriptors <= before[name].descriptors
        assert after[name].threads == before[name].threads
        assert after[name].memory_kb - before[name].memory_kb < MEMORY_KB
