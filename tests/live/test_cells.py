"""Two whole cells on one machine, and a store: what a caller hears, and what the model knows, when a cell dies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, NamedTuple

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("redis")

from proofs.cell_processes import processes
from proofs.judge import judge
from proofs.redis_server import PROGRAM, RedisServer
from proofs.retold import forgotten
from proofs.spoken import listen, read_sessions
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange, sid
from twentyms.stack import Stack, free_port, get

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(150),
    pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed: apt-get install redis-server"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Cells(NamedTuple):
    front: int
    first: Stack
    second: Stack
    store: RedisServer


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cells]:
    """Two cells behind the port `front`, which `forwarded` has to serve. The model server of the first serves both."""
    tmp_path = tmp_path_factory.mktemp("cells")
    store = RedisServer(tmp_path)
    front = free_port()
    env = {
        "PUBLIC_URL": f"http://127.0.0.1:{front}",
        "TWILIO_AUTH_TOKEN": secrets.token_hex(16),
        "FLEET": "on",
        "DATABASE_URL": f"sqlite:///{tmp_path}/calls.db",
        "STATE_URL": store.url,
        "STATE_KEY": base64.b64encode(os.urandom(32)).decode(),
    }
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    try:
        with Stack(env={**env, "CELL": "first"}, model=("--keep-input",), log=logs[0]) as first:
            model = {"OPENAI_BASE_URL": f"http://127.0.0.1:{first.model_port}/v1"}
            with Stack(env={**env, **model, "CELL": "second"}, log=logs[1]) as second:
                yield Cells(front, first, second, store)
    finally:
        store.kill()
    for log in logs:
        assert "Traceback" not in log.read_text()


@contextlib.asynccontextmanager
async def forwarded(cells: Cells) -> AsyncIterator[None]:
    """A proxy that gives each connection to the first cell that takes it."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for cell in (cells.first, cells.second):
            with contextlib.suppress(OSError):
                cell_reader, cell_writer = await asyncio.open_connection("127.0.0.1", cell.gateway_port)
                await asyncio.gather(pump(reader, cell_writer), pump(cell_reader, writer))
                return
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", cells.front)
    yield
    server.close()


def power_off(cell: Stack) -> None:
    """Every process of the cell at once, without a word."""
    for pid in (cell.pipeline_pid, *(each.pid for each in processes(cell.run_dir))):
        os.kill(pid, signal.SIGKILL)


def call(cells: Cells, exchange: Exchange, caller: Caller) -> Coroutine[Any, Any, CallRecord]:
    token = cells.first.env["TWILIO_AUTH_TOKEN"]
    return exchange.place_call(cells.first.webhook_url, token, caller=caller, call_sid=sid("CA"), limit_s=60)


def metric(cell: Stack, series: str, label: str = "") -> float:
    text = get(int(cell.env["METRICS_PORT"]), "/metrics")[1].decode()
    lines = [line for line in text.splitlines() if line.startswith(f"twentyms_{series}") and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_a_store_that_is_frozen_killed_and_empty_is_inaudible(cells: Cells) -> None:
    caller = Caller([Say("hello", AiSilent(ms=300)), HangUp(AfterAnswer(ms=14_000))], seed=1, noise=True)

    async def run() -> CallRecord:
        async with forwarded(cells), Exchange() as exchange:
            placed = asyncio.create_task(call(cells, exchange, caller))
            await asyncio.sleep(2)
            cells.store.freeze()
            await asyncio.sleep(4)
            assert metric(cells.first, "callbook_store_up") == 0
            cells.store.thaw()
            cells.store.kill()
            await asyncio.sleep(2)
            assert get(cells.first.gateway_port, "/readyz")[0] == 200
            cells.store.start()
            record = await placed
        return record

    record = asyncio.run(run())
    verdict = judge(record, cells.first.sessions(record.call_sid))
    assert (record.outcome, len(record.streams)) == ("hung-up-by-caller", 1)
    assert (verdict.gaps, verdict.damages, verdict.history_error_ms) == ((), (), 0)
    assert metric(cells.first, "callbook_store_up") == 1
    assert metric(cells.first, "callbook_store_failures_total", 'why="slow"') > 0
    assert metric(cells.first, "callbook_store_failures_total", 'why="gone"') > 0


def test_a_conversation_goes_on_in_another_cell_when_its_cell_loses_power(cells: Cells) -> None:
    """It is cut in an answer of 13 s."""
    caller = Caller([Say("hello", AiSilent(ms=300)), HangUp(AfterAnswer(ms=24_000))], seed=1, noise=True)

    async def run() -> tuple[CallRecord, int]:
        async with forwarded(cells), Exchange() as exchange:
            placed = asyncio.create_task(call(cells, exchange, caller))
            await asyncio.sleep(11)
            off_ns = time.monotonic_ns()
            power_off(cells.first)
            return await placed, off_ns

    record, off_ns = asyncio.run(run())
    sessions = cells.first.sessions(record.call_sid)
    spoken, _ = listen(record, read_sessions(sessions))
    fresh_ns = min((each.began_ns for each in spoken if each.session and each.heard), default=0)
    print(f"{(fresh_ns - off_ns) / 1e6:.0f} ms from the loss of power to new words; then told: {sessions[-1]['told']}")
    assert record.outcome == "hung-up-by-caller"
    assert (len(record.streams), len(sessions)) == (2, 2)
    assert list(forgotten(spoken, sessions, {0})) == []
    assert metric(cells.second, "aibridge_calls_from_other_cells") == 1
    assert 0 < fresh_ns - off_ns < 2_000_000_000
    greeting, cut = (each for each in spoken if not each.session)
    heard_ms = cut.heard_bytes / 8

    def recorded() -> dict[str, Any]:
        whole: dict[str, Any] = json.loads(
            get(int(cells.second.env["METRICS_PORT"]), f"/api/calls/{record.call_sid}")[1]
        )
        return whole

    deadline = time.monotonic() + 10
    while not (whole := recorded())["ended_at"] and time.monotonic() < deadline:
        time.sleep(0.1)
    print([(turn["role"], turn["heard_text"], turn["heard_ms"]) for turn in whole["turns"]], heard_ms)
    assert (whole["cell"], whole["end_reason"]) == ("second", "stop")
    assert [stream["cell"] for stream in whole["streams"]] == ["first", "second"]
    assert [turn["role"] for turn in whole["turns"]] == ["ai", "caller", "ai", "ai"]
    assert whole["turns"][0]["heard_text"] == greeting.truth.transcript
    # Half a second at most is said twice, and none is missing.
    assert heard_ms - 600 < whole["turns"][2]["heard_ms"] <= heard_ms + 20
