"""Real processes, real time: the pipeline as `make run` starts it, with the simulated model and carrier."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from proofs.judge import judge
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from twentyms.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

CALLS = 20
# The calls start within this time.
STAGGER_S = 2.0


def script(seed: int) -> Caller:
    """A greeting spoken into while it is protected, an answer interrupted anywhere in its first 3 s, a polite end."""
    rng = random.Random(seed)
    return Caller(
        [
            Say("vm-no", AiHeard(ms=rng.randrange(0, 400), talkspurt=1)),
            Say("hello", AiHeard(ms=600, upto_ms=3_000)),
            Say("auth-thankyou", AiHeard(ms=800, upto_ms=2_000)),
            HangUp(AiHeard(ms=1_500)),
        ],
        seed=seed,
        noise=True,
    )


def test_twenty_calls_at_once_keep_every_promise(tmp_path: Path) -> None:
    # Fast enough that most answers are generated when they are interrupted, slow enough that some are not.
    with Stack(log=tmp_path / "log", model=("--speed", "4", "--keep-input")) as stack:

        async def calls() -> list[CallRecord]:
            async with Exchange() as exchange:

                async def one(number: int) -> CallRecord:
                    await asyncio.sleep(number * STAGGER_S / CALLS)
                    return await exchange.place_call(stack.webhook_url, stack.auth_token, caller=script(number))

                return list(await asyncio.gather(*(one(n) for n in range(CALLS))))

        records = asyncio.run(calls())
        verdicts = [judge(record, stack.sessions(record.call_sid)) for record in records]
    problems = [f"call {n}: {p}" for n, verdict in enumerate(verdicts) for p in verdict.problems()]
    silences = sorted(i.silence_ms for v in verdicts for i in v.interruptions)
    print(f"{len(silences)} interruptions, silent after {silences[len(silences) // 2]:.0f} ms (median)")
    assert not problems
    assert len(silences) >= 2 * CALLS
    assert all(verdict.inbound is not None for verdict in verdicts)


@pytest.mark.slow
def test_speech_at_pick_up_does_not_delay_the_greeting_and_is_answered(tmp_path: Path) -> None:
    with Stack(log=tmp_path / "log") as stack:
        caller = Caller([Say("hello", AfterAnswer(ms=0)), HangUp(AiSilent(ms=400))], seed=1)

        async def call() -> CallRecord:
            async with Exchange() as exchange:
                return await exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller)

        record = asyncio.run(call())
        verdict = judge(record, stack.sessions(record.call_sid))
    assert not verdict.problems()
    assert verdict.greeting is not None
    assert verdict.greeting.heard_ms >= 500
