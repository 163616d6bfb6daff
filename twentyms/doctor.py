"""Try everything that a call needs, and say what to do about what is missing.

The model is asked for a word, the webhook is called over the public address with a signature, and the media socket is
opened as Twilio opens it. Then a test call over the public address measures the path: it says hello, hears the answer,
and costs what such a call costs. No secret is printed. Exit status: 0 when nothing has to be done.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI, OpenAIError
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from aibridge import agents
from aibridge.models.realtime.servers import OPENAI, Server, Servers
from aibridge.models.realtime.session_config import session_config
from gateway.core.signatures import SIGNATURE_HEADER
from gateway.core.twiml import VOICE_PATH, media_url
from shared.process import ConfigError
from shared.settings import Settings, misspelt
from simulator.carrier.caller import AiSilent, Caller, HangUp, Say
from simulator.carrier.client import place_call

from . import here, path_advice, realtime_facts, realtime_rules, run
from .arguments import Parser
from .finding import Finding, Outcome
from .real_model import is_real, without_key

TIMEOUT_S: Final = 10.0
# Signatures and keys expire by the clock. Twilio and OpenAI tolerate minutes; a clock that is set is right to 1 s.
CLOCK_S: Final = 5.0
# Callers say "hello?" when the model takes longer than this to its first sound.
SLOW_MS: Final = 1_500
# The test call: long enough for a few dozen pings. It is cut off after CALL_S.
SCRIPT: Final = (Say("hello", AiSilent(ms=600)), HangUp(AiSilent(ms=1_500)))
CALL_S: Final = 30.0
# From the end of a call to its record: a second, or more where the database is slow.
RECORD_S: Final = 10.0
TWILIO_API: Final = "https://api.twilio.com"

# The gateway refuses this CallSid with 400, so no call begins.
_NO_CALL: Final = {"CallSid": "-"}


def main(arguments: Sequence[str]) -> int:
    """Print each finding at once. The exit status: 1 when something is bad."""
    parser = Parser("doctor", __doc__)
    parser.add_argument("--no-call", action="store_true", help="place no test call")
    realtime_help = "say only what this node permits a process with deadlines, and what to do; needs no rights"
    parser.add_argument("--realtime", action="store_true", help=realtime_help)
    options = parser.parse_args(arguments)
    try:
        settings = here.settings()
    except ConfigError as exc:
        for line in str(exc).splitlines():
            print(f"BAD   settings       {line}")
        return 1
    if options.realtime:
        found = realtime_rules.findings(realtime_facts.gather(), settings.tx_realtime)
        return _conclude([_told(each) for each in found], "Calls work on this node.")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return asyncio.run(_examine(settings, may_call=not options.no_call))


async def _examine(settings: Settings, *, may_call: bool) -> int:
    checks: tuple[Callable[[Settings], Awaitable[list[Finding]]], ...] = (
        names, keys, ports, realtime, model, twilio, public_address, webhook, media_socket, clock,
        *([path] if may_call else []),
    )  # fmt: skip
    return _conclude([_told(found) for check in checks for found in await check(settings)], "Ready for calls.")


def _told(found: Finding) -> Outcome:
    print("\n".join(found.lines()), flush=True)
    return found.outcome


def _conclude(outcomes: Sequence[Outcome], good: str) -> int:
    print("\nSomething has to be done." if "bad" in outcomes else f"\n{good}")
    return 1 if "bad" in outcomes else 0


async def names(settings: Settings) -> list[Finding]:
    return [Finding("bad", "settings", line) for line in misspelt(here.directory())]


async def keys(settings: Settings) -> list[Finding]:
    found = []
    if settings.openai_api_key:
        found.append(Finding("ok", "OpenAI key", "set"))
    elif is_real(settings) and not without_key(settings):
        found.append(Finding("ok", "OpenAI key", "not set: each agent has a key of its own"))
    else:
        try:
            run.check(settings)
            text = "not set: `make run` uses the simulated model"
            found.append(Finding("note", "OpenAI key", text, "set OPENAI_API_KEY in .env"))
        except ConfigError as exc:
            found.append(Finding("bad", "OpenAI key", str(exc)))
    if settings.twilio_auth_token:
        found.append(Finding("ok", "Twilio token", "set"))
    elif settings.allow_unsigned == "on":
        advice = "set TWILIO_AUTH_TOKEN and ALLOW_UNSIGNED=off before anybody else can reach the port"
        found.append(Finding("note", "Twilio token", "not set; ALLOW_UNSIGNED=on takes calls from anyone", advice))
    else:
        advice = "copy the Auth Token of console.twilio.com, Account Dashboard, into TWILIO_AUTH_TOKEN"
        # Without a key, `twentyms run` starts a gateway that takes unsigned calls.
        if (await _post(f"http://127.0.0.1:{settings.gateway_port}{VOICE_PATH}", _NO_CALL, {}))[0] == 400:
            found.append(
                Finding("note", "Twilio token", "not set: only this machine can call the simulated model", advice)
            )
        else:
            found.append(Finding("bad", "Twilio token", "not set: nobody's requests can be checked", advice))
    return found


async def ports(settings: Settings) -> list[Finding]:
    """Whether each of the two ports is ours, free, or another program's."""
    found = []
    status, text = await _get(f"http://127.0.0.1:{settings.gateway_port}/readyz")
    what = f"port {settings.gateway_port}"
    if status == 200:
        found.append(Finding("ok", what, "the gateway runs and is ready"))
    elif status == 503 and "missing" in text:
        found.append(Finding("bad", what, f"the gateway runs and is not ready: {text}", "look at the other processes"))
    elif status:
        advice = "stop what uses it, or set GATEWAY_PORT (and PUBLIC_URL) to another one"
        found.append(Finding("bad", what, f"another program answers there (HTTP {status})", advice))
    elif here.is_free("127.0.0.1", settings.gateway_port):
        found.append(Finding("bad", what, "free: nothing runs", "start it: make run, or the units of deploy/"))
    else:
        found.append(Finding("bad", what, "taken by a program without HTTP", "stop it, or set GATEWAY_PORT"))
    what = f"port {settings.metrics_port}"
    status, text = await _get(f"http://127.0.0.1:{settings.metrics_port}/metrics")
    if status == 200 and "twentyms_" in text:
        found.append(Finding("ok", what, "metrics are there"))
    elif status or not here.is_free("127.0.0.1", settings.metrics_port):
        found.append(Finding("bad", what, "taken by another program", "stop it, or set METRICS_PORT to another one"))
    else:
        found.append(Finding("note", what, "free: no metrics and no call records", "start callbook with the others"))
    return found


