"""Start all processes of the Procfile and show their logs, until Ctrl-C or until one of them ends.

Settings come from the environment and from .env in the working directory (or else in the checkout). Without
OPENAI_API_KEY the simulated model answers. Without TWILIO_AUTH_TOKEN only this machine can call: open the phone page,
whose address is printed.

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
from shared.settings import Settings, misspelt

from . import here, what_is_where
from .arguments import Parser
from .stack import Stack


def main(arguments: Sequence[str]) -> int:
    """The exit status of the pipeline. Raises ConfigError for a setting or a port that cannot be used."""
    Parser("run", __doc__).parse_args(arguments)
    settings = what_is_where.as_run(here.settings())
    if settings.openai_base_url and not settings.openai_api_key:
        raise ConfigError(
            "OPENAI_BASE_URL is set and OPENAI_API_KEY is not; set it too (to anything, for a server without keys), "
            "or clear OPENAI_BASE_URL to talk to the simulated model"
        )
    gateway.check(settings)
    _need_ports(settings)
    for line in misspelt(here.directory()):
        print(f"twentyms: {line}", file=sys.stderr)
    print("\n".join(what_is_where.lines(settings, here.directory())), flush=True)
    if settings.openai_api_key:
        _become_honcho(settings)
    return _simulated(settings)


def _need_ports(settings: Settings) -> None:
    """Raises ConfigError for a port that is in use, before anything starts."""
    for name, host, port in (
        ("GATEWAY_PORT (and PUBLIC_URL)", listen_host(settings), settings.gateway_port),
        ("METRICS_PORT", settings.metrics_host, settings.metrics_port),
    ):
        if not here.is_free(host, port):
            advice = f"stop what uses it (is twentyms running already?), or set {name} to another one"
            raise ConfigError(f"cannot listen on {host} port {port}; {advice}")


def _environment(settings: Settings) -> dict[str, str]:
    """What the processes shall not read from `.env`; the environment overrides it."""
    return {
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
    os.environ.update(_environment(settings))
    many = f"gateway={settings.gateways},aibridge={settings.aibridge_workers}"
    honcho = [sys.executable, "-m", "honcho", "start", "-e", os.devnull, "-f", str(here.PROCFILE), "-c", many]
    os.execv(sys.executable, honcho)


def _simulated(settings: Settings) -> int:
    begun = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    env = _environment(settings) | {
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
