"""The HTTP side of the public port: Twilio's webhooks, and health."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from time import monotonic_ns
from typing import Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared.clock import unix_ms
from shared.liveness import CONFIG_WAIT_S, RECALL_S, REQUEST_S
from shared.plan import Dial
from shared.settings import Settings

from .core import twiml
from .core.calls import Calls
from .core.chronicle import FINAL
from .core.commands import Commands, Note
from .core.metrics import Metrics
from .core.orders import Orders, dial_end, dial_status
from .core.phone_access import hosts
from .core.plans import inbound
from .core.signatures import ALGORITHM_HEADER, SIGNATURE_HEADER, Signatures
from .phone.phone import Phone, origins
from .waiting import WaitingWebhooks

Form = ImmutableMultiDict[str, str]

# Twilio's forms are below 4 kB; SIP headers and speech results can add to them.
MAX_BODY_BYTES: Final = 65_536
BODY_S: Final = REQUEST_S
MAX_FIELDS: Final = 256
_WORKERS: Final = {str(number): number for number in range(64)}
# Twilio's are "CA" and 32 hex digits. Tests may use others of that kind; nothing else may reach a log.
_CALL_SID: Final = re.compile(r"[A-Za-z0-9]{2,64}", re.ASCII)


class Web:
    """The routes. Each handler answers from memory, without disk, database or requests of its own.

    With CALL_CONFIG_URL, the webhook of a new call waits for the worker that asks it; with STATE_URL, the webhook of a
    call that returns from another cell waits for callbook.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        calls: Calls,
        carry_out: Callable[[Commands], None],
        webhooks: WaitingWebhooks,
        signatures: Signatures | None,
        metrics: Metrics,
        phone: Phone | None = None,
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._carry_out = carry_out
        self._webhooks = webhooks
        self._signatures = signatures
        self._metrics = metrics
        self._phone = phone
        # Without signatures, any page in a browser that reaches this port can post a form for a call's token. To read
        # the answer, the page would need a DNS name of its own for this port (DNS rebinding): refuse unknown names.
        self._hosts = hosts(origins(settings, loopback=True)) if signatures is None else None
        self._orders = Orders(settings.origin, settings.fallback_say, settings.fallback_dial, settings.cell)

    def app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route(twiml.VOICE_PATH, self._voice, methods=["GET", "POST"]),
                Route("/twilio/status", self._status, methods=["POST"]),
                Route("/twilio/recording", self._recording, methods=["POST"]),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                *(self._phone.routes() if self._phone is not None else ()),
            ]
        )
        # A redirect would be built from the request's Host.
        app.router.redirect_slashes = False
        return app

    async def _voice(self, request: Request) -> Response:
        fields = await self._signed(request, "voice")
        call_sid = fields.get("CallSid", "")
        if not _CALL_SID.fullmatch(call_sid):
            raise HTTPException(400, "no CallSid")
        now_ns = monotonic_ns()
        at_ms = unix_ms(now_ns)
        plan = inbound(
            fields.get("AccountSid", ""),
            fields.get("From", ""),
            fields.get("To", ""),
            at_ms,
            self._calls.offers.agents,
        )
        query = request.query_params
        returned, is_over = dial_end(query, fields), fields.get("CallStatus") in FINAL
        chronicle = self._calls.chronicle
        if "DialCallStatus" in fields:
            facts = chronicle.dial_ended(call_sid, dial_status(fields), fields, at_ms, caller_left=is_over)
            self._carry_out([Note(fact) for fact in facts])
        answer = self._calls.offers.take(
            call_sid,
            plan,
            now_ns,
            resumed=query.get("resume") == "1",
            returned=returned,
            worker=_WORKERS.get(query.get("worker", "")),
            cell=query.get("cell", ""),
            asks=bool(self._settings.call_config_url),
            is_over=is_over,
        )
        self._carry_out(answer.commands)
        is_new = answer.is_asked
        if is_new:
            if not self._calls.offers.is_configured(call_sid):
                await self._webhooks.wait(call_sid, CONFIG_WAIT_S)
            answer = self._calls.offers.configured(call_sid, answer, monotonic_ns())
            self._carry_out(answer.commands)
        elif answer.is_recalled:
            if self._calls.offers.is_recalling(call_sid):
                await self._webhooks.wait(call_sid, RECALL_S)
            answer = self._calls.offers.recalled(call_sid, answer)
        if isinstance(answer.order, Dial):
            self._carry_out([Note(fact) for fact in chronicle.dial_began(call_sid, answer.order, at_ms)])
        if answer.order is not None:
            text = self._orders.twiml(answer.order, answer.worker, is_new=is_new)
        else:
            text = twiml.connect(self._settings.origin, answer.parameters, answer.worker, self._settings.cell)
        # A proxy in front tries another cell; when all refuse, the body of the last one is the answer.
        return Response(text, 503 if answer.is_for_another_cell else 200, media_type="text/xml")

    async def _status(self, request: Request) -> Response:
        return await self._callback(request, "status")

    async def _recording(self, request: Request) -> Response:
        return await self._callback(request, "recording")

    async def _callback(self, request: Request, hook: str) -> Response:
        fields = await self._signed(request, hook)
        self._metrics.callbacks[hook].inc()
        now_ns = monotonic_ns()
        facts = self._calls.chronicle.callback(hook, fields, unix_ms(now_ns), now_ns)
        self._carry_out([Note(fact) for fact in facts])
        return Response(status_code=204)

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        missing = self._calls.neighbours.missing(monotonic_ns())
        if self._calls.offers.draining:
            missing.append("this gateway is draining")
        return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

    async def _signed(self, request: Request, hook: str) -> Form:
        """The form (POST) or the query (GET) of a request that Twilio signed. Raises HTTPException."""
        query = request.scope["query_string"].decode("latin-1")
        path: str = request.scope["path"]
        target = f"{path}?{query}" if query else path
        if request.method == "POST":
            fields = form = await _form(request)
        else:
            form = Form()
            fields = _fields(query)
        headers = request.headers
        if self._hosts is not None and headers.get("Host", "").lower() not in self._hosts:
            self._metrics.unsigned[hook].inc()
            raise HTTPException(403, "unknown host name")
        if self._signatures is not None and not self._signatures.webhook(
            target, form, headers.get(SIGNATURE_HEADER), headers.get(ALGORITHM_HEADER)
        ):
            self._metrics.unsigned[hook].inc()
            raise HTTPException(403, "not signed by Twilio for this URL")
        account_sid = self._settings.twilio_account_sid
        if account_sid and fields.get("AccountSid") != account_sid:
            self._metrics.unsigned[hook].inc()
            raise HTTPException(403, "another account")
        return fields


async def _form(request: Request) -> Form:
    """The body as form fields, blank values and duplicates kept: they are signed, too. Raises HTTPException."""
    content_type, _, _ = request.headers.get("content-type", "").partition(";")
    if content_type.strip().lower() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "expected application/x-www-form-urlencoded")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise HTTPException(413, "form too large")
    except TimeoutError:
        raise HTTPException(408, "form did not arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "form did not arrive") from None
    return _fields(body.decode("latin-1"))


def _fields(encoded: str) -> Form:
    try:
        return Form(parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise HTTPException(400, "too many fields") from None