async def realtime(settings: Settings) -> list[Finding]:
    """Whether this user may have SCHED_FIFO."""
    if settings.tx_realtime == "off":
        return [Finding("note", "real time", "TX_REALTIME=off: a busy machine will be heard", "set TX_REALTIME=auto")]
    if not await asyncio.to_thread(realtime_facts.fifo_refusal):
        return [Finding("ok", "real time", "SCHED_FIFO is permitted")]
    outcome: Outcome = "bad" if settings.tx_realtime == "on" else "note"
    text = "SCHED_FIFO is not permitted to this user"
    return [Finding(outcome, "real time", text, "run `twentyms doctor --realtime`: it says what to do on this node")]


async def model(settings: Settings) -> list[Finding]:
    """Open one session, configure it as for a call, and ask it for a word."""
    if not is_real(settings):
        return []
    server = Server(settings.openai_base_url or OPENAI, settings.openai_api_key)
    try:
        known = agents.load(settings, here.directory())
        chosen = known.default
        server = Servers(settings.openai_base_url, settings.openai_api_key).of(chosen, known.keys)
        async with asyncio.timeout(2 * TIMEOUT_S):
            return await _ask(server, chosen.model, session_config(chosen, chosen.model))
    except ConfigError as exc:
        return [Finding("bad", "agent", str(exc))]
    except InvalidStatus as exc:
        advice = (
            "check OPENAI_API_KEY, OPENAI_REALTIME_MODEL and OPENAI_BASE_URL, and the account's access to the model"
        )
        return [Finding("bad", "model", f"refuses this key or model: HTTP {exc.response.status_code}", advice)]
    except (OSError, TimeoutError, WebSocketException, OpenAIError) as exc:
        advice = "see that this machine may open connections to it, without a proxy that breaks WebSockets"
        return [Finding("bad", "model", f"{server.address} cannot be reached ({type(exc).__name__})", advice)]


