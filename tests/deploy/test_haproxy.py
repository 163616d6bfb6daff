"""The real HAProxy with the configuration of deploy/: where webhooks, media sockets and returning calls go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.agent_port import AgentPort
from twentyms.stack import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROGRAM = shutil.which("haproxy")
CELLS = 3
REFUSAL = "<Response><Say>full</Say></Response>"
# Of RFC 6455: a key, and what proves that it was read.
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
ACCEPTED = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FORM = "CallSid=CA1&From=%2B1555"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="haproxy is not installed: apt-get install haproxy"),
]


class Cell:
    """What a proxy sees of a cell: an agent port, webhooks and media sockets. It answers with its name."""

    def __init__(self, index: int) -> None:
        self.name = f"cell-{index}"
        self.host = f"127.30.0.{index + 1}"
        self.line = "ready up 100%"
        self.status = 200
        self.bodies: list[str] = []
        # Webhooks wait for it before they are answered, as a call waits in its media socket.
        self.open = asyncio.Event()
        self.open.set()
        self.is_frozen = False
        self._server: asyncio.Server | None = None

    async def start(self, port: int, agent_port: int) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, port)
        listener = socket.create_server((self.host, agent_port))
        self._agent = AgentPort(listener, lambda: self.line)
        await self._agent.start()

    def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._agent.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                body = (await reader.readexactly(int(length[1]) if length else 0)).decode()
                if self.is_frozen:
                    await asyncio.sleep(60)
                if "/healthz" in head:
                    self._answer(writer, 200, "ok")
                elif "upgrade: websocket" in head.lower():
                    upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
                    writer.write(f"{upgraded}\r\n{ACCEPTED}\r\nX-Cell: {self.name}\r\n\r\n".encode())
                    await reader.read()
                    break
                else:
                    self.bodies.append(body)
                    await self.open.wait()
                    self._answer(writer, self.status, self.name if self.status == 200 else REFUSAL)
        writer.close()

    @staticmethod
    def _answer(writer: asyncio.StreamWriter, status: int, body: str) -> None:
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


class Fleet(NamedTuple):
    port: int
    cells: list[Cell]
    metrics_port: int

    async def post(self, query: str = "") -> tuple[int, str]:
        """Status and body of the answer to a webhook."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /twilio/voice{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(FORM)}"
        writer.write(f"{head}\r\n\r\n{FORM}".encode())
        text = (await reader.read()).decode()
        writer.close()
        return int(text.split()[1]), text.partition("\r\n\r\n")[2]

    async def socket(self, cell: str) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        """A media socket, and the cell that took it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
        writer.write(f"GET /twilio/media/{cell} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n{KEY}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        taken = re.search(r"x-cell: (\S+)", head, re.IGNORECASE)
        assert taken is not None, head
        return taken[1], reader, writer

    async def weights(self) -> dict[str, int]:
        """Of each cell, as HAProxy counts it; 0: it drains."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.metrics_port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        found = re.findall(r'haproxy_server_weight\{proxy="cells",server="(cell-\d)"\} (\d+)', text)
        drains = re.findall(r'haproxy_server_status\{proxy="cells",server="(cell-\d)",state="DRAIN"\} 1', text)
        return {cell: 0 if cell in drains else int(weight) for cell, weight in found}

    async def until_weights(self, *expected: int) -> None:
        give_up = time.monotonic() + 10
        while (seen := list((await self.weights()).values())) != list(expected):
            assert time.monotonic() < give_up, seen
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    """Three cells and HAProxy. Only the agent's port and the number of connections differ from deploy/."""
    assert PROGRAM is not None
    port, metrics_port, cell_port, agent_port = (free_port() for _ in range(4))
    key = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    certificates = folder / "certificates"
    certificates.mkdir()
    made = await asyncio.create_subprocess_exec("openssl", *key, "-keyout", folder / "key", "-out", folder / "crt")
    assert await made.wait() == 0
    (certificates / "site.pem").write_text((folder / "crt").read_text() + (folder / "key").read_text())
    text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    assert "agent-port 8081" in text
    text = text.replace("agent-port 8081", f"agent-port {agent_port}").replace("maxconn 20000", "maxconn 1000")
    (folder / "haproxy.cfg").write_text(text)
    cells = [Cell(index) for index in range(CELLS)]
    for cell in cells:
        await cell.start(cell_port, agent_port)
    environment = {
        "BIND_HTTP": f"127.0.0.1:{port}",
        "BIND_HTTPS": f"127.0.0.1:{free_port()}",
        "BIND_METRICS": f"127.0.0.1:{metrics_port}",
        "CERTIFICATES": str(certificates),
        "FALLBACK": str(DEPLOY / "haproxy/fallback.http"),
        "STATS_SOCKET": f"{folder}/admin.sock",
        **{f"CELL_{index}": f"{cell.host}:{cell_port}" for index, cell in enumerate(cells)},
    }
    with (folder / "haproxy.log").open("w") as log:
        proxy = await asyncio.create_subprocess_exec(
            PROGRAM, "-db", "-f", folder / "haproxy.cfg", env={**os.environ, **environment}, stdout=log, stderr=log
        )
    made_fleet = Fleet(port, cells, metrics_port)
    try:
        give_up = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                await made_fleet.until_weights(100, 100, 100)
                break
            assert proxy.returncode is None, (folder / "haproxy.log").read_text()
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        yield made_fleet
    finally:
        proxy.terminate()
        await proxy.wait()
        for cell in cells:
            cell.close()


