"""A cell is drained behind the real HAProxy: what its caller and a new caller hear."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("redis")

from proofs.cell_processes import processes
from proofs.redis_server import PROGRAM, RedisServer
from proofs.retold import forgotten
from proofs.spoken import listen, read_sessions
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange, sid
from twentyms.stack import Stack, free_port, get

HAPROXY = shutil.which("haproxy")
CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy/haproxy/haproxy.cfg"
DRAIN_S = 4

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(PROGRAM is None or HAPROXY is None, reason="redis-server or haproxy is not installed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextlib.contextmanager
def proxied(folder: Path, port: int, cells: list[Stack]) -> Iterator[None]:
    """HAProxy with the rules of deploy/, without TLS, for cells on one address."""
    assert HAPROXY is not None
    text = re.sub(r"(?m)^    (server cell-|bind .*BIND_HTTPS).*\n", "", CONFIGURATION.read_text())
    servers = "".join(
        f"    server cell-{index} 127.0.0.1:{cell.gateway_port} agent-port {cell.env['AGENT_CHECK_PORT']}\n"
        for index, cell in enumerate(cells)
    )
    text = text.replace("\n# Prometheus:", f"{servers}\n# Prometheus:").replace("maxconn 20000", "maxconn 1000")
    (folder / "haproxy.cfg").write_text(text)
    environment = {
        "BIND_HTTP": f"127.0.0.1:{port}",
        "BIND_METRICS": f"127.0.0.1:{free_port()}",
        "FALLBACK": str(CONFIGURATION.with_name("fallback.http")),
        "STATS_SOCKET": f"{folder}/admin.sock",
    }
    with (folder / "haproxy.log").open("w") as log:
        command = (HAPROXY, "-db", "-f", str(folder / "haproxy.cfg"))
        proxy = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        yield
        assert proxy.poll() is None, (folder / "haproxy.log").read_text()
    finally:
        proxy.terminate()
        proxy.wait()


def calls_of(cell: Stack) -> float:
    text = get(int(cell.env["METRICS_PORT"]), "/metrics")[1].decode()
    found = re.search(r"(?m)^twentyms_gateway_calls(?:\{[^}]*\})? (\S+)$", text)
    assert found is not None
    return float(found[1])


def test_a_call_that_outlives_the_drain_of_its_cell_goes_on_in_another_one(tmp_path: Path) -> None:
    store = RedisServer(tmp_path)
    front = free_port()
    env = {
        "PUBLIC_URL": f"http://127.0.0.1:{front}",
        "TWILIO_AUTH_TOKEN": secrets.token_hex(16),
        "FLEET": "on",
        "DRAIN_SECONDS": str(DRAIN_S),
        "DATABASE_URL": f"sqlite:///{tmp_path}/calls.db",
        "STATE_URL": store.url,
        "STATE_KEY": base64.b64encode(os.urandom(32)).decode(),
    }

    def own(index: int) -> dict[str, str]:
        return {**env, "CELL": f"cell-{index}", "AGENT_CHECK_PORT": str(free_port())}

    async def run(cells: list[Stack]) -> tuple[CallRecord, CallRecord]:
        async with Exchange() as exchange:

            def call(after_ms: int) -> asyncio.Task[CallRecord]:
                caller = Caller([Say("hello", AiSilent(ms=300)), HangUp(AfterAnswer(ms=after_ms))], seed=1, noise=True)
                place = exchange.place_call(
                    cells[0].webhook_url, env["TWILIO_AUTH_TOKEN"], caller=caller, call_sid=sid("CA"), limit_s=60
                )
                return asyncio.create_task(place)

            old = call(20_000)
            await asyncio.sleep(6)
            (cell,) = (cell for cell in cells if calls_of(cell))
            (gateway,) = (each for each in processes(cell.run_dir) if each.name == "gateway")
            os.kill(gateway.pid, signal.SIGTERM)
            # Offered to the draining cell before its agent was asked again, or not: it is answered either way.
            new = call(2_000)
            return await old, await new

    try:
        with Stack(env=own(0), model=("--keep-input",), log=tmp_path / "0.log") as first:
            model = {"OPENAI_BASE_URL": f"http://127.0.0.1:{first.model_port}/v1"}
            with Stack(env={**own(1), **model}, log=tmp_path / "1.log") as second:
                with proxied(tmp_path, front, [first, second]):
                    old, new = asyncio.run(run([first, second]))
                sessions = first.sessions(old.call_sid)
    finally:
        store.kill()
    spoken, _ = listen(old, read_sessions(sessions))
    print(old.outcome, new.outcome, len(old.streams), len(sessions))
    assert (old.outcome, new.outcome) == ("hung-up-by-caller", "hung-up-by-caller")
    assert (len(old.streams), len(sessions), len(new.streams)) == (2, 2, 1)
    assert list(forgotten(spoken, sessions, {0})) == []