async def _ask(server: Server, name: str, config: Any) -> list[Finding]:
    client = AsyncOpenAI(api_key=server.key, base_url=server.base_url)
    begun = time.perf_counter()
    async with client.realtime.connect(model=name) as connection:
        opened = time.perf_counter()
        await connection.session.update(session=config)
        configured = spoke = 0.0
        async for event in connection:
            if event.type == "session.updated":
                configured = time.perf_counter()
                await connection.response.create(response={"instructions": "Say: hello."})
            elif event.type == "response.output_audio.delta":
                spoke = time.perf_counter()
                break
            elif event.type == "response.done":
                details = event.response.status_details
                reason = details.error.code if details is not None and details.error is not None else "no audio"
                advice = "look at platform.openai.com: quota, billing, access to the model"
                return [Finding("bad", "model", f"{name} does not answer: {reason}", advice)]
            elif event.type == "error":
                advice = "compare the agent's file with aibridge/agent.toml"
                return [Finding("bad", "model", f"refuses the agent's session: {event.error.code}", advice)]
    round_trip_ms = (configured - opened) * 1e3
    first_ms = (spoke - configured) * 1e3
    text = f"{name} answers: open {(opened - begun) * 1e3:.0f} ms, round trip {round_trip_ms:.0f} ms, "
    text += f"first sound {first_ms:.0f} ms"
    if first_ms > SLOW_MS:
        advice = "callers wait for it at every turn: lower the agent's reasoning_effort, or take a smaller model"
        return [Finding("note", "model", text, advice)]
    return [Finding("ok", "model", text)]


async def twilio(settings: Settings) -> list[Finding]:
    """The account's credentials, and whether one of its numbers leads here."""
    sid, token = settings.twilio_account_sid, settings.twilio_auth_token
    if not sid or not token:
        return []
    base = f"{settings.twilio_api_url or TWILIO_API}/2010-04-01/Accounts/{sid}"
    status, _ = await _get(f"{base}.json", auth=(sid, token))
    if status == 401:
        advice = "copy both from console.twilio.com: Account SID and Auth Token (not an API key)"
        return [Finding("bad", "Twilio account", "refuses the pair of SID and token", advice)]
    if status != 200:
        return [Finding("bad", "Twilio account", f"no answer from its API (HTTP {status})", "see that 443 is open")]
    found = [Finding("ok", "Twilio account", "SID and token are right")]
    url = settings.origin + VOICE_PATH
    status, text = await _get(f"{base}/IncomingPhoneNumbers.json?PageSize=1000", auth=(sid, token))
    numbers = text.count('"phone_number"')
    if status == 200 and f'"{url}"' in text.replace("\\/", "/"):
        found.append(Finding("ok", "Twilio number", "a number's webhook leads here"))
    elif status == 200:
        advice = f"twilio phone-numbers:update +1555... --voice-url={url}   (docs/going-live.md)"
        found.append(
            Finding("bad", "Twilio number", f"none of the account's {numbers} numbers has this webhook", advice)
        )
    return found


async def public_address(settings: Settings) -> list[Finding]:
    parts = urlsplit(settings.origin)
    if not settings.public_url:
        if not settings.twilio_auth_token:
            return [Finding("note", "PUBLIC_URL", "not set: nobody but this machine can call")]
        advice = "set it to the https:// origin under which Twilio reaches this port (a tunnel's, while developing)"
        return [Finding("bad", "PUBLIC_URL", "not set", advice)]
    status, text = await _get(f"{settings.origin}/healthz")
    if status == 200 and text.strip() == "ok":
        if parts.scheme != "https":
            return [Finding("note", "PUBLIC_URL", "answers, without TLS: Twilio opens media sockets over TLS only")]
        return [Finding("ok", "PUBLIC_URL", f"{settings.origin} leads here, its certificate is valid")]
    reason = f"HTTP {status}" if status else text
    advice = f"point its DNS name and proxy (or tunnel) to port {settings.gateway_port} of this machine"
    return [Finding("bad", "PUBLIC_URL", f"{settings.origin} does not lead to a gateway ({reason})", advice)]


async def webhook(settings: Settings) -> list[Finding]:
    """Over the public address, a signed request is accepted (400 for its CallSid) and an unsigned one is refused."""
    if not settings.twilio_auth_token:
        return []
    url = settings.origin + VOICE_PATH
    signature = RequestValidator(settings.twilio_auth_token).compute_signature(url, _NO_CALL)
    status, text = await _post(url, _NO_CALL, {SIGNATURE_HEADER: signature})
    if status == 403:
        advice = "PUBLIC_URL must be exactly what Twilio calls; a proxy must not change path or query"
        return [Finding("bad", "webhook", "refuses a request with Twilio's signature", advice)]
    if status != 400:
        return [Finding("bad", "webhook", f"{url}: {f'HTTP {status}' if status else text}", "see PUBLIC_URL above")]
    unsigned, _ = await _post(url, _NO_CALL, {})
    if unsigned != 403:
        advice = "set ALLOW_UNSIGNED=off, or anybody can place calls at your cost"
        return [Finding("bad", "webhook", "accepts unsigned requests", advice)]
    return [Finding("ok", "webhook", f"{url} takes Twilio's signature and no other")]


