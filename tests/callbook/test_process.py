"""callbook as a process: facts become records, across crashes at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from callbook import models
from callbook.__main__ import check
from callbook.database import open_engine
from shared import bus
from shared.courier import Courier
from shared.facts import StreamBegan, StreamEnded, Turn
from shared.metrics import FACTS, Page
from shared.process import ConfigError
from shared.settings import read_settings
from twentyms.stack import free_port, get

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
T0 = 1_790_000_000_000


@contextlib.contextmanager
def places(tmp_path, url):
    """RUN_DIR (short enough for sockets) and the environment of a callbook."""
    run_dir = Path("/tmp") / f"cb-{os.getpid()}-{random.randrange(10**6)}"
    run_dir.mkdir(mode=0o700)
    env = {
        **os.environ,
        "RUN_DIR": str(run_dir),
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "METRICS_PORT": str(free_port()),
        "TWILIO_AUTH_TOKEN": "",
    }
    try:
        yield run_dir, env
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def start(env, log):
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-m", "callbook"], cwd=ROOT, env=env, stdout=file, stderr=file)


def facts(calls):
    for number in range(calls):
        sid, stream = f"CA{number:032d}", f"MZ{number:032d}"
        yield StreamBegan(sid, stream, "AC1", "+15005550006", "+15005550001", False, T0 + number, T0 + number + 300)
        for turn in range(5):
            yield Turn(sid, f"item_{turn}", turn, "ai", T0, T0 + 1, "Hello", "Hello", 10, 10, False)
        yield StreamEnded(sid, stream, T0 + number + 9_000, "stop", 400, 21_500, 0, 1)


def test_a_callbook_that_is_killed_at_any_moment_loses_and_doubles_no_record(url, tmp_path, wait_until):
    calls = 200
    with places(tmp_path, url) as (run_dir, env):
        log = tmp_path / "log"
        process = start(env, log)

        async def deliver():
            nonlocal process
            rng = random.Random(3)
            context = zmq.Context()
            courier = Courier(context, bus.callbook_url(run_dir), name="sender", page=Page.in_memory(FACTS))
            courier.start()
            kills = 0
            for number, fact in enumerate(facts(calls)):
                courier.note(fact)
                if number % 20 == 0:
                    await asyncio.sleep(0.02)
                if number == 700:
                    # Whatever it is doing: receiving, syncing, in the middle of a transaction.
                    before = courier.waiting
                    async with asyncio.timeout(20):
                        while courier.waiting >= before and courier.waiting:  # noqa: ASYNC110
                            await asyncio.sleep(0.001)
                    await asyncio.sleep(rng.random() * 0.1)
                    process.kill()
                    process.wait()
                    process = start(env, log)
                    kills += 1
            async with asyncio.timeout(30):
                while courier.waiting:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            courier.close()
            context.destroy(linger=0)
            return kills

        try:
            assert asyncio.run(deliver()) == 1
            engine = open_engine(url)

            def written():
                # The facts may all be on disk before callbook has made the tables.
                with contextlib.suppress(OperationalError, ProgrammingError), Session(engine) as session:
                    return session.scalar(select(func.count()).where(models.Stream.ended_at.is_not(None)))

            wait_until(lambda: written() == calls)
            with Session(engine) as session:
                assert session.scalar(select(func.count()).select_from(models.Call)) == calls
                assert session.scalar(select(func.count()).select_from(models.Turn)) == 5 * calls
                (source,) = session.scalars(select(models.Source)).all()
                assert source.through == 7 * calls
            engine.dispose()
            port = int(env["METRICS_PORT"])
            status, body = get(port, "/api/calls?limit=3")
            assert status == 200
            page = json.loads(body)
            assert [call["call_sid"] for call in page["calls"]] == [f"CA{n:032d}" for n in (199, 198, 197)]
            assert json.loads(get(port, f"/api/calls?limit=3&before={page['next']}")[1])["calls"][0]["turns"] == 5
            assert get(port, "/api/calls/CA-nobody")[0] == 404
            assert get(port, "/api/calls?limit=0")[0] == 400
            metrics = get(port, "/metrics")[1]
            assert b"twentyms_callbook_facts_written" in metrics
            assert b'twentyms_gc_pause_seconds_count{process="callbook"}' in metrics
            table = subprocess.run(
                [sys.executable, "-m", "twentyms", "calls", "-n", "2"],
                cwd=ROOT,
                env=env,
                capture_output=True,
                check=True,
            )
            assert table.stdout.decode().count("+15005550006") == 2
            assert "+1500" not in log.read_text()
        finally:
            process.terminate()
            assert process.wait(10) == 0
        assert not list((tmp_path / "data" / "spool").glob("*.spool"))


def test_a_courier_without_callbook_keeps_the_newest_facts_and_counts_the_dropped_ones(tmp_path):
    async def scenario():
        page = Page.in_memory(FACTS)
        context = zmq.Context()
        courier = Courier(context, f"ipc://{tmp_path}/nobody-listens.ipc", name="x", page=page, max_waiting=10)
        courier.start()
        for fact in facts(5):
            courier.note(fact)
        left = await courier.delivered(5.0)
        courier.close()
        context.destroy(linger=0)
        return left, page.counter("facts_lost").value

    assert asyncio.run(asyncio.wait_for(scenario(), 2)) == (10, 25)


def test_a_second_callbook_in_a_data_directory_is_refused(tmp_path):
    from callbook.__main__ import data_directory

    settings = read_settings(data_dir=tmp_path / "d")
    with data_directory(settings) as cell, pytest.raises(ConfigError, match="DATA_DIR"), data_directory(settings):
        pass
    with data_directory(settings) as again:
        assert again == cell


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"recording": "on"}, "RECORDING"),
        ({"model_prices": "text_in=1"}, "MODEL_PRICES"),
        ({"webhook_url": "ftp://x"}, "WEBHOOK_URL"),
        ({"webhook_url": "https://x", "webhook_secret": "short"}, "WEBHOOK_SECRET"),
    ],
)
def test_settings_that_would_fail_silently_are_refused(values, name):
    with pytest.raises(ConfigError, match=name):
        check(read_settings(**values))
