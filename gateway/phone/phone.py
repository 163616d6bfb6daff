"""The routes of the browser phone."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from shared.clock import unix_ms
from shared.settings import Settings

from ..core.calls import Calls
from ..core.commands import Commands
from ..core.metrics import Metrics
from ..core.phone_access import KEY_COOKIE, KEY_LIFE_S, TICKET_COOKIE, PhoneAccess, cookie, phone_key
from ..core.plans import inbound
from ..core.tokens import LIFE_NS, Tokens, shared_key
from ..core.twiml import MEDIA_PATH, media_path
from ..port import is_private
from .feeds import Feeds

_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_CALL_SID: Final = re.compile(r"CA[0-9a-f]{32}")
# Stands in place of a phone number in logs and records.
FROM: Final = "browser"
LOCKED: Final = (
    "This phone is locked: the gateway is open to the internet, and only somebody who runs it may call from here.\n"
    "On its machine, run\n\n    twentyms phone\n\nand open the link that it prints.\n"
)


def is_on(settings: Settings, *, loopback: bool) -> bool:
    """PHONE_PAGE. Without it, the phone is on where only this machine can reach the gateway.

    `loopback`: the port is bound to loopback, and the origin is loopback, too. A proxy would have another origin.
    """
    return settings.phone_page == "on" or (not settings.phone_page and loopback)


def origins(settings: Settings, *, loopback: bool) -> set[str]:
    """The origins under which the page may be opened."""
    own = {settings.origin.lower()}
    if loopback:
        own |= {f"http://{host}:{settings.gateway_port}" for host in ("localhost", "127.0.0.1", "[::1]")}
    return own


def access(settings: Settings, *, loopback: bool) -> PhoneAccess:
    """The rules that follow from the settings."""
    guarded = settings.allow_unsigned == "off"
    secret = phone_key(settings.twilio_auth_token) if guarded else None
    tickets = Tokens(secret if secret is not None else shared_key(""))
    return PhoneAccess(origins(settings, loopback=loopback), tickets, secret=secret)


class Phone:
    """Serves page, files, calls and feeds, all from memory."""

    def __init__(
        self,
        rules: PhoneAccess,
        *,
        calls: Calls,
        carry_out: Callable[[Commands], None],
        feeds: Feeds,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._rules = rules
        self._calls = calls
        self._carry_out = carry_out
        self._account_sid = settings.twilio_account_sid or "AC" + 32 * "0"
        self._sorry = settings.fallback_say or "All lines are busy. Please try again in a few minutes."
        # The calls page, where this page is seen on the machine that serves both.
        self._records = f"http://localhost:{settings.metrics_port}/calls/" if is_private(settings) else ""
        self._cell = settings.cell
        self._simulated = settings.simulated_model if settings.is_simulated else ""
        self._feeds = feeds
        self._refused = metrics.phone_refused
        folder = files(__package__) / "static"
        self._files = {
            path.name: (path.read_bytes(), _TYPES[path.name[path.name.rindex(".") :]]) for path in folder.iterdir()
        }
        # A policy cannot name a literal IPv6 address; 'self' covers it.
        sockets = " ".join(sorted("ws" + origin.removeprefix("http") for origin in rules.origins if "[" not in origin))
        # The page runs its own scripts and talks to its own gateway. Nothing else is allowed, frames included.
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; worker-src 'self'; "
                f"connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Cache-Control": "no-cache",
            "Permissions-Policy": "microphone=(self)",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def routes(self) -> list[Route]:
        return [
            Route("/", self._page),
            Route("/phone/about", self._about),
            Route("/phone/call", self._call, methods=["POST"]),
            Route("/phone/events/{call_sid}", self._events),
            Route("/phone/{name}", self._file),
        ]

    async def _page(self, request: Request) -> Response:
        self._check_host(request)
        key = request.query_params.get("key", "")
        if key and self._rules.opens(key, int(time.time())):
            # Move the key from the address bar into a cookie that no script can read.
            answer: Response = RedirectResponse("/", 303, self._headers)
            self._set(answer, request, KEY_COOKIE, key, max_age_s=KEY_LIFE_S, path="/", same_site="lax")
            return answer
        if not self._is_open(request):
            return Response(LOCKED, 403, self._headers, "text/plain; charset=utf-8")
        return self._send("index.html")

    async def _file(self, request: Request) -> Response:
        self._check_host(request)
        return self._send(request.path_params["name"])

    async def _about(self, request: Request) -> Response:
        """The agents that the page can call, the default first; what answers in place of a model, if anything; records.

        `records` is where the page of a call is, or "".
        """
        self._check(request)
        agents = self._calls.offers.agents
        names = [] if agents is None else sorted(agents.agents, key=lambda name: (name != agents.default.name, name))
        return self._json({"agents": names, "simulated": self._simulated, "records": self._records}, 200)

    async def _call(self, request: Request) -> Response:
        """Offer a call as the webhook does, and give the page what Twilio would get from the TwiML."""
        self._check(request)
        if not self._rules.is_own_origin(request.headers.get("Origin")):
            self._refuse("call from a page of another origin")
        agents, agent_name = self._calls.offers.agents, request.query_params.get("agent", "")
        if agent_name and (agents is None or agent_name not in agents.agents):
            return self._json({"error": "There is no such agent any more. Reload this page."}, 404)
        call_sid = "CA" + secrets.token_hex(16)
        now_ns = time.monotonic_ns()
        plan = inbound(self._account_sid, FROM, "", unix_ms(now_ns), agents, agent_name=agent_name)
        answer = self._calls.offers.take(call_sid, plan, now_ns)
        self._carry_out(answer.commands)
        if answer.order is not None:
            return self._json({"error": self._sorry}, 503)
        self._feeds.open(call_sid)
        said = {"callSid": call_sid, "accountSid": self._account_sid, "media": media_path(self._cell)}
        reply = self._json(said | {"parameters": answer.parameters}, 200)
        ticket = self._rules.ticket(time.monotonic_ns())
        life_s = LIFE_NS // 1_000_000_000
        self._set(reply, request, TICKET_COOKIE, ticket, max_age_s=life_s, path=MEDIA_PATH, same_site="strict")
        return reply

    async def _events(self, request: Request) -> Response:
        self._check(request)
        call_sid = request.path_params["call_sid"]
        feed = self._feeds.get(call_sid) if _CALL_SID.fullmatch(call_sid) else None
        if feed is None:
            raise HTTPException(404, "no such call")
        return StreamingResponse(feed.events(), 200, self._headers, "text/event-stream")

    def _check_host(self, request: Request) -> None:
        if not self._rules.is_own_host(request.headers.get("Host")):
            self._refuse("unknown host name")

    def _check(self, request: Request) -> None:
        self._check_host(request)
        if not self._is_open(request):
            self._refuse("the phone is locked")

    def _is_open(self, request: Request) -> bool:
        return self._rules.opens(cookie(request.headers.get("Cookie"), KEY_COOKIE), int(time.time()))

    def _refuse(self, why: str) -> None:
        self._refused.inc()
        raise HTTPException(403, why)

    def _send(self, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            raise HTTPException(404, "no such file")
        return Response(found[0], 200, self._headers, found[1])

    def _json(self, body: dict[str, Any], status: int) -> Response:
        return Response(
            json.dumps(body), status, {**self._headers, "Cache-Control": "no-store"}, JSONResponse.media_type
        )

    def _set(
        self, answer: Response, request: Request, name: str, value: str, *, max_age_s: int, path: str, same_site: Any
    ) -> None:
        # TLS ends at a proxy in front; the page's origin tells whether there is one.
        secure = f"https://{request.headers.get('Host', '')}".lower() in self._rules.origins
        answer.set_cookie(name, value, max_age=max_age_s, path=path, secure=secure, httponly=True, samesite=same_site)
