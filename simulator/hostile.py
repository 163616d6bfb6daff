"""Strangers and broken peers at the public port: `python -m simulator.hostile PORT [--count 1000]`.

Each connection does one kind of harm, and none of them may be noticed by anybody's call. The auth token comes from
TWILIO_AUTH_TOKEN: some of the harm is done by a peer that signs correctly, as a broken carrier would.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import random
import secrets
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from shared.process import run

# How long a connection that does nothing is held, at most, and how long all of them take to arrive.
HOLD_S: Final = 5.0
SPREAD_S: Final = 10.0

_CONNECTED: Final = '{"event":"connected","protocol":"Call","version":"1.0.0"}'


class Hostile:
    """All harm to one port. Every kind returns when it was ended, or had enough."""

    def __init__(self, port: int, auth_token: str) -> None:
        self._port = port
        url = f"ws://127.0.0.1:{port}/twilio/media"
        self._signature: str = RequestValidator(auth_token).compute_signature(url, {})
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "unsigned handshake": self.unsigned_handshake,
            "unsigned webhook": self.unsigned_webhook,
            "no start": self.no_start,
            "forged token": self.forged_token,
            "oversized message": self.oversized,
            "flood before start": self.flood,
            "slow handshake": self.slow_handshake,
            "byte by byte": self.byte_by_byte,
            "garbage": self.garbage,
            "reset": self.reset,
        }

    async def unsigned_handshake(self) -> None:
        async with self._socket(signature="AAAAAAAAAAAAAAAAAAAAAAAAAAA="):
            raise AssertionError("a socket was opened without a signature")

    async def unsigned_webhook(self) -> None:
        body = b"CallSid=CA" + secrets.token_hex(16).encode()
        answer = await self._send(
            b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
        )
        assert b"<Connect>" not in answer, "a call was taken without a signature"

    async def no_start(self) -> None:
        async with self._socket() as peer:
            await peer.send(_CONNECTED)
            await self._until_ended(peer)

    async def forged_token(self) -> None:
        async with self._socket() as peer:
            await peer.send(_CONNECTED)
            await peer.send(
                '{"event":"start","streamSid":"MZ1","start":{"accountSid":"AC1","callSid":"CA1","streamSid":"MZ1",'
                '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
                f'"customParameters":{{"token":"{secrets.token_urlsafe(12)}.0.9999999999.{secrets.token_hex(32)}"}}}}}}'
            )
            await self._until_ended(peer)

    async def oversized(self) -> None:
        async with self._socket() as peer:
            await peer.send(base64.b64encode(bytes(1_000_000)).decode())
            await self._until_ended(peer)

    async def flood(self) -> None:
        async with self._socket() as peer:
            for _ in range(3_000):
                await peer.send('{"event":"none"}')
            await self._until_ended(peer)

    async def slow_handshake(self) -> None:
        await self._send(b"GET /twilio/media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")

    async def byte_by_byte(self) -> None:
        await self._send(b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 40, pause_s=0.05)

    async def garbage(self) -> None:
        await self._send(secrets.token_bytes(5_000))

    async def reset(self) -> None:
        peer = socket.socket()
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self._port))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    def _socket(self, *, signature: str = "") -> connect:
        return connect(
            f"ws://127.0.0.1:{self._port}/twilio/media",
            additional_headers={"x-twilio-signature": signature or self._signature},
            compression=None,
            proxy=None,
            close_timeout=1,
        )

    async def _until_ended(self, peer: ClientConnection) -> None:
        async with asyncio.timeout(HOLD_S):
            await peer.wait_closed()

    async def _send(self, data: bytes, *, pause_s: float = 0.0) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.timeout(HOLD_S):
                for chunk in [data[at : at + 1] for at in range(len(data))] if pause_s else [data]:
                    if writer.is_closing():
                        break
                    writer.write(chunk)
                    await asyncio.sleep(pause_s)
                return await reader.read()
        finally:
            writer.transport.abort()


async def attack(port: int, auth_token: str, count: int) -> Counter[str]:
    """`count` connections of all kinds, spread over SPREAD_S; how many of each kind there were."""
    hostile = Hostile(port, auth_token)
    names = list(hostile.kinds)
    done: Counter[str] = Counter()

    async def one(number: int) -> None:
        await asyncio.sleep(random.uniform(0, SPREAD_S))
        name = names[number % len(names)]
        done[name] += 1
        # RuntimeError: uvloop's word for a transport that the other end has closed meanwhile.
        with contextlib.suppress(OSError, TimeoutError, WebSocketException, RuntimeError):
            await hostile.kinds[name]()

    await asyncio.gather(*(one(number) for number in range(count)))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulator.hostile", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1_000)
    arguments = parser.parse_args()
    done = uvloop.run(attack(arguments.port, os.environ.get("TWILIO_AUTH_TOKEN", ""), arguments.count))
    print(f"{done.total()} hostile connections: " + ", ".join(f"{n} {name}" for name, n in sorted(done.items())))


if __name__ == "__main__":
    run("hostile", main)
