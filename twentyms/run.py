"""Start all processes of the Procfile and show their logs, until Ctrl-C or until one of them ends.

Settings come from the environment and from .env in the working directory (or else in the checkout). Without
OPENAI_API_KEY, and without an agent that has a key of its own, the simulated model answers, and calls from a Twilio
number only if SIMULATED_MODEL is set. Without TWILIO_AUTH_TOKEN only this machine can call: open the phone page, whose
address is printed.

For development: Ctrl-C ends live calls at once, and nothing starts a dead process again. deploy/ holds units for
production, where calls finish first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gateway import __main__ as gateway
from gateway.port import listen_host
from shared.process import ConfigError
from shared.settings import PATHS, Settings, misspelt

from . import here, what_is_where
from .arguments import Parser
from .real_model import is_real, without_key
from .stack import Stack


def main(arguments: Sequence[str]) -> int:
    """The exit status of the pipeline. Raises ConfigError for a setting or a port that cannot be used."""
    Parser("run", __doc__).parse_args(arguments)
    settings = what_is_where.as_run(here.settings())
    check(settings)
    gateway.check(settings)
    _need_ports(settings)
    for line in misspelt(here.directory()):
        print(f"twentyms: {line}", file=sys.stderr)
    print("\n".join(what_is_where.lines(settings, here.directory())), flush=True)
    if is_real(settings):
        _become_honcho(settings)
    return _simulated(settings)


def check(settings: Settings) -> None:
    """Raises ConfigError where an agent lacks a key, or the simulated model would answer, and nobody asked for it."""
    if is_real(settings):
        if names := without_key(settings):
            raise ConfigError(
                f"OPENAI_API_KEY is not set, and these agents have no api_key_env: {', '.join(names)}; set it in .env, "
                "or name the variable of a key in each of their files"
            )
        return
    if settings.openai_base_url:
        raise ConfigError(
            "OPENAI_BASE_URL is set and OPENAI_API_KEY is not; set it too (to anything, for a server without keys), "
            "or clear OPENAI_BASE_URL to talk to the simulated model"
        )
    if settings.twilio_auth_token and "simulated_model" not in settings.given:
        raise ConfigError(
            "TWILIO_AUTH_TOKEN is set and OPENAI_API_KEY is not, so a simulated model would answer your number; set "
            "OPENAI_API_KEY, or SIMULATED_MODEL=talk if that is what callers shall hear"
        )


def _need_ports(settings: Settings) -> None:
    """Raises ConfigError for a port that is in use, before anything starts."""
    for name, host, port in (
        ("GATEWAY_PORT (and PUBLIC_URL)", listen_host(settings), settings.gateway_port),
        ("METRICS_PORT", settings.metrics_host, settings.metrics_port),
    ):
        if not here.is_free(host, port):
            advice = f"stop what uses it (is twentyms running already?), or set {name} to another one"
            raise ConfigError(f"cannot listen on {host} port {port}; {advice}")


def _environment(settings: Settings, *paths: str) -> dict[str, str]:
    """What the processes shall not read from `.env`; the environment overrides it.

    `paths` are settings. The processes run in another directory than this one, so a relative path that was given is
    made absolute here.
    """
    return {
        **{name.upper(): str(getattr(settings, name)) for name in paths if name in settings.given},
        "GATEWAY_HOST": listen_host(settings),
        "PUBLIC_URL": settings.origin,
        "TWILIO_ACCOUNT_SID": settings.twilio_account_sid,
        "ALLOW_UNSIGNED": settings.allow_unsigned,
        # honcho kills after 5 s, so a gateway that waits for its calls to end would never say how they ended.
        "DRAIN_SECONDS": "0",
    }


def _become_honcho(settings: Settings) -> None:
    """Replace this process by honcho. Each process reads `.env` itself: honcho's reading overrides the environment."""
    os.chdir(here.directory())
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ.update(_environment(settings, *PATHS))
    many = f"gateway={settings.gateways},aibridge={settings.aibridge_workers}"
    honcho = [sys.executable, "-m", "honcho", "start", "-e", os.devnull, "-f", str(here.PROCFILE), "-c", many]
    os.execv(sys.executable, honcho)


def _simulated(settings: Settings) -> int:
    begun = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    env = _environment(settings, "agent_file", "agents_dir") | {
        "GATEWAY_PORT": str(settings.gateway_port),
        "METRICS_PORT": str(settings.metrics_port),
        "TWILIO_AUTH_TOKEN": settings.twilio_auth_token,
        "GATEWAYS": "1",
        "AIBRIDGE_WORKERS": "1",
        # Where `twentyms calls` looks.
        "DATA_DIR": str(settings.data_dir),
    }
    if settings.agent_file == here.RESTAURANT:
        env["AGENT_FILE"] = str(here.RESTAURANT)
    model = ("--embedded", settings.simulated_model)
    try:
        with Stack(env=env, model=model, directory=here.directory()) as stack:
            phone = what_is_where.phone_address(settings)
            advice = f"open {phone} and press Call" if phone else "call your Twilio number"
            print(f"\nReady after {time.monotonic() - begun:.1f} s: {advice}.\n", flush=True)
            return stack.wait()
    except KeyboardInterrupt:
        return 0
