"""What `twentyms run` starts, in a block to read: the addresses, who answers, with which model, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from callbook.database import place, url_of
from gateway.core.twiml import VOICE_PATH
from gateway.phone.phone import is_on
from gateway.port import is_private, listen_host
from shared.settings import Settings

from . import here
from .real_model import is_real

# What the simulated model does, by SIMULATED_MODEL.
_SIMULATED: Final = {"talk": "follows a script and calls the agent's tools for real", "parrot": "repeats what you say"}
_ADVICE: Final = "  (`twentyms new my-agent` makes one of your own)"


def as_run(settings: Settings) -> Settings:
    """The settings with which `twentyms run` starts the gateway.

    Without Twilio's token only this machine can call, unless PUBLIC_URL or ALLOW_UNSIGNED says that others shall. The
    simulated model follows the script of the restaurant's agent where no other agent is set.
    """
    if not settings.openai_api_key and not settings.agent_file and not settings.agents_dir:
        settings = replace(settings, agent_file=here.RESTAURANT)
    others_call = is_real(settings) and (settings.public_url or settings.allow_unsigned == "on")
    if settings.twilio_auth_token or others_call:
        return settings
    origin = f"http://localhost:{settings.gateway_port}"
    return replace(
        settings,
        gateway_host="127.0.0.1",
        public_url=origin,
        twilio_account_sid="",
        twilio_shared_key="",
        allow_unsigned="on",
    )


def phone_address(settings: Settings) -> str:
    """The address of the browser phone, or "" where there is none. `settings` are those of as_run."""
    return f"{settings.origin}/" if is_on(settings, loopback=is_private(settings)) else ""


def lines(settings: Settings, directory: Path) -> Iterator[str]:
    """The block. `settings` are those of as_run; `directory` holds `.env`."""
    env = directory / ".env"
    yield "twentyms"
    yield ""
    for name, text in (
        ("phone page", _phone(settings)),
        ("calls page", f"http://localhost:{settings.metrics_port}/calls"),
        ("webhook", _webhook(settings)),
        ("agent", _agent(settings, directory)),
        ("model", _model(settings)),
        ("recording", "on: Twilio records each call" if settings.recording == "on" else "off"),
        ("records", place(url_of(settings))),
        ("settings", str(env) if env.exists() else "defaults and environment; there is no .env"),
    ):
        yield f"  {name:<12}{text}"
    yield ""
    yield "Starting the processes takes a few seconds. Ctrl-C ends them."


def _phone(settings: Settings) -> str:
    address = phone_address(settings)
    if not address:
        return "off; PHONE_PAGE=on switches it on"
    locked = settings.allow_unsigned == "off"
    return f"{address}{' (locked; `twentyms phone` prints the link that opens it)' if locked else ''}"


def _webhook(settings: Settings) -> str:
    signed = settings.allow_unsigned == "off"
    who = "with Twilio's signature" if signed else f"unsigned, whoever reaches port {settings.gateway_port}"
    if not signed and is_private(settings):
        who = "unsigned, from this machine only"
    port = f"{listen_host(settings)} port {settings.gateway_port}"
    return f"{settings.origin}{VOICE_PATH} at {port} ({who})"


def _agent(settings: Settings, directory: Path) -> str:
    for path in (settings.agents_dir, settings.agent_file):
        if path is not None:
            text = str(path.relative_to(directory) if path.is_relative_to(directory) else path)
            return f"{text}{_ADVICE if path == here.RESTAURANT else ''}"
    return f"the shipped one{_ADVICE}"


def _model(settings: Settings) -> str:
    if settings.openai_api_key:
        where = f" at {settings.openai_base_url}" if settings.openai_base_url else ""
        return f"{settings.openai_realtime_model}{where}"
    if is_real(settings):
        return "each agent's own, with its own key"
    return f"simulated, {_SIMULATED[settings.simulated_model]}: OPENAI_API_KEY is not set"