async def media_socket(settings: Settings) -> list[Finding]:
    """Twilio's handshake; the socket is closed before a call begins."""
    if not settings.twilio_auth_token:
        return []
    url = media_url(settings.origin)
    signature = RequestValidator(settings.twilio_auth_token).compute_signature(url, {})
    try:
        async with connect(url, additional_headers={SIGNATURE_HEADER: signature}, open_timeout=TIMEOUT_S):
            return [Finding("ok", "media socket", f"{url} opens")]
    except InvalidStatus as exc:
        advice = "let the proxy pass WebSockets through: HTTP/1.1, and the headers Upgrade and Connection"
        return [Finding("bad", "media socket", f"{url} is refused: HTTP {exc.response.status_code}", advice)]
    except (OSError, TimeoutError, WebSocketException) as exc:
        return [Finding("bad", "media socket", f"{url}: {type(exc).__name__}", "see PUBLIC_URL above")]


async def clock(settings: Settings) -> list[Finding]:
    """Compare the clock with the Date header of Twilio or OpenAI."""
    for url in (TWILIO_API, "https://api.openai.com"):
        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
                date = (await client.head(url)).headers.get("date", "")
            theirs = email.utils.parsedate_to_datetime(date).timestamp()
        except (httpx2.HTTPError, OSError, ValueError):
            continue
        off_s = time.time() - theirs
        if abs(off_s) <= CLOCK_S:
            return [Finding("ok", "clock", f"right to {max(1.0, abs(off_s)):.0f} s")]
        return [
            Finding("bad", "clock", f"off by {off_s:+.0f} s", "switch time synchronisation on: timedatectl set-ntp 1")
        ]
    return [Finding("note", "clock", "neither Twilio nor OpenAI could be reached to compare it with")]


async def path(settings: Settings) -> list[Finding]:
    """Place a call over the public address, and say which settings the path needs by what the call showed."""
    if not settings.public_url:
        return [Finding("note", "path", "not measured: without PUBLIC_URL, a test call does not leave this machine")]
    if (await _get(f"http://127.0.0.1:{settings.gateway_port}/readyz"))[0] != 200:
        return []
    account = {"account_sid": settings.twilio_account_sid} if settings.twilio_account_sid else {}
    call = await place_call(
        settings.origin + VOICE_PATH,
        settings.twilio_auth_token,
        caller=Caller(SCRIPT, seed=1),
        limit_s=CALL_S,
        **account,
    )
    if not call.started_ns:
        reason = call.warnings[0].text if call.warnings else call.outcome
        return [Finding("bad", "path", f"the test call was not connected: {reason}", "see PUBLIC_URL above")]
    record = await _record(settings, call.call_sid)
    if record is None:
        return [Finding("note", "path", "not measured: the test call left no record", "start callbook with the others")]
    seen = path_advice.figures(record["path"])
    if seen is None:
        return [Finding("note", "path", "not measured: nothing answered a WebSocket ping", "let the proxy pass them")]
    advice = path_advice.advice(seen, settings)
    return [Finding("note" if advice else "ok", "path", path_advice.describe(seen), advice)]


async def _record(settings: Settings, call_sid: str) -> dict[str, Any] | None:
    """A call that has ended, as callbook keeps it."""
    deadline = time.monotonic() + RECORD_S
    while time.monotonic() < deadline:
        status, text = await _get(f"http://127.0.0.1:{settings.metrics_port}/api/calls/{call_sid}")
        if status == 200:
            record: dict[str, Any] = json.loads(text)
            if record["ended_at"] is not None:
                return record
        await asyncio.sleep(0.2)
    return None


async def _get(url: str, *, auth: tuple[str, str] | None = None) -> tuple[int, str]:
    """(status, body); when nobody answers, (0, the reason)."""
    return await _request("GET", url, auth=auth)


async def _post(url: str, form: dict[str, str], headers: dict[str, str]) -> tuple[int, str]:
    return await _request("POST", url, data=form, headers=headers)


async def _request(method: str, url: str, **options: Any) -> tuple[int, str]:
    try:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
            response = await client.request(method, url, **options)
            return response.status_code, response.text
    except (httpx2.HTTPError, OSError) as exc:
        return 0, type(exc).__name__
