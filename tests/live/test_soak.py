"""Thousands of short calls leave no memory, descriptor, thread or task."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from proofs.cell_processes import LIVES, Process, excess, lives, processes
from simulator.carrier.caller import AfterAnswer, Caller, HangUp
from simulator.carrier.client import Exchange
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(180)]

# Three rounds of this many calls. The first finds what the allocator keeps and what is remembered up to a bound; busy
# moments may need more once. What leaks grows in each round.
ROUNDS: Final = 3
CALLS: Final = 1_000
AT_ONCE: Final = 30
# Before the baseline, these calls allocate what is allocated once: caches, arenas, kept records.
WARM_UP: Final = 250
NAMES: Final = {"gateway", "txpacer", "aibridge", "callbook"}
# A later round may add this much per call: less than a record or a task that is kept.
MEMORY_KB_OF_A_CALL: Final = 2.0
TASKS: Final = "loop_tasks"


def gauges(stack: Stack) -> dict[str, float]:
    """What counts calls, sessions and lines, and the tasks of each process that has a loop."""
    return lives(get(int(stack.env["METRICS_PORT"]), "/metrics")[1].decode(), (*LIVES, TASKS))


async def place(stack: Stack, count: int) -> int:
    slots = asyncio.Semaphore(AT_ONCE)
    async with Exchange() as exchange:

        async def one(number: int) -> bool:
            async with slots:
                caller = Caller([HangUp(AfterAnswer(ms=200))], seed=number)
                record = await exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller)
                return record.outcome == "hung-up-by-caller" and bool(record.streams)

        return sum(await asyncio.gather(*(one(number) for number in range(count))))


def settled(stack: Stack, before: dict[str, float] | None) -> dict[str, float]:
    """The gauges once no call is left, and no more tasks than `before`; without it, once they stay as they are."""
    deadline = time.monotonic() + 20
    while True:
        found = gauges(stack)
        calls = sum(value for name, value in found.items() if not name.startswith(TASKS))
        is_over = found and not calls and all(value <= (before or found)[name] for name, value in found.items())
        if time.monotonic() > deadline or (is_over and before):
            return found
        # Tasks are counted once a second.
        time.sleep(1.2)
        if is_over and gauges(stack) == found:
            return found


def left_over(cell: list[Process], idle: dict[Process, Counter[str]]) -> dict[str, Counter[str]]:
    """The descriptors beyond the idle ones, by process. The server of the last scrape may not have closed it yet."""
    deadline = time.monotonic() + 5
    while True:
        kept = {each.name: excess(each.descriptors(), idle[each]) for each in cell}
        if not any(kept.values()) or time.monotonic() > deadline:
            return kept
        time.sleep(0.1)


def test_thousands_of_short_calls_leave_no_memory_descriptor_thread_or_task(tmp_path: Path) -> None:
    with Stack(log=tmp_path / "log") as stack:
        assert asyncio.run(place(stack, WARM_UP)) == WARM_UP
        before = settled(stack, None)
        assert {name.partition('"')[2].partition('"')[0] for name in before if name.startswith(TASKS)} == {
            "gateway-0",
            "aibridge-0",
            "callbook",
        }
        cell = processes(stack.run_dir)
        assert {each.name for each in cell} == NAMES
        idle = {each: each.descriptors() for each in cell}
        usages: list[dict[Process, tuple[int, int, int]]] = [{each: each.usage() for each in cell}]
        began = time.monotonic()
        for _ in range(ROUNDS):
            assert asyncio.run(place(stack, CALLS)) == CALLS
            after = settled(stack, before)
            assert all(after[name] <= count for name, count in before.items()), (before, after)
            usages.append({each: each.usage() for each in cell})
        kept = left_over(cell, idle)
        took = time.monotonic() - began
    print(f"{ROUNDS * CALLS} calls in {took:.0f} s; " + json.dumps(before))
    for each in cell:
        kb = [usage[each][0] for usage in usages]
        print(f"{each.name}: {kb} kB; {usages[-1][each][1:]} descriptors and threads")
        assert not kept[each.name], each.name
        assert usages[-1][each][2] == usages[0][each][2], each.name
        grown = [after - before for before, after in pairwise(kb[1:])]
        assert min(grown) < MEMORY_KB_OF_A_CALL * CALLS, each.name
