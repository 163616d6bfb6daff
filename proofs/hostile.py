"""Strangers and broken peers at the public port: `python -m proofs.hostile PORT [--count 1000]`.

Each connection does one kind of harm, and no call may notice it. The auth token comes from TWILIO_AUTH_TOKEN, because
some harm comes from a peer that signs correctly, as a broken carrier would.

Prints how many connections did each kind of harm, and exits with 1 when the gateway held one of them for too long.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import re
import secrets
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlencode

import uvloop
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from shared.process import run

# How long a connection is held, at most: beyond the longest of the gateway's own deadlines, 20 s for a call that reads
# nothing. And how long all of them take to arrive.
HOLD_S: Final = 25.0
SPREAD_S: Final = 10.0
# One connection in this many is of an expensive kind: a call with its model's session, or a thousand answers.
COSTLY_EVERY: Final = 20

# The counter in which each kind's refusal is seen, and its label. Garbage and resets are not counted.
REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "unsigned handshake": ("gateway_handshakes", "signature"),
    "unsigned webhook": ("gateway_unsigned", "voice"),
    "no start": ("gateway_starts_refused", "timeout"),
    "forged token": ("gateway_starts_refused", "forged"),
    "oversized message": ("gateway_violations", "oversized"),
    "oversized in a call": ("gateway_violations", "oversized"),
    "flood before start": ("gateway_violations", "flood"),
    "flood in a call": ("gateway_violations", "flood"),
    "slow handshake": ("gateway_half_open_ended", ""),
    "byte by byte": ("gateway_half_open_ended", ""),
    "asks and does not read": ("gateway_half_open_ended", ""),
    "deaf in a call": ("gateway_calls_cut", "unread"),
}

_CONNECTED: Final = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
_HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
_ACCOUNT_SID: Final = "AC" + 32 * "0"


class Hostile:
    """All harm to one port. Every kind returns when the gateway ended it, or after HOLD_S."""

    def __init__(self, port: int, auth_token: str) -> None:
        self._port = port
        url = f"ws://127.0.0.1:{port}/twilio/media"
        self._validator = RequestValidator(auth_token)
        self._signature: str = self._validator.compute_signature(url, {})
        self.cheap: dict[str, Callable[[], Awaitable[None]]] = {
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
        self.costly: dict[str, Callable[[], Awaitable[None]]] = {
            "asks and does not read": self.asks_and_does_not_read,
            "flood in a call": self.flood_in_a_call,
            "oversized in a call": self.oversized_in_a_call,
            "deaf in a call": self.deaf_in_a_call,
            "reset in a call": self.reset_in_a_call,
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
            token = f"{secrets.token_urlsafe(12)}.0.9999999999.0.{secrets.token_hex(8)}..{secrets.token_hex(32)}"
            await peer.send(_start("CA" + secrets.token_hex(16), {"token": token}))
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

    async def asks_and_does_not_read(self) -> None:
        loop = asyncio.get_running_loop()
        with _deaf_socket() as peer:
            await loop.sock_connect(peer, ("127.0.0.1", self._port))
            async with asyncio.timeout(HOLD_S):
                while True:  # until it is cut
                    await loop.sock_sendall(peer, _HEALTH * 1_000)

    async def flood_in_a_call(self) -> None:
        async with self._call() as peer:
            for _ in range(3_000):
                await peer.send('{"event":"none"}')
            await self._until_ended(peer)

    async def oversized_in_a_call(self) -> None:
        async with self._call() as peer:
            await peer.send(base64.b64encode(bytes(1_000_000)).decode())
            await self._until_ended(peer)

    async def deaf_in_a_call(self) -> None:
        """Reads nothing, answers nothing and sends nothing, like a machine that vanished."""
        with _deaf_socket() as peer:
            await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self._port))
            async with self._call(peer) as connection:
                connection.transport.pause_reading()
                try:
                    await asyncio.sleep(HOLD_S)
                finally:
                    connection.transport.abort()

    async def reset_in_a_call(self) -> None:
        async with self._call() as peer:
            peer.transport.abort()

    async def garbage(self) -> None:
        await self._send(secrets.token_bytes(5_000) + b"\r\n\r\n")

    async def reset(self) -> None:
        peer = socket.socket()
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self._port))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    @contextlib.asynccontextmanager
    async def _call(self, sock: socket.socket | None = None) -> AsyncIterator[ClientConnection]:
        """A media socket whose call has begun; each call has another caller."""
        call_sid = "CA" + secrets.token_hex(16)
        url = f"http://127.0.0.1:{self._port}/twilio/voice"
        form = {"CallSid": call_sid, "AccountSid": _ACCOUNT_SID, "From": f"+1500{secrets.randbelow(10**7):07}"}
        body = urlencode(form).encode()
        answer = await self._send(
            b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nX-Twilio-Signature: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (self._validator.compute_signature(url, form).encode(), len(body), body)
        )
        parameters = {
            name.decode(): value.decode()
            for name, value in re.findall(rb'Parameter name="(\w+)" value="([^"]+)"', answer)
        }
        assert parameters, "the webhook gave no call"
        async with self._socket(sock=sock) as peer:
            await peer.send(_CONNECTED)
            await peer.send(_start(call_sid, parameters))
            await peer.recv()  # the first frame of the greeting
            yield peer

    def _socket(self, *, signature: str = "", sock: socket.socket | None = None) -> connect:
        return connect(
            f"ws://127.0.0.1:{self._port}/twilio/media",
            additional_headers={"x-twilio-signature": signature or self._signature},
            compression=None,
            proxy=None,
            close_timeout=1,
            sock=sock,
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


def _start(call_sid: str, parameters: Mapping[str, str]) -> str:
    return (
        f'{{"event":"start","streamSid":"MZ1","start":{{"accountSid":"{_ACCOUNT_SID}","callSid":"{call_sid}",'
        '"streamSid":"MZ1","mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
        f'"customParameters":{json.dumps(parameters)}}}}}'
    )


def _deaf_socket() -> socket.socket:
    """A socket with a tiny receive buffer."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    # The other end's buffer grows with it: 2 MB at loopback's own.
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    peer.setblocking(False)
    return peer


async def attack(port: int, auth_token: str, count: int) -> tuple[Counter[str], Counter[str]]:
    """`count` connections of all kinds, spread over SPREAD_S: how many of each kind there were, and how many of these
    the gateway had not ended after HOLD_S."""
    hostile = Hostile(port, auth_token)
    done: Counter[str] = Counter()
    held: Counter[str] = Counter()

    async def one(number: int) -> None:
        await asyncio.sleep(random.uniform(0, SPREAD_S))
        round_, within = divmod(number, COSTLY_EVERY)
        kinds = hostile.cheap if within else hostile.costly
        name = list(kinds)[(number if within else round_) % len(kinds)]
        done[name] += 1
        try:
            # RuntimeError: uvloop says so of a transport that the other end has closed.
            with contextlib.suppress(OSError, WebSocketException, RuntimeError):
                await kinds[name]()
        except TimeoutError:
            held[name] += 1

    await asyncio.gather(*(one(number) for number in range(count)))
    return done, held


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proofs.hostile", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1_000)
    arguments = parser.parse_args()
    done, held = uvloop.run(attack(arguments.port, os.environ.get("TWILIO_AUTH_TOKEN", ""), arguments.count))
    print(json.dumps(done))
    for name, count in held.items():
        print(f"BROKEN: {count} of the kind `{name}` were not ended within {HOLD_S:g} s", file=sys.stderr)
    sys.exit(1 if held else 0)


if __name__ == "__main__":
    run("hostile", main)
