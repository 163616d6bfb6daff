from __future__ import annotations

import asyncio
import gc
import time

from shared.metrics import GC_PAUSE, LOOP_LAG, LOOP_TASKS, Page
from shared.watch import CollectorPauses, LoopLag


def test_every_collection_is_counted() -> None:
    page = Page.in_memory((GC_PAUSE,))
    pauses = CollectorPauses(page)
    pauses.start()
    try:
        before = page.histogram(GC_PAUSE.name).count
        gc.collect()
        assert page.histogram(GC_PAUSE.name).count > before
    finally:
        gc.callbacks.remove(pauses._on_phase)


def test_the_lag_of_a_blocked_loop_is_measured() -> None:
    page = Page.in_memory((LOOP_LAG, LOOP_TASKS))

    async def scenario() -> None:
        others = asyncio.create_task(asyncio.Event().wait())
        lag = LoopLag(page)
        lag.start()
        time.sleep(0.35)  # noqa: ASYNC251 - this is what holds it up
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        lag.stop()
        others.cancel()

    asyncio.run(scenario())
    assert page.gauge(LOOP_TASKS.name).value == 2
    seen = page.histogram(LOOP_LAG.name)
    assert seen.count == 1
    assert 0.24 < seen._cells[seen._sum_at] < 1
