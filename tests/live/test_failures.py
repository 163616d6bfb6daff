"""Processes are killed in mid-conversation, under supervisord as in production: what the caller hears."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from aibridge.core.keypad import in_words
from proofs.acts import Act, Deed
from proofs.cell_processes import pacing, processes
from proofs.judge import judge
from proofs.key_scenarios import press
from proofs.nemesis_check import problems_of
from proofs.spoken import listen, read_sessions
from proofs.verdict import Verdict
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange, sid
from twentyms.stack import ROOT, Stack, get

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(150),
    # A gateway that is killed during a handshake leaves the carrier's side of the socket to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CALLS = 4


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    log = tmp_path_factory.mktemp("failures") / "log"
    with Stack(log=log, model=("--keep-input",), supervised=True) as started:
        yield started
    assert processes(started.run_dir) == []
    assert started.left == ()
    assert "Traceback" not in log.read_text()


def script(seed: int) -> Caller:
    """The greeting, and two answers, each heard for some seconds."""
    return Caller(
        [Say("hello", AiSilent(ms=300)), Say("auth-thankyou", AiHeard(ms=5_000)), HangUp(AiHeard(ms=5_000))],
        seed=seed,
        noise=True,
    )


def pid_of(stack: Stack, name: str) -> int:
    """A process of that name: the txpacer that paces, the aibridge worker that has the call."""
    if name == "txpacer":
        return pacing(stack.run_dir).pid
    if name == "aibridge":
        return talker(stack)
    return next(each.pid for each in processes(stack.run_dir) if each.name == name)


def talker(stack: Stack) -> int:
    """The pid of the worker that has the call."""
    lines = get(int(stack.env["METRICS_PORT"]), "/metrics")[1].decode().splitlines()
    busy = next(line for line in lines if line.startswith("twentyms_bridge_calls{") and line.endswith(" 1.0"))
    number = int(busy.partition('process="aibridge-')[2].partition('"')[0]) + 1
    return next(each.pid for each in processes(stack.run_dir) if (each.name, each.number) == ("aibridge", number))


def killing(
    stack: Stack, name: str, *after_s: float, calls: int = CALLS
) -> tuple[list[tuple[CallRecord, Verdict]], list[Deed]]:
    """Carry calls while a process of that name is killed; the kill explains all damage that the checker finds."""
    deeds: list[Deed] = []

    async def run() -> list[CallRecord]:
        sids = tuple(sid("CA") for _ in range(calls))
        async with Exchange() as exchange:
            placed = [
                asyncio.create_task(
                    exchange.place_call(stack.webhook_url, stack.auth_token, caller=script(number), call_sid=call_sid)
                )
                for number, call_sid in enumerate(sids)
            ]
            for seconds in after_s:
                await asyncio.sleep(seconds)
                pid, at_ns = pid_of(stack, name), time.monotonic_ns()
                os.kill(pid, signal.SIGKILL)
                deeds.append(Deed(Act(seconds, "kill", name, 0), at_ns, time.monotonic_ns(), sids))
            return list(await asyncio.gather(*placed))

    found = []
    for record in asyncio.run(run()):
        problems, verdict = problems_of(record, stack.sessions(record.call_sid), deeds)
        assert problems == []
        found.append((record, verdict))
    return found, deeds


def test_killing_txpacer_costs_a_gap_below_a_second_and_no_byte(stack: Stack) -> None:
    for _, verdict in killing(stack, "txpacer", 2.0, 4.0, 4.0)[0]:
        print(f"gaps {[round(gap.ms) for gap in verdict.gaps]} ms, {verdict.history_error_ms} ms of history error")
        assert (verdict.damages, verdict.cuts, verdict.history_error_ms) == ((), (), 0)
        # The lead may hide it altogether.
        assert max((gap.ms for gap in verdict.gaps), default=0) < 1_000


def test_killing_a_gateway_costs_its_callers_a_gap_and_they_go_on_at_the_other_gateway(stack: Stack) -> None:
    moved = 0
    for record, verdict in killing(stack, "gateway", 2.5, 5.0)[0]:
        gaps = [round(gap.ms) for gap in verdict.gaps]
        print(
            f"{len(record.streams)} streams, gaps {gaps} ms, history {verdict.history_error_ms} ms,"
            f" {verdict.damaged_bytes()} bytes heard twice"
        )
        # What it had not said is said, at once.
        assert not verdict.cuts
        assert max(gaps, default=0) < 1_000
        assert len(stack.sessions(record.call_sid)) == 1
        moved += len(record.streams) == 2
    assert moved


def test_killing_callbook_is_inaudible(stack: Stack) -> None:
    for record, verdict in killing(stack, "callbook", 7.0)[0]:
        assert not verdict.problems(tolerance_ms=100)
        assert len(record.streams) == 1


def test_killing_a_worker_loses_no_conversation(stack: Stack) -> None:
    """The worker that has the call is killed: the line plays on, and the successor knows what was said."""
    ((record, verdict),), (deed,) = killing(stack, "aibridge", 8.0, calls=1)
    sessions = stack.sessions(record.call_sid)
    spoken, _ = listen(record, read_sessions(sessions))
    fresh_ns = min((each.began_ns for each in spoken if each.session and each.heard), default=0)
    silent_ns = max(each.ended_ns for each in spoken if not each.session and each.heard)
    print(
        f"{len(sessions)} sessions; {(fresh_ns - deed.began_ns) / 1e6:.0f} ms from the kill to new words,"
        f" {(fresh_ns - silent_ns) / 1e6:.0f} ms of them silent"
    )
    assert (len(record.streams), len(sessions)) == (1, 2)
    assert (verdict.damages, verdict.gaps) == ((), ())
    # Only what the model was saying in that instant.
    at_work = {each.truth.item_id for each in spoken if not each.session and each.response.done_ns is None}
    assert {cut.item_id for cut in verdict.cuts} <= at_work
    assert fresh_ns


def test_speech_that_a_stalled_worker_has_not_read_is_answered_by_its_successor(stack: Stack) -> None:
    """The caller speaks to a stalled worker, and is silent again when another worker takes over the call."""
    speaks_ms, stopped_s = 9_000, 5.0
    caller = Caller([Say("auth-thankyou", AfterAnswer(ms=speaks_ms)), HangUp(AfterAnswer(ms=18_000))], seed=1)

    async def run() -> CallRecord:
        async with Exchange() as exchange:
            placed = asyncio.create_task(exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller))
            await asyncio.sleep(speaks_ms / 1e3 - 0.3)
            pid = talker(stack)
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(stopped_s)
            finally:
                os.kill(pid, signal.SIGCONT)
            return await placed

    record = asyncio.run(run())
    sessions = stack.sessions(record.call_sid)
    verdict = judge(record, sessions)
    answers = [each for each in listen(record, read_sessions(sessions))[0] if each.session and each.heard]
    (said,) = record.said
    print(f"answered {[round((each.began_ns - said.at_ns) / 1e6) for each in answers]} ms after the words began")
    assert len(sessions) == 2
    assert len(answers) == 1
    assert not verdict.unanswered
    assert not verdict.damages


def test_keys_that_are_pressed_while_their_worker_dies_reach_the_model_once(stack: Stack) -> None:
    steps = [*press("123456#", AfterAnswer(ms=6_000)), HangUp(AfterAnswer(ms=16_000))]

    async def run() -> CallRecord:
        async with Exchange() as exchange:
            call = exchange.place_call(stack.webhook_url, stack.auth_token, caller=Caller(steps, noise=True))
            placed = asyncio.create_task(call)
            await asyncio.sleep(6.9)
            os.kill(talker(stack), signal.SIGKILL)
            return await placed

    sessions = stack.sessions(asyncio.run(run()).call_sid)
    assert len(sessions) == 2
    assert [each["text"] for each in sessions[-1]["told"] if each["role"] == "user"] == [in_words("123456")]


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
        assert not verdict.damages
