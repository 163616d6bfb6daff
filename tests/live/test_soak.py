"""Thousands of short calls leave no memory, descriptor, thread or task."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Final

import pytest

from proofs.cell_processes import LIVES, Process, lives, processes
from simulator.carrier.caller import AfterAnswer, Caller, HangUp
from simulator.carrier.client import Exchange
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(180)]

# Two rounds of this many calls: the second round finds what the allocator keeps and what is remembered up to a bound.
CALLS: Final = 1_500
AT_ONCE: Final = 30
# Before the baseline, these calls allocate what is allocated once: caches, arenas, kept records.
WARM_UP: Final = 250
NAMES: Final = {"gateway", "txpacer", "aibridge", "callbook"}
# The second round may add this much per call: less than a record or a task that is kept.
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
        usages: list[dict[Process, tuple[int, int, int]]] = [{each: each.usage() for each in cell}]
        began = time.monotonic()
        for _ in range(2):
            assert asyncio.run(place(stack, CALLS)) == CALLS
            after = settled(stack, before)
            assert all(after[name] <= count for name, count in before.items()), (before, after)
            usages.append({each: each.usage() for each in cell})
        took = time.monotonic() - began
    print(f"{2 * CALLS} calls in {took:.0f} s; " + json.dumps(before))
    for each in cell:
        (kb_0, descriptors, threads), (kb_1, *_), (kb_2, *left) = (usage[each] for usage in usages)
        print(f"{each.name}: {kb_0} kB, then {kb_1} and {kb_2}; {left} descriptors and threads")
        assert left[0] <= descriptors
        assert left[1] == threads
        assert kb_2 - kb_1 < MEMORY_KB_OF_A_CALL * CALLS
