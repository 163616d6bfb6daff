"""After a loop has served its events, it pauses once: later events gather, and the work of the served ones is done."""

from __future__ import annotations

import asyncio
import time

import pytest

from shared import gather
from shared.gather import Gather
from tests.on_a_loop import on_a_loop


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(gather.time, "sleep", taken.append)
    return taken


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@on_a_loop
async def test_a_loop_pauses_once_after_any_number_of_events(naps: list[float]) -> None:
    events = Gather(0.002)
    for _ in range(10):
        events.served()
    assert naps == []
    await turns(5)
    assert naps == [0.002]
    events.served()
    await turns(5)
    assert naps == [0.002, 0.002]


@on_a_loop
async def test_callbacks_that_the_events_queued_run_before_the_pause(naps: list[float]) -> None:
    events = Gather()
    done_after: list[int] = []
    events.served()
    asyncio.get_running_loop().call_soon(lambda: done_after.append(len(naps)))
    await turns(5)
    assert done_after == [0]
    assert len(naps) == 1


@on_a_loop
async def test_what_an_event_between_two_looks_at_the_sockets_writes_leaves_before_the_pause(
    naps: list[float],
) -> None:
    events = Gather()
    events.served()
    await turns(1)
    events.served()  # read in the look before the pause
    await turns(1)
    assert naps == []
    await turns(1)
    assert len(naps) == 1


@on_a_loop
async def test_events_without_end_put_the_pause_off_once_only(naps: list[float]) -> None:
    events = Gather()
    for _ in range(8):
        events.served()
        await turns(1)
    assert len(naps) >= 2


@on_a_loop
async def test_a_loop_at_rest_does_not_pause(naps: list[float]) -> None:
    Gather()
    await turns(20)
    assert naps == []


@on_a_loop
async def test_a_pause_lasts_as_long_as_asked_for() -> None:
    events = Gather(0.002)
    begun = time.monotonic()
    events.served()
    await turns(5)
    assert time.monotonic() - begun >= 0.002
