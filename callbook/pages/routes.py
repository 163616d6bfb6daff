"""`/calls`, `/calls/{call_sid}` and `/live`: a page whose scripts read the API and play the recording."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from typing import Final

import httpx2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from shared.settings import Settings

from ..models import Recording

TWILIO_API: Final = "https://api.twilio.com"
TIMEOUT_S: Final = 15.0
_TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Pages:
    """The routes. Files are read once, at the start."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._account = (settings.twilio_account_sid, settings.twilio_auth_token)
        self._base = f"{settings.twilio_api_url or TWILIO_API}/2010-04-01/Accounts/{settings.twilio_account_sid}"
        folder = files(__package__) / "static"
        self._files = {
            path.name: (path.read_bytes(), _TYPES[path.name.rpartition(".")[2]]) for path in folder.iterdir()
        }

    def routes(self) -> list[Route]:
        return [
            Route("/", lambda _: RedirectResponse("/calls", 307, _HEADERS)),
            Route("/calls", self._page),
            Route("/live", self._page),
            Route("/calls/static/{name}", self._file),
            Route("/calls/{call_sid}", self._page),
            Route("/calls/{call_sid}/recording.wav", self._recording),
        ]

    async def _page(self, request: Request) -> Response:
        return self._send("calls.html")

    async def _file(self, request: Request) -> Response:
        return self._send(request.path_params["name"])

    def _send(self, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            raise HTTPException(404, "no such file")
        return Response(found[0], 200, _HEADERS, found[1])

    async def _recording(self, request: Request) -> Response:
        """The recording from Twilio. Twilio asks for the account's token, which a browser does not have."""
        call_sid = request.path_params["call_sid"]

        def find() -> str:
            with Session(self._engine) as session:
                recording = session.get(Recording, call_sid)
                return recording.recording_sid if recording is not None and recording.state == "completed" else ""

        try:
            recording_sid = await asyncio.to_thread(find)
        except SQLAlchemyError:
            raise HTTPException(503, "the database does not answer") from None
        if not recording_sid or not all(self._account):
            raise HTTPException(404, "no recording")
        client = httpx2.AsyncClient(timeout=TIMEOUT_S, auth=self._account, follow_redirects=True)
        url = f"{self._base}/Recordings/{recording_sid}.wav?RequestedChannels=2"
        try:
            answer = await client.send(client.build_request("GET", url), stream=True)
        except (httpx2.HTTPError, OSError):
            await client.aclose()
            raise HTTPException(502, "Twilio does not answer") from None
        if answer.status_code != 200:
            await client.aclose()
            raise HTTPException(502, f"Twilio does not give the recording (HTTP {answer.status_code})")

        async def body() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_bytes():
                    yield chunk
            finally:
                await answer.aclose()
                await client.aclose()

        return StreamingResponse(body(), 200, _HEADERS, "audio/wav")
