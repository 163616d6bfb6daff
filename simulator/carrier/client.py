"""Places calls: Twilio's webhook requests and media sockets, for as many calls at once as one process carries.

One `Exchange` serves all calls of a process from a single timer: a task and a timer for each of 7,500 frames a second
would cost more than the system under test. A message of the server is stamped when the connection's parser delivers it,
so that a busy loop hardly makes audio look late. Each record holds the timer's own lateness.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urldefrag, urljoin, urlsplit, urlunsplit

import httpx2
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from shared.gather import Gather
from shared.websocket import DirectConnection

from . import overrides, twiml
from .call import (
    STREAM_BROKEN,
    STREAM_REFUSED,
    TWIML_INVALID,
    WEBHOOK_FAILED,
    CallRecord,
    CarrierCall,
    Lag,
    VerbRecord,
)
from .caller import Caller
from .dial import Callee, Callees, LegRecord, course

# The timer's grain: frames that are due within it are sent together. A caller's frame may leave this late.
TICK_NS: Final = 4_000_000
# A tick that was later than this goes into the record.
LAG_NS: Final = 5_000_000
# Twilio gives a webhook 15 s; a test should not wait that long for a missing answer.
WEBHOOK_TIMEOUT_S: Final = 10.0
_MS: Final = 1_000
HANDSHAKE_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 1.0


def sid(prefix: str) -> str:
    """A SID of Twilio's form: two letters and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


class _Socket(DirectConnection, ClientConnection):
    """A media socket that delivers each message when it is parsed, without a queue and a task."""

    # Set after the handshake; no message can be valid before `start` was sent.
    call: CarrierCall | None = None
    # The closing handshake that the caller's hang-up began.
    closing: asyncio.Task[None] | None = None

    def take(self, data: bytes, is_text: bool) -> None:
        if self.call is not None:
            message = data.decode("utf-8", "replace") if is_text and not data.isascii() else data
            now_ns = time.monotonic_ns()
            self.send_texts(self.call.receive_text(message, now_ns) if is_text else self.call.receive(data, now_ns))

    def send_texts(self, texts: list[str]) -> None:
        if texts:
            self.send_all([text.encode() for text in texts])


@dataclass(frozen=True)
class Dialling:
    """The parameters of one call. `connect_to`: dial this host and port in plain text, whatever the URLs say."""

    webhook_url: str
    auth_token: str
    account_sid: str
    from_number: str
    to_number: str
    connect_to: tuple[str, int] | None
    connect_pause_s: float = 0.0
    fallback_url: str = ""


