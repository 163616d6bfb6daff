"""Processes die in mid-conversation, under supervisord as in production: what the caller hears of each."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from simulator.caller import AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier import CallRecord
from simulator.carrier_client import Exchange
from simulator.cell_processes import pacing, processes
from simulator.judge import judge
from simulator.stack import ROOT, Stack
from simulator.verdict import Verdict

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(150),
    # A gateway that is killed in the midst of a handshake leaves the carrier's side of the socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CALLS = 4


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    log = tmp_path_factory.mktemp("failures") / "log"
    with Stack(log=log, supervised=True) as started:
        yield started
    assert processes(started.run_dir) == []
    assert not started.run_dir.exists()
    assert "Traceback" not in log.read_text()


def script(seed: int) -> Caller:
    """The greeting, and two answers, each heard for some seconds."""
    return Caller(
        [Say("hello", AiSilent(ms=300)), Say("auth-thankyou", AiHeard(ms=5_000)), HangUp(AiHeard(ms=5_000))], seed=seed
    )


def calls_during(stack: Stack, harm: list[tuple[float, str]]) -> list[tuple[CallRecord, Verdict]]:
    """CALLS calls; `harm` says after how many seconds what is killed."""

    async def run() -> list[CallRecord]:
        async with Exchange() as exchange:
            placed = [
                asyncio.create_task(exchange.place_call(stack.webhook_url, stack.auth_token, caller=script(number)))
                for number in range(CALLS)
            ]
            for after_s, name in harm:
                await asyncio.sleep(after_s)
                one_of_them = next(each for each in processes(stack.run_dir) if each.name == name)
                os.kill((pacing(stack.run_dir) if name == "txpacer" else one_of_them).pid, signal.SIGKILL)
            return list(await asyncio.gather(*placed))

    records = asyncio.run(run())
    return [(record, judge(record, stack.sessions(record.call_sid))) for record in records]


def damage(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.lost_bytes, verdict.doubled_bytes, verdict.out_of_order_bytes, verdict.invented_bytes


def test_txpacer_killed_costs_a_gap_below_a_second_and_not_a_byte(stack: Stack) -> None:
    for record, verdict in calls_during(stack, [(2.0, "txpacer"), (4.0, "txpacer"), (4.0, "txpacer")]):
        gaps = [round(gap.ms) for gap in verdict.gaps]
        print(f"gaps {gaps} ms, {verdict.history_error_ms} ms of history error")
        assert damage(verdict) == (0, 0, 0, 0)
        assert verdict.history_error_ms == 0
        assert 0 < max(gaps, default=0) < 1_000
        assert not verdict.cuts
        assert record.outcome == "hung-up-by-caller"


def test_a_gateway_killed_costs_a_gap_and_the_conversation_goes_on_at_the_other(stack: Stack) -> None:
    moved = 0
    for record, verdict in calls_during(stack, [(2.5, "gateway"), (5.0, "gateway")]):
        gaps = [round(gap.ms) for gap in verdict.gaps]
        print(
            f"{len(record.streams)} streams, gaps {gaps} ms, history {verdict.history_error_ms} ms, {damage(verdict)}"
        )
        assert record.outcome == "hung-up-by-caller"
        # When exactly the ear stopped, nobody can say: up to 200 ms may be heard twice, or not at all.
        assert verdict.invented_bytes == 0
        assert sum(damage(verdict)) <= 1_600
        assert len(stack.sessions(record.call_sid)) == 1
        moved += len(record.streams) == 2
    assert moved


def test_callbook_killed_is_not_heard(stack: Stack) -> None:
    for record, verdict in calls_during(stack, [(7.0, "callbook")]):
        assert not verdict.problems(tolerance_ms=100)
        assert len(record.streams) == 1


def test_a_worker_killed_loses_no_conversation(stack: Stack) -> None:
    """Both workers die, one after the other: what is in the line plays on, and the model is told what was said."""
    for record, verdict in calls_during(stack, [(2.5, "aibridge"), (6.0, "aibridge")]):
        sessions = stack.sessions(record.call_sid)
        told = [len(session["items"]) for session in sessions]
        print(f"{len(sessions)} sessions of {told} items, gaps {[round(gap.ms) for gap in verdict.gaps]} ms")
        assert record.outcome == "hung-up-by-caller"
        assert len(record.streams) == 1
        assert verdict.invented_bytes == verdict.doubled_bytes == verdict.out_of_order_bytes == 0


def test_every_process_is_replaced_in_turn_and_no_call_is_lost(stack: Stack) -> None:
    def restart(*names: str) -> None:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", "deploy/supervisord.conf", "restart", *names]
        subprocess.run(command, cwd=ROOT, env=stack.env, check=True, stdout=subprocess.DEVNULL)

    async def run() -> list[CallRecord]:
        async with Exchange() as exchange:
            placed = [
                asyncio.create_task(exchange.place_call(stack.webhook_url, stack.auth_token, caller=script(number)))
                for number in range(CALLS)
            ]
            await asyncio.sleep(1.5)
            for name in ("txpacer:txpacer.1", "txpacer:txpacer.2", "aibridge:aibridge.1", "callbook"):
                await asyncio.to_thread(restart, name)
                await asyncio.sleep(1.5)
            # Returns when its last call is over.
            await asyncio.to_thread(restart, "gateway:gateway.1")
            return list(await asyncio.gather(*placed))

    for record in asyncio.run(run()):
        verdict = judge(record, stack.sessions(record.call_sid))
        print(f"gaps {[round(gap.ms) for gap in verdict.gaps]} ms")
        assert record.outcome == "hung-up-by-caller"
        assert len(record.streams) == 1
        assert damage(verdict) == (0, 0, 0, 0)
