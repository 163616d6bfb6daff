"""The edge of a fleet: HAProxy is reloaded, and one of two is killed, and what callers notice."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from simulator.carrier.call import CallRecord
from twentyms.heard import gaps_ms

from .acts import ONWARD_MS, SPEAKS_S, Report, during, is_moved, silence_ms, spread
from .machines import Fleet

# New calls are dialled from this long before a proxy is killed, this far apart.
DIALLED_BEFORE_S: Final = 0.01
DIALLED_APART_S: Final = 0.003


def edge(fleet: Fleet, count: int, _: int) -> Report:
    """HAProxy is reloaded; one of two at one address is killed, while more calls are dialled; then the last one."""
    report = Report([], [])

    async def reload() -> None:
        fleet.reload_haproxy()

    records = asyncio.run(during(fleet, count, SPEAKS_S + count * 0.1 + 6, reload))
    untouched = [call for call in records if call.outcome == "hung-up-by-caller" and not is_moved(call)]
    report.bound(f"reloaded: calls that did not notice {len(untouched)} of {count}", len(untouched) == count)
    report.bound(f"reloaded: gaps {sum(len(gaps_ms(call)) for call in records)}", not any(map(gaps_ms, records)))
    fleet.start_haproxy("haproxy-2")
    _kill_one_of_two(fleet, count, report)
    _kill_the_last(fleet, count, report)
    return report


def _kill_one_of_two(fleet: Fleet, count: int, report: Report) -> None:
    at_ns = [0]

    async def kill() -> None:
        at_ns[0] = time.monotonic_ns()
        await asyncio.to_thread(fleet.kill_haproxy, "haproxy")

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def dialled_meanwhile() -> list[CallRecord]:
        await asyncio.sleep(count * 0.1 + SPEAKS_S - DIALLED_BEFORE_S)
        return await during(fleet, count, 6, nothing, apart_s=DIALLED_APART_S)

    async def both() -> tuple[list[CallRecord], list[CallRecord]]:
        live = during(fleet, count, SPEAKS_S + count * 0.1 + 9, kill)
        return await asyncio.gather(live, dialled_meanwhile())

    live, new = asyncio.run(both())
    kept = [call for call in live if call.outcome == "hung-up-by-caller"]
    moved = [call for call in kept if is_moved(call)]
    silences = [each for call in moved if (each := silence_ms(call, at_ns[0])) is not None]
    heard_again = len(silences) == len(moved) and all(each <= ONWARD_MS for each in silences)
    report.bound(f"one of two killed: calls that went on {len(kept)} of {count}", len(kept) == count)
    report.bound(f"one of two killed: {len(moved)} lost their media socket, silence {spread(silences)}", heard_again)
    taken = [call for call in new if call.streams and call.outcome == "hung-up-by-caller"]
    again = sum(call.webhook_retries for call in new)
    text = f"one of two killed: calls dialled meanwhile {len(taken)} of {count}, webhooks repeated {again}"
    report.bound(text, len(taken) == count)


def _kill_the_last(fleet: Fleet, count: int, report: Report) -> None:
    async def kill_and_start() -> None:
        await asyncio.to_thread(fleet.kill_haproxy, "haproxy-2")
        await asyncio.to_thread(fleet.start_haproxy)

    records = asyncio.run(during(fleet, count, SPEAKS_S + count * 0.1 + 9, kill_and_start))
    kept = [call for call in records if is_moved(call) and call.outcome == "hung-up-by-caller"]
    report.lines.append(f"the last one killed and started again: calls that went on {len(kept)} of {count}")
