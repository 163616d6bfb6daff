"""The whole pipeline with a slow and failing REST side and database: what the caller hears, and the records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.judge import judge
from shared.liveness import HONCHO_KILL_S
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from simulator.carrier.rest import CarrierRest, Trouble
from twentyms.stack import ROOT, Stack, free_port, get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(200)]

ACCOUNT = "AC" + "0" * 32
TOKEN = "token-of-the-live-tests"
# Some for every run of the suite; the proof is ORDER_CALLS=100, half a minute.
ORDER_CALLS = int(os.environ.get("ORDER_CALLS", "20"))
# For how long PostgreSQL is stopped; POSTGRESQL_STOP_S=60 for the whole minute.
STOP_S = float(os.environ.get("POSTGRESQL_STOP_S", "3"))


@contextlib.contextmanager
def rest_side() -> Iterator[CarrierRest]:
    """Twilio's REST side on the loop of its own thread, because starting the pipeline blocks this one."""
    rest = CarrierRest(ACCOUNT, TOKEN)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(rest.__aenter__(), loop).result(10)
        try:
            yield rest
        finally:
            asyncio.run_coroutine_threadsafe(rest.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def environment(rest: CarrierRest, **more: str) -> dict[str, str]:
    return {
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "TWILIO_API_URL": rest.url,
        "RECORDING": "on",
        **more,
    }


def place(stack: Stack, callers: list[Caller], stagger_s: float, rest: CarrierRest | None = None) -> list[CallRecord]:
    """Place `callers`' calls. `rest` is served on the same loop, so that one clock and one queue order what comes."""

    async def calls() -> list[CallRecord]:
        async with contextlib.AsyncExitStack() as around:
            exchange = await around.enter_async_context(Exchange())
            if rest is not None:
                await around.enter_async_context(rest)

            async def one(number: int, caller: Caller) -> CallRecord:
                await asyncio.sleep(number * stagger_s)
                return await exchange.place_call(
                    stack.webhook_url, TOKEN, caller=caller, account_sid=ACCOUNT, limit_s=90
                )

            placed = list(await asyncio.gather(*(one(*each) for each in enumerate(callers))))
            if rest is not None:
                async with asyncio.timeout(20):
                    while not all(rest.creates(call.call_sid) for call in placed):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                await asyncio.sleep(0.5)
            return placed

    return asyncio.run(calls())


def greeted(seed: int) -> Caller:
    """A caller who listens to the greeting and hangs up."""
    return Caller([HangUp(AiSilent(ms=200))], seed=seed)


def talking(seed: int) -> Caller:
    """A caller of about 15 s: the greeting, an interrupted answer, an answer heard to its end."""
    return Caller(
        [Say("vm-sorry", AiHeard(ms=2_000)), Say("hello", AiHeard(ms=3_000)), HangUp(AiSilent(ms=500))], seed=seed
    )


def api(stack: Stack, path: str) -> dict[str, Any]:
    status, body = get(int(stack.env["METRICS_PORT"]), path)
    found: dict[str, Any] = json.loads(body) if status == 200 else {}
    return found


def complete(stack: Stack, call_sid: str, recording: str = "started") -> bool:
    """Whether everything about the call is in the database."""
    call = api(stack, f"/api/calls/{call_sid}")
    return bool(
        call
        and call["ended_at"]
        and call["transmission"]["ear_gaps"] is not None
        and call["recording"]
        and call["recording"]["state"] == recording
    )


def assert_unharmed(stack: Stack, calls: list[CallRecord]) -> None:
    for call in calls:
        verdict = judge(call, stack.sessions(call.call_sid))
        assert verdict.first_audio_ms is not None
        assert (verdict.gap_ms, verdict.cuts, verdict.damages) == (0, (), ())


def assert_recorded_once(stack: Stack, rest: CarrierRest, calls: list[CallRecord]) -> None:
    listed = [each["call_sid"] for each in api(stack, "/api/calls?limit=500")["calls"]]
    assert sorted(listed) == sorted(call.call_sid for call in calls)
    for call in calls:
        record = api(stack, f"/api/calls/{call.call_sid}")
        assert [each["stream_sid"] for each in record["streams"]] == [each.stream_sid for each in call.streams]
        assert record["transmission"]["frames"] == len(call.ear.arrival_ns)
        # A carrier that is late itself hears gaps; the record has no others.
        heard_ms = judge(call, stack.sessions(call.call_sid)).gap_ms
        assert record["transmission"]["ear_gap_ms"] <= heard_ms + 20
        assert [each.sid for each in rest.of_call(call.call_sid)] == [record["recording"]["recording_sid"]]
        items = [turn["item_id"] for turn in record["turns"]]
        assert items
        assert len(items) == len(set(items))
        assert len(record["usage"]) == 1


def test_in_every_call_the_first_frame_comes_before_the_recording(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    rest = CarrierRest(ACCOUNT, TOKEN, port=free_port())
    with Stack(env=environment(rest), log=tmp_path / "log") as stack:
        calls = place(stack, [greeted(seed) for seed in range(ORDER_CALLS)], 0.25, rest)
        wait_until(lambda: all(complete(stack, call.call_sid) for call in calls[-5:]))
        late_ms = []
        for call in calls:
            first_frame_ns = call.ear.arrival_ns[0]
            (request,) = rest.creates(call.call_sid)
            assert request.at_ns > first_frame_ns
            late_ms.append((request.at_ns - first_frame_ns) / 1e6)
            fields = dict(request.form)
            assert fields["RecordingChannels"] == "dual"
            assert fields["RecordingStatusCallback"] == f"{stack.env['PUBLIC_URL']}/twilio/recording"
            greeting = judge(call, stack.sessions(call.call_sid)).greeting
            assert greeting is not None
            assert greeting.heard_ms == greeting.total_ms
        assert_recorded_once(stack, rest, calls)
    late_ms.sort()
    median_ms = late_ms[len(late_ms) // 2]
    print(
        f"recording requested {late_ms[0]:.0f} to {late_ms[-1]:.0f} ms (median {median_ms:.0f}) after the first frame"
    )


def test_slow_and_failing_rest_and_a_locked_database_are_inaudible(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    with rest_side() as rest, Stack(env=environment(rest), log=tmp_path / "log") as stack:
        rest.troubles = [Trouble(wait_s=10), Trouble(status=500), Trouble(status=500, done=True), Trouble(status=429)]
        database = Path(stack.env["DATA_DIR"]) / "calls.db"
        wait_until(database.exists)

        def lock() -> None:
            with contextlib.closing(sqlite3.connect(database, timeout=10, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                time.sleep(8)
                connection.execute("ROLLBACK")

        locking = threading.Timer(1.0, lock)
        locking.start()
        calls = place(stack, [talking(seed) for seed in range(4)], 0.3)
        locking.join()
        wait_until(lambda: all(complete(stack, call.call_sid) for call in calls))
        assert_unharmed(stack, calls)
        assert_recorded_once(stack, rest, calls)
        (first, *_) = calls
        (recording,) = rest.of_call(first.call_sid)
        # Signed, over the gateway, into the record.
        assert asyncio.run(rest.complete(recording.sid, duration_s=11)) == 204
        wait_until(lambda: complete(stack, first.call_sid, "completed"))
        assert api(stack, f"/api/calls/{first.call_sid}")["recording"]["duration_s"] == 11


def start_callbook(stack: Stack, log: Path) -> subprocess.Popen[bytes]:
    """Start a callbook outside honcho, which ends everything when one process ends."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "callbook"],
            cwd=ROOT,
            env=stack.env,
            stdout=file,
            stderr=file,
        )


def test_a_killed_callbook_and_a_stopped_postgresql_lose_and_double_no_record(
    tmp_path: Path, postgres: Any, wait_until: Callable[..., None]
) -> None:
    url = postgres.new_database().render_as_string(hide_password=False)
    with rest_side() as rest:
        env = environment(rest, DATABASE_URL=url)
        with Stack(env=env, log=tmp_path / "log", processes=("gateway", "txpacer", "aibridge")) as stack:
            callbook = start_callbook(stack, tmp_path / "callbook")
            wait_until(lambda: get(int(stack.env["METRICS_PORT"]), "/api/calls")[0] == 200)

            def trouble() -> None:
                nonlocal callbook
                callbook.send_signal(signal.SIGKILL)
                callbook.wait()
                postgres.stop()
                time.sleep(1)
                callbook = start_callbook(stack, tmp_path / "callbook")
                time.sleep(STOP_S)
                callbook.send_signal(signal.SIGKILL)
                callbook.wait()
                callbook = start_callbook(stack, tmp_path / "callbook")
                postgres.start()

            troubling = threading.Timer(4.0, trouble)
            troubling.start()
            try:
                calls = place(stack, [talking(seed) for seed in range(4)], max(0.7, STOP_S / 4))
                troubling.join()
                wait_until(lambda: all(complete(stack, call.call_sid) for call in calls), 30)
                assert_unharmed(stack, calls)
                assert_recorded_once(stack, rest, calls)
            finally:
                troubling.join()
                callbook.terminate()
                callbook.wait()


def test_a_call_that_is_live_when_everything_stops_ends_in_the_records_with_its_turns(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Stack(env={"DATA_DIR": str(data)}, log=tmp_path / "log") as stack:

        async def stop_in_mid_call() -> float:
            async with Exchange() as exchange:
                listening = Caller([HangUp(AiSilent(ms=60_000))], seed=1)
                call = asyncio.create_task(exchange.place_call(stack.webhook_url, stack.auth_token, caller=listening))
                await asyncio.sleep(6)
                began = time.monotonic()
                os.kill(stack.pipeline_pid, signal.SIGTERM)
                await asyncio.to_thread(stack.wait)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                return time.monotonic() - began

        assert asyncio.run(stop_in_mid_call()) < HONCHO_KILL_S
    with contextlib.closing(sqlite3.connect(data / "calls.db")) as database:
        ((ended_at, reason),) = database.execute("SELECT ended_at, end_reason FROM calls").fetchall()
        turns = database.execute("SELECT heard_text FROM turns").fetchall()
    assert (bool(ended_at), reason) == (True, "hung-up")
    assert any(heard for (heard,) in turns)