class Exchange:
    """All calls of this process. Use as an asynchronous context manager on the loop that carries them."""

    def __init__(self, gather: Gather | None = None, *, receive_buffer_bytes: int = 0) -> None:
        """`gather`: let events gather, for many calls at once; audio is then stamped up to 1 ms late.

        `receive_buffer_bytes`: the kernel's buffer of a media socket that is not read (0: some hundred kB, which is 20
        s of a call).
        """
        self.gather = gather
        self.receive_buffer_bytes = receive_buffer_bytes
        # httpx2 logs each request at INFO: noise in a bench, and URLs do not belong in a log.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        # One connection per request: the server may close a kept connection at the moment of its next use.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx2.AsyncClient(trust_env=False, timeout=WEBHOOK_TIMEOUT_S, limits=limits)
        # Streams that are open, the one due first in front; the number breaks ties.
        self._due: list[tuple[int, int, CarrierCall, _Socket]] = []
        self._serial = 0
        self._timer: asyncio.TimerHandle | None = None
        self._lags: list[Lag] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._http.aclose()

    async def place_call(
        self,
        webhook_url: str,
        auth_token: str,
        *,
        caller: Caller,
        connect_to: tuple[str, int] | None = None,
        account_sid: str = "AC" + 32 * "0",
        call_sid: str = "",
        from_number: str = "",
        to_number: str = "+15005550001",
        limit_s: float = 300.0,
        connect_pause_s: float = 0.0,
        callees: Callees | None = None,
        fallback_url: str = "",
    ) -> CallRecord:
        """Ring, carry out the TwiML, and return the record of the call; after `limit_s` the caller hangs up.

        Without a `from_number`, each call comes from a number of its own. `connect_pause_s` passes between the
        webhook's answer and the dialling of the media socket. A <Dial> of one of `callees` goes as they do; any other
        one ends the call. `fallback_url` is the number's own: it is requested when a webhook has failed.

        Never raises for what the server does: a webhook or socket that fails is a warning in the record.
        """
        from_number = from_number or f"+1500{secrets.randbelow(10**7):07}"
        dialling = Dialling(
            webhook_url, auth_token, account_sid, from_number, to_number, connect_to, connect_pause_s, fallback_url
        )
        leg = _Leg(self, dialling, CarrierCall(call_sid or sid("CA"), account_sid, caller), callees or {})
        began_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(limit_s):
                outcome = await leg.run()
        except TimeoutError:
            outcome = "time-limit"
        await leg.hang_up()
        lags = tuple(lag for lag in self._lags if lag.at_ns >= began_ns)
        return replace(
            leg.call.record(),
            outcome=outcome,
            verbs=tuple(leg.verbs),
            legs=tuple(leg.legs),
            lags=lags,
            webhook_retries=leg.retries,
        )

    async def fetch(
        self, dialling: Dialling, call_sid: str, url: str, method: str, status: str, more: Mapping[str, str]
    ) -> str:
        """The body of one signed webhook request, with these fields more; `url` may have overrides.

        Raises httpx2.HTTPError, also for a status that is not 2xx.
        """
        url, how = overrides.split(url)
        form = {
            "AccountSid": dialling.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": call_sid,
            "CallStatus": status,
            "Direction": "inbound",
            "From": dialling.from_number,
            "To": dialling.to_number,
            **more,
        }
        sign = RequestValidator(dialling.auth_token).compute_signature
        if method == "GET":
            url = str(httpx2.URL(url).copy_merge_params(form))
            form = {}
        target, host = _target(url, dialling.connect_to)
        response = await self._http.request(
            method,
            target,
            data=form or None,
            headers={"X-Twilio-Signature": sign(url, form), "User-Agent": "TwilioProxy/1.1", "Host": host},
            timeout=httpx2.Timeout(min(WEBHOOK_TIMEOUT_S, how.read_ms / _MS), connect=how.connect_ms / _MS),
        )
        response.raise_for_status()
        return response.text

    def socket_of(self, call_sid: str) -> ClientConnection | None:
        """The open media socket of a call, or None, so that a test can harm it."""
        return next((media for _, _, call, media in self._due if call.call_sid == call_sid), None)

    def carry(self, call: CarrierCall, socket: _Socket) -> None:
        """Serve an open stream from the timer until it has nothing due any more."""
        self._push(call, socket)
        self._arm()

    def _push(self, call: CarrierCall, socket: _Socket) -> None:
        due_ns = call.next_due_ns()
        if due_ns is not None:
            self._serial += 1
            heapq.heappush(self._due, (due_ns, self._serial, call, socket))

    def _arm(self) -> None:
        if self._timer is not None or not self._due:
            return
        now_ns = time.monotonic_ns()
        # Rounded up to the grain, so that calls which fall due together share a tick.
        wake_ns = -(-max(self._due[0][0], now_ns + 1) // TICK_NS) * TICK_NS
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later((wake_ns - now_ns) / 1e9, self._tick, wake_ns)

    def _tick(self, wake_ns: int) -> None:
        self._timer = None
        now_ns = time.monotonic_ns()
        if now_ns - wake_ns > LAG_NS:
            self._lags.append(Lag(now_ns, now_ns - wake_ns))
        while self._due and self._due[0][0] <= now_ns:
            _, _, call, socket = heapq.heappop(self._due)
            socket.send_texts(call.advance(now_ns))
            if call.has_hung_up:
                socket.closing = asyncio.create_task(socket.close())
            self._push(call, socket)
        self._arm()


class _Leg:
    """One live call: carries out its TwiML."""

    def __init__(self, exchange: Exchange, dialling: Dialling, call: CarrierCall, callees: Callees) -> None:
        self.call = call
        self.verbs: list[VerbRecord] = []
        self.legs: list[LegRecord] = []
        # Webhooks that were requested again.
        self.retries = 0
        self._callees = callees
        # Fields of the next webhook request, after a <Dial>.
        self._more: dict[str, str] = {}
        self._exchange = exchange
        self._dialling = dialling
        self._socket: _Socket | None = None

    async def run(self) -> str:
        """Carry out the call's TwiML to its end. Returns the outcome."""
        url, method, status = self._dialling.webhook_url, "POST", "ringing"
        for _ in range(twiml.MAX_REDIRECTS + 1):
            more, self._more = self._more, {}
            status = "completed" if self.call.has_hung_up else status
            try:
                verbs = twiml.parse(await self._fetch(url, method, status, more))
            except (httpx2.HTTPError, TimeoutError, twiml.TwimlError) as exc:
                code = TWIML_INVALID if isinstance(exc, twiml.TwimlError) else WEBHOOK_FAILED
                self._warn(code, f"{type(exc).__name__}: {exc}")
                fallback_url = self._dialling.fallback_url
                if not fallback_url or url == fallback_url:
                    return "failed"
                self._more = {**more, "ErrorCode": str(code), "ErrorUrl": urldefrag(url).url}
                url, method = fallback_url, "POST"
                continue
            if self.call.has_hung_up:
                return "hung-up-by-caller"
            outcome, onward = await self._carry_out(verbs, url)
            if onward is None:
                return outcome
            url, method, status = urljoin(url, onward[0]), onward[1], "in-progress"
        return "too-many-redirects"

    async def _fetch(self, url: str, method: str, status: str, more: Mapping[str, str]) -> str:
        """The webhook's body; a request that fails is repeated as the overrides in its URL say."""
        how, tries = overrides.split(url)[1], 0
        async with asyncio.timeout(how.total_ms / _MS):
            while True:
                try:
                    return await self._exchange.fetch(self._dialling, self.call.call_sid, url, method, status, more)
                except httpx2.HTTPError as exc:
                    if tries == how.retries or not how.repeats(exc):
                        raise
                    tries += 1
                    self.retries += 1

    async def _carry_out(self, verbs: list[twiml.Verb], url: str) -> tuple[str, tuple[str, str] | None]:
        """The outcome, and the (URL, method) at which the call goes on, or None."""
        for verb in verbs:
            self.verbs.append(VerbRecord(time.monotonic_ns(), verb.name, verb.text))
            if verb.name == "Connect" and verb.stream is not None:
                await self._connect(verb.stream, verb.parameters or {}, url)
                if self.call.has_hung_up:
                    return "hung-up-by-caller", None
                if action := verb.attributes.get("action"):
                    return "", (action, verb.attributes.get("method", "POST"))
            elif verb.name == "Pause":
                await asyncio.sleep(float(verb.attributes.get("length", "1")))
            elif verb.name == "Redirect":
                return "", (verb.text, verb.attributes.get("method", "POST"))
            elif verb.name == "Dial" and verb.text in self._callees:
                await self._dial(verb, self._callees[verb.text])
                if action := verb.attributes.get("action"):
                    return "", (action, verb.attributes.get("method", "POST"))
                if self.call.has_hung_up:
                    return "hung-up-by-caller", None
            elif verb.name in twiml.OUTCOMES:
                return twiml.OUTCOMES[verb.name], None
        return "hung-up-by-server", None

    async def _dial(self, verb: twiml.Verb, callee: Callee) -> None:
        """Connect the caller to somebody, until one of the two hangs up."""
        how = course(verb, callee, self._dialling.from_number, self._dialling.to_number)
        leg_sid, began_ns = sid("CA"), time.monotonic_ns()
        await asyncio.sleep(how.ring_s + how.talk_s)
        if how.warning:
            self._warn(how.warning, "the number to be shown is not permitted")
        self.legs.append(how.record(leg_sid, verb.text, began_ns))
        self._more = how.fields(leg_sid)
        if how.caller_left:
            self.call.hang_up(time.monotonic_ns())

    async def _connect(self, stream: Mapping[str, str], parameters: Mapping[str, str], webhook_url: str) -> None:
        """Dial the media socket and wait for its end; give up at once when the handshake is refused."""
        try:
            url = twiml.stream_url(webhook_url, stream.get("url", ""))
        except twiml.TwimlError as exc:
            self._warn(STREAM_REFUSED, str(exc))
            return
        target, _ = _target(url, self._dialling.connect_to, keep_host=True)
        where: dict[str, Any] = {}
        if self._dialling.connect_to is not None:
            where["host"], where["port"] = self._dialling.connect_to
        signature = RequestValidator(self._dialling.auth_token).compute_signature(url, {})
        if self._dialling.connect_pause_s:
            await asyncio.sleep(self._dialling.connect_pause_s)
        try:
            if self._exchange.receive_buffer_bytes:
                where = {"sock": await self._small_socket(target, **where)}
            connected = await connect(
                target,
                create_connection=_Socket,
                # Written in lower case on a socket's handshake (Twilio, webhooks security).
                additional_headers={"x-twilio-signature": signature},
                user_agent_header="TwilioProxy/1.1",
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=HANDSHAKE_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                **where,
            )
        except (InvalidHandshake, OSError, TimeoutError) as exc:
            self._warn(STREAM_REFUSED, f"{type(exc).__name__}: {exc}")
            return
        assert isinstance(connected, _Socket)
        self._socket = connected
        connected.gather = self._exchange.gather
        connected.call = self.call
        connected.send_texts(self.call.open(sid("MZ"), parameters, time.monotonic_ns()))
        self._exchange.carry(self.call, connected)
        lost = False
        try:
            await connected.receive_each(connected.take)
        except ConnectionClosed as exc:
            lost = exc.rcvd is None
            if exc.rcvd is not None and exc.rcvd.code not in (1000, 1001, 1005):
                self._warn(STREAM_BROKEN, f"closed with {exc.rcvd.code} {exc.rcvd.reason}")
        self.call.closed(time.monotonic_ns(), lost=lost)

    async def _small_socket(self, url: str, host: str = "", port: int = 0) -> socket.socket:
        """A connected socket. Its buffer is small from the start: an offered TCP window cannot be taken back."""
        parts = urlsplit(url)
        small = socket.socket()
        try:
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._exchange.receive_buffer_bytes)
            small.setblocking(False)
            where = (host or parts.hostname or "", port or parts.port or 80)
            await asyncio.get_running_loop().sock_connect(small, where)
        except BaseException:
            small.close()
            raise
        return small

    async def hang_up(self) -> None:
        """End the call from the caller's side, whatever state it is in; closes the socket."""
        stop = self.call.hang_up(time.monotonic_ns())
        if self._socket is not None:
            self._socket.send_texts(stop)
            await self._socket.close()

    def _warn(self, code: int, text: str) -> None:
        self.call.warn(code, text, time.monotonic_ns())


def _target(url: str, connect_to: tuple[str, int] | None, *, keep_host: bool = False) -> tuple[str, str]:
    """Where to connect for `url`, and the Host to name there."""
    parts = urlsplit(url)
    if connect_to is None:
        return url, parts.netloc
    scheme = {"https": "http", "wss": "ws"}.get(parts.scheme, parts.scheme)
    netloc = parts.netloc if keep_host else f"{connect_to[0]}:{connect_to[1]}"
    return urlunsplit((scheme, netloc, parts.path, parts.query, "")), parts.netloc


async def place_call(webhook_url: str, auth_token: str, *, caller: Caller, **options: Any) -> CallRecord:
    """One call on an exchange of its own; see `Exchange.place_call`."""
    async with Exchange() as exchange:
        return await exchange.place_call(webhook_url, auth_token, caller=caller, **options)
