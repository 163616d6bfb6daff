from __future__ import annotations

import asyncio
import time

from shared.metrics import LOOP_LAG, LOOP_TASKS, Page
from shared.watch import LoopLag


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
