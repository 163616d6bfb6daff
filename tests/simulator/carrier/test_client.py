"""The carrier's shell against a small gateway: webhook, TwiML and media socket over real loopback sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import pytest
from twilio.request_validator import RequestValidator
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from shared.audio import SILENCE
from simulator.carrier.call import STREAM_REFUSED, TWIML_INVALID, WEBHOOK_FAILED, CallRecord
from simulator.carrier.caller import AfterAnswer, AiSilent, Caller, HangUp
from simulator.carrier.client import place_call

pytestmark = pytest.mark.anyio

TOKEN = "0123456789abcdef0123456789abcdef"
ORIGIN = "https://voice.example.com"
STREAM = '<Connect><Stream url="wss://voice.example.com/media"><Parameter name="t" value="1&amp;2"/></Stream></Connect>'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Gateway:
    """Answers each webhook with the next document, and each media socket with `talk`."""

    def __init__(self, documents: list[str], talk: Callable[[ServerConnection], Awaitable[None]] | None = None) -> None:
        self.documents = documents
        self.talk = talk
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.handshakes: list[tuple[str, str, str]] = []
        self.received: list[list[dict[str, object]]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[tuple[str, int], tuple[str, int]]]:
        webhooks = await asyncio.start_server(self._webhook, "127.0.0.1", 0)
        async with webhooks, serve(self._media, "127.0.0.1", 0, compression=None) as media:
            yield webhooks.sockets[0].getsockname(), next(iter(media.sockets)).getsockname()

    async def _webhook(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
        url = f"https://{headers['host']}{first.split()[1]}"
        form = dict(parse_qsl(body, keep_blank_values=True))
        assert RequestValidator(TOKEN).validate(url, form, headers["x-twilio-signature"])
        self.requests.append((url, form, first.split()[0]))
        answer = self.documents.pop(0).encode()
        if answer == b"nothing":
            writer.close()
            return
        status = b"500 No" if answer == b"500" else b"200 OK"
        writer.write(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(answer), answer)
        )
        await writer.drain()
        writer.close()

    async def _media(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        headers = socket.request.headers
        self.handshakes.append((socket.request.path, headers["Host"], headers["X-Twilio-Signature"]))
        received: list[dict[str, object]] = []
        self.received.append(received)
        if self.talk is not None:
            await self.talk(socket)
        try:
            async for message in socket:
                received.append(json.loads(message))
        except ConnectionClosed:
            pass


async def call(
    gateway: Gateway, caller: Caller, *, limit_s: float = 5.0, overrides: str = "", fallback_url: str = ""
) -> CallRecord:
    """One call to `gateway`; a relay unites its two servers under one address by each request's first line."""
    async with gateway.running() as (web, media):

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            target = media if b"upgrade: websocket" in head.lower() else web
            there_reader, there_writer = await asyncio.open_connection(*target)
            there_writer.write(head)
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))

        front = await asyncio.start_server(relay, "127.0.0.1", 0)
        async with front:
            return await place_call(
                f"{ORIGIN}/voice{overrides}",
                TOKEN,
                caller=caller,
                connect_to=front.sockets[0].getsockname(),
                limit_s=limit_s,
                fallback_url=fallback_url,
            )


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


def document(*verbs: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(verbs)}</Response>'


async def test_a_call_is_signed_streamed_and_ended_by_the_caller() -> None:
    gateway = Gateway([document(STREAM)])
    record = await call(gateway, Caller([HangUp(AfterAnswer(200))]))

    assert record.outcome == "hung-up-by-caller"
    assert [s.ended_by for s in record.streams] == ["caller"]
    assert record.warnings == ()
    (request,) = gateway.requests
    assert request[0] == f"{ORIGIN}/voice"
    assert request[1]["CallSid"] == record.call_sid
    assert request[1]["CallStatus"] == "ringing"
    path, host, signature = gateway.handshakes[0]
    assert (path, host) == ("/media", "voice.example.com")
    assert RequestValidator(TOKEN).validate("wss://voice.example.com/media", {}, signature)
    events = [message["event"] for message in gateway.received[0]]
    assert events == ["connected", "start", *["media"] * 10, "stop"]
    start = gateway.received[0][1]["start"]
    assert isinstance(start, dict)
    assert start["customParameters"] == {"t": "1&2"}


async def test_the_servers_audio_reaches_the_ear_and_its_mark_comes_back_after_it() -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        stream_sid = json.loads(await socket.recv())["streamSid"]
        audio = {"payload": b64encode(SILENCE * 800).decode()}
        await socket.send(json.dumps({"event": "media", "streamSid": stream_sid, "media": audio}))
        await socket.send(json.dumps({"event": "mark", "streamSid": stream_sid, "mark": {"name": "end"}}))

    gateway = Gateway([document(STREAM)], talk)
    record = await call(gateway, Caller([HangUp(AiSilent(60))]))

    assert record.ear.audio == SILENCE * 800
    assert list(record.ear.heard_bytes) == [800]
    marks = [n for n, message in enumerate(gateway.received[0]) if message["event"] == "mark"]
    assert len(marks) == 1
    # 100 ms of audio: at least four of the caller's frames went out before its end.
    assert marks[0] >= 4