async def answered(fleet: Fleet, calls: int) -> Counter[str]:
    """Which cells answered this many webhooks, that were all open at once."""
    for cell in fleet.cells:
        cell.open.clear()
    seen = sum(len(cell.bodies) for cell in fleet.cells)
    asked = [asyncio.create_task(fleet.post()) for _ in range(calls)]
    async with asyncio.timeout(10):
        while sum(len(cell.bodies) for cell in fleet.cells) < seen + calls:  # noqa: ASYNC110 - counted in many places
            await asyncio.sleep(0.01)
    for cell in fleet.cells:
        cell.open.set()
    return Counter(body for _, body in await asyncio.gather(*asked))


def test_new_calls_follow_the_percentages_that_the_cells_tell(tmp_path: Path) -> None:
    async def run() -> Counter[str]:
        async with fleet(tmp_path) as three:
            three.cells[1].line = "ready up 50%"
            three.cells[2].line = "ready up 25%"
            await three.until_weights(100, 50, 25)
            return await answered(three, 70)

    took = asyncio.run(run())
    assert [abs(took[f"cell-{index}"] - share) <= 2 for index, share in enumerate((40, 20, 10))] == [True] * 3, took


def test_a_draining_cell_gets_its_own_calls_and_no_new_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with fleet(tmp_path) as three:
            three.cells[0].line = "drain"
            await three.until_weights(0, 100, 100)
            assert (await answered(three, 20))["cell-0"] == 0
            assert (await three.post("?resume=1&cell=cell-0&worker=0"))[1] == "cell-0"
            taken, _, writer = await three.socket("cell-0")
            writer.close()
            assert taken == "cell-0"
            three.cells[0].line = "ready up 100%"
            await three.until_weights(100, 100, 100)
            assert (await answered(three, 30))["cell-0"] == 10

    asyncio.run(run())


def test_a_webhook_that_full_cells_refuse_is_repeated_with_its_body_at_one_with_room(tmp_path: Path) -> None:
    async def run() -> None:
        async with fleet(tmp_path) as three:
            full = three.cells[:2]
            for cell in full:
                cell.status = 503
                cell.line = "ready up 1%"
            await three.until_weights(1, 1, 100)
            # The agent's word comes up to a second late: meanwhile HAProxy tries the full cells, too.
            for query in ("", "?resume=1&cell=cell-0&worker=0"):
                assert await three.post(query) == (200, "cell-2")
            assert three.cells[0].bodies == [FORM]
            assert set(three.cells[2].bodies) == {FORM}

    asyncio.run(run())


def test_the_caller_hears_the_fallback_when_every_cell_refuses_and_when_none_is_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with fleet(tmp_path) as three:
            for cell in three.cells:
                cell.status = 503
            assert await three.post() == (200, REFUSAL)
            for cell in three.cells:
                cell.close()
            status, body = await three.post()
            assert status == 200
            assert "<Say>" in body
            assert body != REFUSAL

    asyncio.run(run())


def test_the_socket_of_a_frozen_cell_is_cut_and_its_call_goes_to_another_cell(tmp_path: Path) -> None:
    async def run() -> float:
        async with fleet(tmp_path) as three:
            taken, reader, writer = await three.socket("cell-1")
            assert taken == "cell-1"
            began = time.monotonic()
            three.cells[1].is_frozen = True
            async with asyncio.timeout(10):
                assert await reader.read() == b""
            cut_s = time.monotonic() - began
            writer.close()
            status, body = await three.post("?resume=1&cell=cell-1&worker=0")
            assert (status, body in ("cell-0", "cell-2")) == (200, True)
            return cut_s

    cut_s = asyncio.run(run())
    print(f"{cut_s * 1_000:.0f} ms from the freeze to the cut")
    assert cut_s < 3
