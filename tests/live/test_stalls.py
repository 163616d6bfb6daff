"""Processes stopped in mid-answer, and what the caller hears of it: nothing below the lead, one counted gap above."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulator.caller import AiHeard, Caller, HangUp
from simulator.carrier_client import Exchange
from simulator.judge import judge
from simulator.stack import Stack, get
from simulator.verdict import Verdict

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

# Where the answer is when something stops, and how long it is: the model delivers it in a fifth of that.
AT_S = 4.0
ANSWER_MS = 12_000


@dataclass(frozen=True)
class Heard:
    verdict: Verdict
    # Samples of /metrics after the call, by name and labels.
    metrics: dict[str, float]
    text: bytes

    def total(self, name: str) -> float:
        return sum(value for series, value in self.metrics.items() if series.partition("{")[0] == name)


def pid_of(log: Path, process: str) -> int:
    """honcho says which process it started under which number."""
    for line in log.read_text().splitlines():
        if f"{process}.1 started (pid=" in line:
            return int(line.rpartition("=")[2].rstrip(")"))
    raise LookupError(process)


def call_while(process: str, stop_ms: int, directory: Path) -> Heard:
    """One call; in the middle of the answer `process` stands still for `stop_ms`."""
    behaviour = directory / "behaviour.json"
    behaviour.write_text(json.dumps({"answer_ms": ANSWER_MS}))
    log = directory / "log"
    with Stack(log=log, model=("--behaviour", str(behaviour))) as stack:

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
                caller = Caller([HangUp(AiHeard(ms=ANSWER_MS - 2_000))], seed=1)
                stopping = asyncio.create_task(stop())
                record = await exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller)
                await stopping
            return judge(record, stack.sessions(record.call_sid))

        verdict = asyncio.run(call())
        status, text = get(int(stack.env["METRICS_PORT"]), "/metrics")
        assert status == 200
    lines = (line for line in text.decode().splitlines() if not line.startswith("#"))
    return Heard(verdict, {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}, text)


def damage(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.lost_bytes, verdict.doubled_bytes, verdict.out_of_order_bytes, verdict.invented_bytes


@pytest.mark.parametrize(("process", "stop_ms"), [("aibridge", 2_000), ("callbook", 2_000), ("gateway", 100)])
def test_what_stops_for_less_than_its_reserve_is_not_heard(process: str, stop_ms: int, tmp_path: Path) -> None:
    heard = call_while(process, stop_ms, tmp_path)
    assert heard.verdict.speech_ms > 9_000
    assert heard.verdict.gap_ms == 0
    assert damage(heard.verdict) == (0, 0, 0, 0)
    assert heard.total("twentyms_tx_stall_total") == 0


def test_a_gateway_that_stops_for_longer_is_one_gap_and_one_stall_and_no_byte_is_lost(tmp_path: Path) -> None:
    heard = call_while("gateway", 400, tmp_path)
    verdict = heard.verdict
    print(f"gaps of {[gap.ms for gap in verdict.gaps]} ms")
    assert len(verdict.gaps) == 1
    # 400 ms less what the ear held: the lead, and up to one frame less where the stop began between two frames.
    assert 270 <= verdict.gap_ms <= 330
    assert damage(verdict) == (0, 0, 0, 0)
    assert heard.total("twentyms_tx_stall_total") == 1
    assert 0.38 < heard.total("twentyms_tx_stall_seconds_total") < 0.46
    assert heard.total("twentyms_pacer_reanchored_total") == 1
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    done = subprocess.run(["promtool", "check", "metrics"], input=heard.text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