async def test_a_socket_that_the_server_closes_leads_to_the_next_verb_and_the_redirect_is_fetched_signed() -> None:
    async def talk(socket: ServerConnection) -> None:
        if len(gateway.received) == 1:
            await socket.recv()
            await socket.recv()
            await socket.close()

    gateway = Gateway([document(STREAM, "<Redirect>/voice?again=1</Redirect>"), document(STREAM)], talk)
    record = await call(gateway, Caller([HangUp(AfterAnswer(200))]))

    assert [s.ended_by for s in record.streams] == ["server", "caller"]
    assert [url for url, _, _ in gateway.requests] == [f"{ORIGIN}/voice", f"{ORIGIN}/voice?again=1"]
    assert gateway.requests[1][1]["CallStatus"] == "in-progress"
    assert record.streams[0].stream_sid != record.streams[1].stream_sid


@pytest.mark.parametrize(
    ("verbs", "outcome"),
    [
        (["<Say>Sorry.</Say>", "<Hangup/>"], "hung-up-by-server"),
        (["<Say>Sorry.</Say>"], "hung-up-by-server"),
        (["<Dial>+15005550009</Dial>"], "dialled"),
        (["<Reject/>"], "rejected"),
    ],
)
async def test_fallbacks_without_a_stream_end_the_call(verbs: list[str], outcome: str) -> None:
    record = await call(Gateway([document(*verbs)]), Caller([]))
    assert record.outcome == outcome
    assert record.streams == ()
    assert [verb.name for verb in record.verbs] == [re.findall(r"\w+", verb)[0] for verb in verbs]


async def test_a_circle_of_redirects_ends() -> None:
    gateway = Gateway([document("<Redirect>/voice</Redirect>")] * 20)
    record = await call(gateway, Caller([]))
    assert record.outcome == "too-many-redirects"
    assert len(gateway.requests) == 11


@pytest.mark.parametrize(
    ("answer", "code"),
    [("500", WEBHOOK_FAILED), ("<Response><Say>", TWIML_INVALID), ("<Call/>", TWIML_INVALID)],
)
async def test_a_webhook_that_fails_is_a_warning(answer: str, code: int) -> None:
    record = await call(Gateway([answer]), Caller([]))
    assert record.outcome == "failed"
    assert [w.code for w in record.warnings] == [code]


@pytest.mark.parametrize(
    ("overrides", "answers", "tries"),
    [
        ("", ["500"], 1),
        ("", ["nothing"], 1),
        ("#rp=5xx", ["500", "500"], 2),
        ("#rc=3&rp=4xx,rt", ["500"], 1),
        ("#rc=0&rp=all", ["500"], 1),
        ("#rc=2&rp=all", ["nothing", "500", "<Response/>"], 3),
    ],
)
async def test_a_webhook_is_repeated_as_the_overrides_in_its_url_say(
    overrides: str, answers: list[str], tries: int
) -> None:
    gateway = Gateway([*answers])
    record = await call(gateway, Caller([]), overrides=overrides)
    assert [url for url, _, _ in gateway.requests] == [f"{ORIGIN}/voice"] * tries
    assert record.webhook_retries == tries - 1
    assert record.outcome == ("failed" if answers[-1] != "<Response/>" else "hung-up-by-server")


async def test_a_refused_connection_is_tried_once_more_without_overrides() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    record = await place_call(f"{ORIGIN}/voice", TOKEN, caller=Caller([]), connect_to=nobody)
    assert (record.outcome, record.webhook_retries) == ("failed", 1)


@pytest.mark.parametrize("answer", ["500", "<Call/>"])
async def test_the_numbers_fallback_url_is_told_what_failed_and_the_call_goes_on_there(answer: str) -> None:
    gateway = Gateway([answer, document(STREAM)])
    caller = Caller([HangUp(AfterAnswer(100))])
    record = await call(gateway, caller, overrides="#rc=0", fallback_url=f"{ORIGIN}/fallback")
    assert record.outcome == "hung-up-by-caller"
    (_, (url, form, _)) = gateway.requests
    assert url == f"{ORIGIN}/fallback"
    assert (form["ErrorCode"], form["ErrorUrl"]) == (str(record.warnings[0].code), f"{ORIGIN}/voice")


async def test_a_fallback_url_that_fails_too_ends_the_call() -> None:
    gateway = Gateway(["500", "500"])
    record = await call(gateway, Caller([]), fallback_url=f"{ORIGIN}/fallback")
    assert (record.outcome, len(gateway.requests)) == ("failed", 2)


@pytest.mark.parametrize("overrides", ["#rc=6", "#ct=50", "#rp=3xx", "#tt=soon"])
async def test_overrides_that_twilio_refuses_are_a_fault_of_the_test(overrides: str) -> None:
    with pytest.raises(ValueError, match="="):
        await place_call(f"{ORIGIN}/voice{overrides}", TOKEN, caller=Caller([]))


async def test_a_stream_url_with_a_query_is_refused_and_the_next_verb_follows() -> None:
    stream = STREAM.replace("/media", "/media?x=1")
    record = await call(Gateway([document(stream, "<Say>Sorry.</Say>")]), Caller([]))
    assert [w.code for w in record.warnings] == [STREAM_REFUSED]
    assert [v.name for v in record.verbs] == ["Connect", "Say"]


async def test_the_caller_hangs_up_at_its_time_limit() -> None:
    gateway = Gateway([document(STREAM)])
    record = await call(gateway, Caller([]), limit_s=0.3)
    assert record.outcome == "time-limit"
    assert record.streams[0].ended_by == "caller"
    assert gateway.received[0][-1]["event"] == "stop"
