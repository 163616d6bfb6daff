"""Which WebSocket handshakes are accepted. A refused handshake costs its answer only."""

from __future__ import annotations

from http import HTTPStatus
from time import monotonic_ns

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from .core.calls import Calls
from .core.metrics import Metrics
from .core.phone_access import PhoneAccess
from .core.signatures import ALGORITHM_HEADER, SIGNATURE_HEADER, Signatures
from .core.twiml import media_paths


class Handshakes:
    """`signatures` None: signatures are not checked. `phone` None: there is no browser phone."""

    def __init__(
        self, calls: Calls, signatures: Signatures | None, phone: PhoneAccess | None, metrics: Metrics, cell: str = ""
    ) -> None:
        self._calls = calls
        self._cell = cell
        self._signatures = signatures
        self._phone = phone
        self._refused = metrics.handshakes

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake before anything is allocated for it; None accepts it."""
        path, question_mark, _ = request.path.partition("?")
        if not media_paths(path, self._cell):
            return self._refuse(connection, "path", HTTPStatus.NOT_FOUND)
        if question_mark:
            return self._refuse(connection, "query", HTTPStatus.BAD_REQUEST)
        if not self._is_signed(path, request) and not self._has_ticket(request):
            return self._refuse(connection, "signature", HTTPStatus.FORBIDDEN)
        if not self._calls.is_accepting:
            return self._refuse(connection, "not_accepting", HTTPStatus.SERVICE_UNAVAILABLE)
        return None

    def _is_signed(self, path: str, request: Request) -> bool:
        return self._signatures is None or self._signatures.media(
            path, _single(request, SIGNATURE_HEADER), _single(request, ALGORITHM_HEADER)
        )

    def _has_ticket(self, request: Request) -> bool:
        """Whether the socket shows a browser phone's ticket. Uses the ticket up."""
        headers = request.headers
        return self._phone is not None and self._phone.takes_ticket(
            headers.get("Origin"), "; ".join(headers.get_all("Cookie")), monotonic_ns()
        )

    def _refuse(self, connection: ServerConnection, outcome: str, status: HTTPStatus) -> Response:
        self._refused[outcome].inc()
        return connection.respond(status, f"{status.phrase}\n")


def _single(request: Request, name: str) -> str | None:
    """A header's value; None when the header is missing or repeated."""
    values = request.headers.get_all(name)
    return values[0] if len(values) == 1 else None
