"""Listening in: the listener hears what both sides hear, and the calls do not notice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from callbook.listening import LISTENERS_MAX
from proofs.judge import judge
from shared.overheard import AI, CALLER
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(90)]

CALLS = 20


def script(seed: int) -> Caller:
    return Caller([Say("hello", AiHeard(ms=1_500)), HangUp(AiHeard(ms=3_000))], seed=seed, noise=True)


async def hear(port: int, call_sid: str, heard: dict[int, bytearray]) -> None:
    async with connect(f"ws://127.0.0.1:{port}/live/{call_sid}/listen", proxy=None) as socket:
        async for message in socket:
            assert isinstance(message, bytes)
            while message:
                end = 3 + int.from_bytes(message[1:3], "big")
                heard[message[0]] += message[3:end]
                message = message[end:]


def test_ten_listeners_hear_all_that_both_sides_hear_and_twenty_calls_notice_nothing(tmp_path: Path) -> None:
    call_sids = [f"CA{number:032x}" for number in range(CALLS)]
    heard = {call_sid: {CALLER: bytearray(), AI: bytearray()} for call_sid in call_sids[:LISTENERS_MAX]}

    with Stack(log=tmp_path / "log") as stack:

        async def calls() -> list[CallRecord]:
            port = int(stack.env["METRICS_PORT"])
            while get(port, "/api/live")[0] != 200:  # noqa: ASYNC110  # callbook starts last
                await asyncio.sleep(0.05)
            listening = [asyncio.create_task(hear(port, call_sid, heard[call_sid])) for call_sid in heard]
            await asyncio.sleep(2)  # a gateway looks for subscriptions once a second
            async with Exchange() as exchange:
                placed = [
                    exchange.place_call(stack.webhook_url, stack.auth_token, caller=script(number), call_sid=call_sid)
                    for number, call_sid in enumerate(call_sids)
                ]
                records = await asyncio.gather(*placed)
            await asyncio.sleep(0.2)
            for task in listening:
                task.cancel()
            ended = await asyncio.gather(*listening, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
            return list(records)

        records = asyncio.run(calls())
        verdicts = [judge(record, stack.sessions(record.call_sid)) for record in records]
    problems = [f"call {n}: {p}" for n, verdict in enumerate(verdicts) for p in verdict.problems()]
    print(f"{sum(each.gap_ms for each in verdicts):.0f} ms of gap in {CALLS} calls, {len(heard)} of them listened to")
    assert not problems
    for record in records[:LISTENERS_MAX]:
        for side, whole in ((CALLER, record.sent_audio()), (AI, record.ear.audio)):
            copy = bytes(heard[record.call_sid][side])
            # What was said while the caller hung up may be missing on either side.
            common = min(len(copy), len(whole))
            assert copy[:common] == whole[:common]
            assert abs(len(copy) - len(whole)) < 2_000
            assert common > 8_000
