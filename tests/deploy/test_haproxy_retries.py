"""A real HAProxy with the rules by which haproxy.cfg chooses a cell. Two of its cells are full."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from pathlib import Path

import pytest

HAPROXY = (Path(__file__).resolve().parents[2] / "deploy/haproxy/haproxy.cfg").read_text()
CELLS, FULL, WEBHOOKS = 6, 2, 60
CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 15s
    timeout server 15s
    option http-buffer-request
{retrying}
frontend public
    bind 127.0.0.1:{port}
    default_backend cells
backend cells
    balance {balance}
    default-server weight 100
{servers}
"""


async def refused(balance: str, tmp_path: Path) -> int:
    """How many webhooks nobody takes, though four of six cells have room. Those four have live calls."""

    async def cell(reader, writer, *, is_full):
        while request := await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            if b"/twilio/media" in request:
                await reader.read()  # the call stays
                break
            writer.write(b"HTTP/1.1 503 -\r\ncontent-length: 0\r\n\r\n" if is_full else b"HTTP/1.1 204 -\r\n\r\n")
        writer.close()

    servers = [
        await asyncio.start_server(lambda r, w, n=number: cell(r, w, is_full=n < FULL), "127.0.0.1", 0)
        for number in range(CELLS)
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    retrying = "\n".join(re.findall(r"^    (?:option redispatch|retries|retry-on) .*$", HAPROXY, re.MULTILINE))
    lines = [f"    server cell-{n} 127.0.0.1:{each.sockets[0].getsockname()[1]}" for n, each in enumerate(servers)]
    lines.append("    use-server %[url_param(cell)] if { url_param(cell) -m found }")
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format(retrying=retrying, port=port, balance=balance, servers="\n".join(lines)))
    process = await asyncio.create_subprocess_exec(
        "haproxy", "-db", "-f", str(config), stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    calls = []

    async def ask(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
        return reader, writer

    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    calls = [await ask(f"/twilio/media?cell=cell-{n}") for n in range(FULL, CELLS) for _ in range(5)]
                    break
                except OSError:
                    await asyncio.sleep(0.02)  # HAProxy starts
            # A webhook follows its connection; the calls above are connected in the same order.
            found = 0
            for _ in range(WEBHOOKS):
                reader, writer = await ask("/twilio/voice")
                found += b" 503 " in await reader.readline()
                writer.close()
            return found
    finally:
        for _, writer in calls:
            writer.close()
        process.terminate()
        await process.wait()
        for each in servers:
            each.close()


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_a_webhook_finds_the_cells_with_room_and_leastconn_would_not(tmp_path):
    (balance,) = re.findall(r"^    balance (\S+)", HAPROXY, re.MULTILINE)
    assert asyncio.run(refused(balance, tmp_path)) == 0
    assert asyncio.run(refused("leastconn", tmp_path)) == WEBHOOKS
