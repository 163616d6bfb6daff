"""The callers of a bench: conversations as people hold them, many at once, in one process."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import uvloop

from shared.gather import Gather
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, AiSilent, Caller, Say, Step
from simulator.carrier.client import Exchange

# What callers say: 0.5 s to 2.7 s long.
CLIPS: Final = ("tt-weasels", "vm-sorry", "tt-somethingwrong", "auth-thankyou", "hello", "vm-no")
# The model's answers are this long, so the AI speaks for somewhat more than half of each call.
ANSWER_MS: Final = 6_000
# This many of 10 turns interrupt the AI; the others wait for the end of its answer.
INTERRUPTIONS_OF_10: Final = 6
# The time between two webhooks while calls begin.
RAMP_S: Final = 0.1
# From the webhook's answer to the dialling of the media socket. Twilio first reads the TwiML, resolves a name and opens
# TCP and TLS, which takes more than 100 ms. A system that dials the model at the webhook uses that time.
CONNECT_PAUSE_S: Final = 0.15
# From the last call's beginning to the measurement, and from the measurement's end to the end of the calls.
SETTLE_S: Final = 3.0
AFTER_S: Final = 1.0


def script(rng: random.Random, seconds: float) -> list[Step]:
    """Turns for longer than the call lasts: interruptions at random moments, and polite turns."""
    steps: list[Step] = []
    for _ in range(int(seconds / 3) + 1):
        when = (
            AiHeard(ms=300, upto_ms=5_500)
            if rng.randrange(10) < INTERRUPTIONS_OF_10
            else AiSilent(ms=rng.randrange(400, 1_600, 20))
        )
        steps.append(Say(rng.choice(CLIPS), when))
    return steps


@dataclass(frozen=True)
class Callee:
    """The system to call."""

    webhook_url: str
    auth_token: str


def carry(
    callee: Callee,
    calls: int,
    seconds: float,
    *,
    seed: int,
    at: Callable[[str], None],
    connect_to: tuple[str, int] | None = None,
) -> list[CallRecord]:
    """Carry `calls` calls, all of them live for `seconds` and longer. Returns their records.

    `connect_to`: dial this host and port, whatever the URLs say.

    `at` is called with "begin" and "end" of those seconds, on the loop that carries the calls: it has to be quick.
    Afterwards it is called with "memory", in a thread, while all calls are still live.
    """
    # Present objects stay: a collection that visits them would stop all callers at once.
    gc.collect()
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 50, 100)
    try:
        return uvloop.run(_carry(callee, calls, seconds, seed, at, connect_to))
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


async def _carry(
    callee: Callee,
    calls: int,
    seconds: float,
    seed: int,
    at: Callable[[str], None],
    connect_to: tuple[str, int] | None,
) -> list[CallRecord]:
    lasting_s = calls * RAMP_S + SETTLE_S + seconds + AFTER_S
    rng = random.Random(seed)

    async def call(number: int) -> CallRecord:
        caller = Caller(script(rng, lasting_s), seed=rng.getrandbits(32), noise=True)
        await asyncio.sleep(number * RAMP_S)
        return await exchange.place_call(
            callee.webhook_url,
            callee.auth_token,
            caller=caller,
            limit_s=lasting_s - number * RAMP_S,
            connect_pause_s=CONNECT_PAUSE_S,
            connect_to=connect_to,
        )

    async with Exchange(Gather()) as exchange:
        tasks = [asyncio.create_task(call(number)) for number in range(calls)]
        await asyncio.sleep(calls * RAMP_S + SETTLE_S)
        at("begin")
        await asyncio.sleep(seconds)
        at("end")
        await asyncio.to_thread(at, "memory")
        return list(await asyncio.gather(*tasks))
