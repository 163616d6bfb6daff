"""A gateway with its real port and links; the test plays txpacer, aibridge and Twilio."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from time import time_ns
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
import uvloop
import zmq
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect

from gateway.core import plans
from gateway.core.metrics import DEFINITIONS
from gateway.core.tokens import Tokens, shared_key
from gateway.gateway import Gateway
from shared.bus import calls_url, draw_epoch, frames_url, router
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.messages import (
    CallerAudio,
    CallStarted,
    Frames,
    GatewayHello,
    GatewayToBridge,
    GatewayToPacer,
    PacerState,
    PathSeen,
    WireAck,
    WorkerState,
)
from shared.metrics import Page, counter
from shared.plan import CallPlan
from shared.settings import NAMES, read_settings

AUTH_TOKEN = "twilio-auth-token-of-the-tests"
TIMEOUT_S = 5.0


class FakePeer:
    """A ROUTER that answers hellos with `answer` (None: not at all) and keeps all other messages."""

    def __init__(self, context: zmq.Context[Any], url: str, types: Any, answer: Any) -> None:
        self.answer = answer
        self.gateway = ""
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        cells = Page.in_memory((counter("dropped", ""), counter("undecodable", "")))
        self.link = ChannelLink(
            router(context, url, hwm=1_000),
            types=types,
            make=lambda: Channel(draw_epoch(), max_weight=1_000),
            on_message=self._on_message,
            refused=cells.counter("dropped"),
            lost=cells.counter("dropped"),
            undecodable=cells.counter("undecodable"),
        )
        self.link.start()

    def _on_message(self, peer: str, message: Any) -> None:
        if isinstance(message, GatewayHello):
            self.gateway = message.gateway
            if self.answer is not None:
                self.link.hello(peer, (self.answer,))
        else:
            self.inbox.put_nowait(message)

    def restart(self) -> None:
        """Lose all messages of the gateway, as a restarted process does."""
        self.link.forget(self.gateway)

    def send(self, *messages: Any) -> None:
        assert self.link.send(messages, self.gateway)

    async def next(self, kind: type[Any]) -> Any:
        """The next message, which must be a `kind`; reports about paths may come at any time."""
        message = await asyncio.wait_for(self.inbox.get(), TIMEOUT_S)
        while isinstance(message, PathSeen) and kind is not PathSeen:
            message = await asyncio.wait_for(self.inbox.get(), TIMEOUT_S)
        assert isinstance(message, kind), message
        return message


class FakeTwilio:
    """Twilio's two sides: signed webhooks over HTTP, and the media socket."""

    def __init__(self, port: int, origin: str, account_sid: str = "AC" + "0" * 32) -> None:
        self.port = port
        self.origin = origin
        self.account_sid = account_sid
        self.validator = RequestValidator(AUTH_TOKEN)

    def sign(self, url: str, params: dict[str, str]) -> str:
        signature: str = self.validator.compute_signature(url, params)
        return signature

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            fields = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", "Content-Length": str(len(body))}
            fields |= headers or {}
            lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            answer = (await asyncio.wait_for(reader.read(), TIMEOUT_S)).decode()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        head, _, text = answer.partition("\r\n\r\n")
        return int(head.split()[1]), text

    async def post(self, target: str, **params: str) -> tuple[int, str]:
        """A signed webhook."""
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": self.sign(self.origin + target, params),
        }
        return await self.request("POST", target, urlencode(params).encode(), headers)

    async def voice(self, call_sid: str, *, resume: bool = False) -> str:
        """The TwiML for a call."""
        target = "/twilio/voice" + ("?resume=1" if resume else "")
        params = {"CallSid": call_sid, "AccountSid": self.account_sid, "From": "+15550001", "To": "+15550002"}
        status, text = await self.post(target, **params, CallerName="")
        assert status == 200, text
        return text

    async def parameters(self, call_sid: str) -> dict[str, str]:
        """The `<Parameter>`s of a connected call, which its media socket has to show."""
        found = ElementTree.fromstring(await self.voice(call_sid)).findall("./Connect/Stream/Parameter")
        assert found
        return {each.attrib["name"]: each.attrib["value"] for each in found}

    @contextlib.asynccontextmanager
    async def socket(
        self, target: str = "/twilio/media", signature: str | None = None, signed: str = ""
    ) -> AsyncIterator[ClientConnection]:
        url = "ws" + self.origin.removeprefix("http") + (signed or "/twilio/media")
        headers = {"x-twilio-signature": self.sign(url, {}) if signature is None else signature}
        async with connect(
            f"ws://127.0.0.1:{self.port}{target}", additional_headers=headers, compression=None, proxy=None
        ) as connection:
            yield connection

    def start_text(self, call_sid: str, parameters: Mapping[str, str], stream_sid: str = "MZ1") -> str:
        return json.dumps(
            {
                "event": "start",
                "sequenceNumber": "1",
                "streamSid": stream_sid,
                "start": {
                    "accountSid": self.account_sid,
                    "streamSid": stream_sid,
                    "callSid": call_sid,
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters": dict(parameters),
                },
            }
        )

    @staticmethod
    def media_text(audio: bytes, stream_sid: str = "MZ1") -> str:
        media = {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": base64.b64encode(audio).decode()}
        return json.dumps({"event": "media", "sequenceNumber": "3", "streamSid": stream_sid, "media": media})

    @staticmethod
    def text(event: str, stream_sid: str = "MZ1", **fields: Any) -> str:
        return json.dumps({"event": event, "sequenceNumber": "4", "streamSid": stream_sid, **fields})


FRAME = bytes(range(160))
CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


class Cell:
    """One gateway and the peers that the test plays."""

    def __init__(
        self, gateway: Any, twilio: FakeTwilio, pacer: FakePeer, bridges: list[FakePeer], run_dir: Path
    ) -> None:
        self.gateway = gateway
        self.run_dir = run_dir
        self.twilio = twilio
        self.pacer = pacer
        self.bridges = bridges
        self.bridge = bridges[0]
        self.batches = 0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that no message announces."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 - what it waits for sets no event
                await asyncio.sleep(0.002)

    async def ready(self) -> None:
        async def answers() -> bool:
            try:
                return (await self.twilio.request("GET", "/readyz"))[0] == 200
            except ConnectionRefusedError:
                return False

        async with asyncio.timeout(TIMEOUT_S):
            while not await answers():  # noqa: ASYNC110 - another process's view, over HTTP
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def call(self, call_sid: str | None = None) -> AsyncIterator[tuple[ClientConnection, CallStarted]]:
        """A live call: its media socket, and the CallStarted that aibridge got."""
        sid = call_sid or "CA" + secrets.token_hex(16)
        parameters = await self.twilio.parameters(sid)
        offered = await asyncio.wait_for(self.bridge.inbox.get(), TIMEOUT_S)
        async with self.twilio.socket() as connection:
            await connection.send(CONNECTED)
            await connection.send(self.twilio.start_text(sid, parameters))
            started = await self.bridge.next(CallStarted)
            assert started.token_id == offered.token_id
            yield connection, started

    def frames(self, deadline_ns: int, *entries: tuple[int, int, bytes, int]) -> None:
        self.batches += 1
        self.pacer.send(Frames(self.batches, deadline_ns, entries))

    async def ack(self) -> WireAck:
        ack: WireAck = await self.pacer.next(WireAck)
        assert ack.batch == self.batches
        return ack

    async def caller_audio(self, length: int, bridge: FakePeer | None = None) -> bytes:
        heard = b""
        while len(heard) < length:
            heard += (await (bridge or self.bridge).next(CallerAudio)).data
        return heard


async def received(connection: Any) -> Any:
    return json.loads(await asyncio.wait_for(connection.recv(), 5))


async def closed_with(socket: Any) -> int:
    await asyncio.wait_for(socket.wait_closed(), 5)
    code: int = socket.close_code
    return code


def from_another_gateway(cell: Cell, call_sid: str, plan: CallPlan) -> dict[str, str]:
    """The `<Parameter>`s of a call whose webhook another gateway of the cell answered."""
    packed = plans.pack(plan)
    tokens = Tokens(shared_key(AUTH_TOKEN))
    token, _ = tokens.mint(0, call_sid, cell.twilio.account_sid, time_ns(), packed_plan=packed, resumed=True)
    return plans.parameters(token, packed)


@contextlib.asynccontextmanager
async def cell(
    workers: int = 1, *, as_process: bool = False, supervised: bool = False, **overrides: Any
) -> AsyncIterator[Cell]:
    """`gateway` of what it yields is the Gateway in this loop, or with `as_process` a subprocess.

    `supervised`: that is then a shell whose child is the gateway.
    """
    with tempfile.TemporaryDirectory(prefix="gw") as directory, contextlib.ExitStack() as stack:
        run_dir = Path(directory)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        values: dict[str, Any] = {
            "gateway_port": port,
            "public_url": f"http://127.0.0.1:{port}",
            "twilio_auth_token": AUTH_TOKEN,
            "aibridge_workers": workers,
            "run_dir": run_dir,
            **overrides,
        }
        settings = read_settings(**values)
        context: zmq.Context[Any] = zmq.Context()
        stack.callback(context.destroy, linger=0)
        pacer = FakePeer(context, frames_url(run_dir), GatewayToPacer, PacerState(7, 0))
        bridges = [
            FakePeer(context, calls_url(run_dir, i), GatewayToBridge, WorkerState(i, True, 0)) for i in range(workers)
        ]
        for peer in (pacer, *bridges):
            stack.callback(peer.link.close)
        twilio = FakeTwilio(port, settings.origin)
        if as_process:
            listener.close()
            env = {**os.environ, **{name.upper(): str(value) for name, value in values.items()}}
            command = [sys.executable, "-m", "gateway"]
            if supervised:
                command = ["sh", "-c", f"{shlex.join(command)} & wait"]
            process = await asyncio.create_subprocess_exec(*command, env=env, cwd=directory, start_new_session=True)
            try:
                under_test = Cell(process, twilio, pacer, bridges, run_dir)
                await under_test.ready()
                yield under_test
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        else:
            gateway = Gateway(settings, listener, Page.in_memory(DEFINITIONS))
            await gateway.start()
            try:
                under_test = Cell(gateway, twilio, pacer, bridges, run_dir)
                await under_test.ready()
                yield under_test
            finally:
                await gateway.close()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def run() -> Callable[..., None]:
    """Play a scenario around a gateway; keyword arguments as for `cell`."""

    def play(scenario: Callable[[Cell], Coroutine[Any, Any, None]], **options: Any) -> None:
        async def playing() -> None:
            async with asyncio.timeout(30), cell(**options) as under_test:
                await scenario(under_test)

        # The loop of production: its transports buffer and close in their own way.
        uvloop.run(playing())

    return play
