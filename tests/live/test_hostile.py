"""Strangers at the port while calls go on: their ears notice nothing."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.caller import AiHeard, Caller, HangUp, Say
from simulator.carrier import CallRecord
from simulator.carrier_client import Exchange
from simulator.judge import judge
from simulator.stack import ROOT, Stack

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
    # An attacker's handshake that was cut leaves its side of the socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CALLS = 20
HOSTILE = 1_000


def script(seed: int) -> Caller:
    rng = random.Random(seed)
    return Caller(
        [
            Say("hello", AiHeard(ms=rng.randrange(2_000, 4_000))),
            Say("auth-thankyou", AiHeard(ms=2_000, upto_ms=4_000)),
            HangUp(AiHeard(ms=3_000)),
        ],
        seed=seed,
    )


def test_a_thousand_hostile_connections_beside_twenty_calls_are_not_heard(tmp_path: Path) -> None:
    with Stack(log=tmp_path / "log") as stack:

        async def calls() -> list[CallRecord]:
            async with Exchange() as exchange:

                async def one(number: int) -> CallRecord:
                    await asyncio.sleep(number * 0.1)
                    return await exchange.place_call(stack.webhook_url, stack.auth_token, caller=script(number))

                return list(await asyncio.gather(*(one(n) for n in range(CALLS))))

        command = [sys.executable, "-m", "simulator.hostile", str(stack.gateway_port), "--count", str(HOSTILE)]
        with subprocess.Popen(command, cwd=ROOT, env=stack.env, stdout=subprocess.PIPE, text=True) as hostile:
            records = asyncio.run(calls())
            said, _ = hostile.communicate(timeout=60)
        assert hostile.returncode == 0
        print(said.strip())
        verdicts = [judge(record, stack.sessions(record.call_sid)) for record in records]
    # The attack takes CPU that the model and the carrier want, too: what they notice late is not what is asked here.
    problems = [f"call {n}: {p}" for n, verdict in enumerate(verdicts) for p in verdict.problems(tolerance_ms=100)]
    gaps = sum(verdict.gap_ms for verdict in verdicts)
    print(f"{len(verdicts)} calls, {sum(v.speech_ms for v in verdicts) / 1_000:.0f} s of speech, {gaps:.0f} ms of gaps")
    assert gaps == 0
    assert not problems
    assert "Traceback" not in (tmp_path / "log").read_text()
