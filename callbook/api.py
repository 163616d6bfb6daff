"""`/api/calls` on the private port: the calls, newest first and page by page, and each call whole. `/api/live`: now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .queries import LIVE, BadCursorError, Wanted, live, page, whole

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
ENDS: Final = ("", LIVE, "stop", "lost", "hung-up")
WORDS_MAX: Final = 200

_T = TypeVar("_T")


class Api:
    """The routes. They show callers' numbers and words: keep the port private."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        return [
            Route("/api/calls", self._calls),
            Route("/api/calls/{call_sid}", self._call),
            Route("/api/live", self._live),
        ]

    async def _calls(self, request: Request) -> Response:
        limit = _limit(request.query_params.get("limit", str(DEFAULT_LIMIT)))
        before = request.query_params.get("before", "")
        wanted = _wanted(request.query_params)
        try:
            calls, next_page = await self._read(
                lambda session: page(session, limit=limit, before=before, wanted=wanted)
            )
        except BadCursorError as exc:
            raise HTTPException(400, str(exc)) from None
        return JSONResponse({"calls": calls, "next": next_page or None})

    async def _live(self, _: Request) -> Response:
        calls, more = await self._read(lambda session: live(session, datetime.now(UTC)))
        return JSONResponse({"calls": calls, "more": more})

    async def _call(self, request: Request) -> Response:
        call_sid = request.path_params["call_sid"]
        call = await self._read(lambda session: whole(session, call_sid))
        if call is None:
            raise HTTPException(404, "no such call")
        return JSONResponse(call)

    async def _read(self, query: Callable[[Session], _T]) -> _T:
        def read() -> _T:
            with Session(self._engine) as session:
                return query(session)

        try:
            return await asyncio.to_thread(read)
        except SQLAlchemyError:
            raise HTTPException(503, "the database does not answer; calls go on, and their records follow") from None


def _wanted(asked: Mapping[str, str]) -> Wanted:
    ended, gaps = asked.get("ended", ""), asked.get("gaps", "")
    if ended not in ENDS:
        raise HTTPException(400, f"`ended` must be one of {', '.join(filter(None, ENDS))}")
    if gaps not in ("", "1"):
        raise HTTPException(400, "`gaps` must be 1")
    return Wanted(asked.get("q", "").strip()[:WORDS_MAX], ended, gaps == "1")


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise HTTPException(400, f"`limit` must be a number from 1 to {MAX_LIMIT}")
    return int(text)


async def refuse(_: Request, exc: Exception) -> Response:
    """An exception handler that answers in JSON."""
    assert isinstance(exc, HTTPException)
    body: dict[str, Any] = {"error": exc.detail}
    return JSONResponse(body, exc.status_code)
