"""Processes that are stopped in mid-answer: inaudible below the lead, one counted gap above it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proofs.judge import judge
from proofs.verdict import Verdict
from simulator.carrier.caller import AiHeard, Caller, HangUp
from simulator.carrier.client import Exchange
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(90)]

# When something stops, in seconds of a call, and how long the answer is: the model delivers it in a fifth of that.
AT_S = 3.0
ANSWER_MS = 8_000
HEARD_MS = 6_000
# A call in which the carrier itself was later than this says nothing about the system; it is made again.
VOID_MS = 15
TRIES = 4


@dataclass(frozen=True)
class Heard:
    verdict: Verdict
    # What each counter of /metrics rose by, summed over its labels.
    rose: dict[str, float]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    directory = tmp_path_factory.mktemp("stalls")
    behaviour = directory / "behaviour.json"
    behaviour.write_text(json.dumps({"answer_ms": ANSWER_MS}))
    with Stack(log=directory / "log", model=("--behaviour", str(behaviour))) as up:
        # callbook is the last process to come up; no call waits for it.
        while get(int(up.env["METRICS_PORT"]), "/metrics")[0] != 200:
            time.sleep(0.05)
        yield up, directory / "log"


def pid_of(log: Path, process: str) -> int:
    """honcho says which process it started under which number."""
    for line in log.read_text().splitlines():
        if f"{process}.1 started (pid=" in line:
            return int(line.rpartition("=")[2].rstrip(")"))
    raise LookupError(process)


def scrape(up: Stack) -> bytes:
    status, text = get(int(up.env["METRICS_PORT"]), "/metrics")
    assert status == 200
    return text


def counters(up: Stack) -> dict[str, float]:
    totals: dict[str, float] = {}
    for line in scrape(up).decode().splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            totals[name] = totals.get(name, 0) + float(value)
    return totals


def call_while(process: str, stop_ms: int, up: Stack, log: Path) -> Heard:
    """One call; in the middle of the answer `process` stands still for `stop_ms`."""

    async def stop() -> None:
        await asyncio.sleep(AT_S)
        pid = pid_of(log, process)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(stop_ms / 1e3)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def call() -> Verdict:
        async with Exchange() as exchange:
            caller = Caller([HangUp(AiHeard(ms=HEARD_MS))], seed=1)
            stopping = asyncio.create_task(stop())
            record = await exchange.place_call(up.webhook_url, up.auth_token, caller=caller)
            await stopping
        return judge(record, up.sessions(record.call_sid))

    for _ in range(TRIES):
        before = counters(up)
        verdict = asyncio.run(call())
        after = counters(up)
        if verdict.lag_max_ms <= VOID_MS:
            return Heard(verdict, {name: value - before.get(name, 0) for name, value in after.items()})
    pytest.skip(f"this machine is too busy: the carrier itself was {verdict.lag_max_ms:.0f} ms late")


@pytest.mark.parametrize(("process", "stop_ms"), [("aibridge", 2_000), ("callbook", 2_000), ("gateway", 100)])
def test_freezing_a_process_for_less_than_its_reserve_is_inaudible(
    process: str, stop_ms: int, stack: tuple[Stack, Path]
) -> None:
    heard = call_while(process, stop_ms, *stack)
    assert heard.verdict.speech_ms > 5_000
    assert heard.verdict.gap_ms == 0
    assert not heard.verdict.damages
    assert heard.rose["twentyms_tx_stall_total"] == 0


def test_freezing_a_gateway_for_longer_than_the_lead_costs_one_gap_and_no_byte(
    stack: tuple[Stack, Path],
) -> None:
    heard = call_while("gateway", 400, *stack)
    verdict = heard.verdict
    print(f"gaps of {[gap.ms for gap in verdict.gaps]} ms")
    assert len(verdict.gaps) == 1
    # 400 ms less what the ear held: the lead, or up to a frame less where the stop began between two frames.
    assert 270 <= verdict.gap_ms <= 330
    assert not verdict.damages
    assert heard.rose["twentyms_tx_stall_total"] == 1
    assert 0.38 < heard.rose["twentyms_tx_stall_seconds_total"] < 0.46
    assert heard.rose["twentyms_tx_reanchored_total"] == 1


def test_promtool_accepts_the_scraped_metrics(stack: tuple[Stack, Path]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    text = scrape(stack[0])
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    for process in ("gateway-0", "txpacer", "aibridge-0", "callbook"):
        assert f'process="{process}"'.encode() in text
    assert b"call=" not in text
