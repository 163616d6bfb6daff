"""Twilio's REST API for calls and their recordings; slow, failing or refusing on request.

Paths, fields, status codes and error bodies are those of the API of 2010-04-01. Every request is recorded with its
time, on the clock of the carrier's ear, so that a test can compare the two.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from twilio.request_validator import RequestValidator

API: Final = "/2010-04-01/Accounts/{account}"
# Twilio's error codes.
AUTHENTICATE: Final = 20003
NOT_FOUND: Final = 20404
TOO_MANY: Final = 20429
# "Resource not eligible for recording": the call is not in progress.
NOT_RECORDABLE: Final = 21220
_MESSAGES: Final = {
    400: (NOT_RECORDABLE, "Requested resource is not eligible for recording"),
    401: (AUTHENTICATE, "Authenticate"),
    404: (NOT_FOUND, "The requested resource was not found"),
    429: (TOO_MANY, "Too Many Requests"),
    500: (20500, "An internal server error has occurred"),
    503: (20503, "Service unavailable"),
}


@dataclass(frozen=True)
class RestRequest:
    """One request as it was received. `form` keeps repeated fields."""

    at_ns: int
    method: str
    path: str
    form: tuple[tuple[str, str], ...]

    @property
    def is_create(self) -> bool:
        return self.method == "POST" and self.path.endswith("/Recordings.json")


@dataclass
class RestRecording:
    sid: str
    call_sid: str
    callback: str
    status: str = "in-progress"


@dataclass(frozen=True)
class Trouble:
    """Trouble for a request: a wait, then a status in place of the answer (0: the answer).

    `done`: the request is carried out, and only its answer is lost.
    """

    wait_s: float = 0.0
    status: int = 0
    done: bool = False


@dataclass
class CarrierRest:
    """Use as an asynchronous context manager; `url` is TWILIO_API_URL. Each request of `methods` meets `trouble`.

    `troubles` come before that, one per request. `ended` calls cannot be recorded.
    """

    account_sid: str
    auth_token: str
    trouble: Trouble = Trouble()
    troubles: list[Trouble] = field(default_factory=list)
    methods: frozenset[str] = frozenset({"POST"})
    ended: set[str] = field(default_factory=set)
    requests: list[RestRequest] = field(default_factory=list)
    recordings: dict[str, RestRecording] = field(default_factory=dict)
    port: int = 0
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def of_call(self, call_sid: str) -> list[RestRecording]:
        return [each for each in self.recordings.values() if each.call_sid == call_sid]

    def creates(self, call_sid: str) -> list[RestRequest]:
        return [each for each in self.requests if each.is_create and f"/Calls/{call_sid}/" in each.path]

    async def __aenter__(self) -> Self:
        listener = socket.create_server((self.host, self.port))
        self.port = listener.getsockname()[1]
        routes = [
            Route(API + "/Calls/{call}/Recordings.json", self._call_recordings, methods=["GET", "POST"]),
            Route(API + "/Calls/{call}.json", self._call, methods=["GET"]),
            Route(API + "/Recordings/{recording}.json", self._recording, methods=["GET", "DELETE"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_config=None, log_level="error", ws="none")
        config.timeout_graceful_shutdown = 1
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._serving

    async def complete(self, recording_sid: str, *, duration_s: int = 5) -> int:
        """End a recording and post its callback, signed. Returns the status of the callback's answer."""
        recording = self.recordings[recording_sid]
        recording.status = "completed"
        form = {
            "AccountSid": self.account_sid,
            "CallSid": recording.call_sid,
            "RecordingSid": recording.sid,
            "RecordingUrl": f"{self.url}/2010-04-01/Accounts/{self.account_sid}/Recordings/{recording.sid}",
            "RecordingStatus": "completed",
            "RecordingDuration": str(duration_s),
            "RecordingChannels": "2",
            "RecordingSource": "StartCallRecordingAPI",
        }
        signature = RequestValidator(self.auth_token).compute_signature(recording.callback, form)
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.post(recording.callback, data=form, headers={"X-Twilio-Signature": signature})
        return answer.status_code

    async def _call_recordings(self, request: Request) -> Response:
        form = tuple(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        refusal, lost = await self._meet(request, form)
        if refusal is not None and not lost:
            return refusal
        call_sid = request.path_params["call"]
        if request.method == "GET":
            found = [self._json(each) for each in self.of_call(call_sid)]
            return refusal or JSONResponse({"recordings": found, "page": 0, "page_size": 50, "next_page_uri": None})
        if call_sid in self.ended:
            return _error(404)
        fields = dict(form)
        recording = RestRecording("RE" + secrets.token_hex(16), call_sid, fields.get("RecordingStatusCallback", ""))
        self.recordings[recording.sid] = recording
        return refusal or JSONResponse(self._json(recording), 201)

    async def _recording(self, request: Request) -> Response:
        refusal, _ = await self._meet(request, ())
        if refusal is not None:
            return refusal
        recording = self.recordings.get(request.path_params["recording"])
        if recording is None:
            return _error(404)
        if request.method == "DELETE":
            del self.recordings[recording.sid]
            return Response(status_code=204)
        return JSONResponse(self._json(recording))

    async def _call(self, request: Request) -> Response:
        refusal, _ = await self._meet(request, ())
        if refusal is not None:
            return refusal
        sid = request.path_params["call"]
        status = "completed" if sid in self.ended else "in-progress"
        return JSONResponse({"sid": sid, "account_sid": self.account_sid, "status": status})

    async def _meet(self, request: Request, form: tuple[tuple[str, str], ...]) -> tuple[Response | None, bool]:
        """Record the request. Returns the refusal that it meets, and whether it is carried out all the same."""
        self.requests.append(RestRequest(time.monotonic_ns(), request.method, request.url.path, form))
        expected = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return _error(401), False
        if request.path_params["account"] != self.account_sid:
            return _error(404), False
        if request.method not in self.methods:
            return None, False
        trouble = self.troubles.pop(0) if self.troubles else self.trouble
        await asyncio.sleep(trouble.wait_s)
        return (_error(trouble.status), trouble.done) if trouble.status else (None, False)

    def _json(self, recording: RestRecording) -> dict[str, Any]:
        return {
            "sid": recording.sid,
            "account_sid": self.account_sid,
            "call_sid": recording.call_sid,
            "status": recording.status,
            "channels": 2,
            "source": "StartCallRecordingAPI",
            "api_version": "2010-04-01",
            "uri": f"/2010-04-01/Accounts/{self.account_sid}/Recordings/{recording.sid}.json",
        }


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the program that runs the loop."""
        yield


def _error(status: int) -> Response:
    code, message = _MESSAGES.get(status, (20001, "Error"))
    more = f"https://www.twilio.com/docs/errors/{code}"
    return JSONResponse({"code": code, "message": message, "more_info": more, "status": status}, status)
