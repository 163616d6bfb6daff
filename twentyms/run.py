"""Start all processes of the Procfile and show their logs, until Ctrl-C or until one of them ends.

Settings come from the environment and from .env in the working directory (or else in the checkout). Without
OPENAI_API_KEY the simulated model answers, and only this machine can call: open the page whose address is printed.

For development: Ctrl-C ends live calls at once, and nothing starts a dead process again. deploy/ holds units for
production, where calls finish first.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.process import ConfigError
from shared.settings import Settings, misspelt

from . import here
from .arguments import Parser
from .stack import Stack


def main(arguments: Sequence[str]) -> int:
    """The exit status of the pipeline. Raises ConfigError for a setting or a port that cannot be used."""
    Parser("run", __doc__).parse_args(arguments)
    settings = here.settings()
    if settings.openai_base_url and not settings.openai_api_key:
        raise ConfigError(
            "OPENAI_BASE_URL is set and OPENAI_API_KEY is not; set it too (to anything, for a server without keys), "
            "or clear OPENAI_BASE_URL to talk to the simulated model"
        )
    _need_ports(settings)
    if settings.openai_api_key:
        _become_honcho(settings)
    for line in misspelt(here.directory()):
        print(f"twentyms: {line}", file=sys.stderr)
    return _simulated(settings)


def _need_ports(settings: Settings) -> None:
    """Raises ConfigError for a port that is in use, before anything starts."""
    only_here = not settings.openai_api_key or (
        settings.allow_unsigned == "on" and "gateway_host" not in settings.model_fields_set
    )
    for name, host, port in (
        ("GATEWAY_PORT (and PUBLIC_URL)", "127.0.0.1" if only_here else settings.gateway_host, settings.gateway_port),
        ("METRICS_PORT", settings.metrics_host, settings.metrics_port),
    ):
        if not here.is_free(host, port):
            advice = f"stop what uses it (is twentyms running already?), or set {name} to another one"
            raise ConfigError(f"cannot listen on {host} port {port}; {advice}")


def _become_honcho(settings: Settings) -> None:
    """Replace this process by honcho. Each process reads `.env` itself: honcho's reading overrides the environment."""
    os.chdir(here.directory())
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # honcho kills after 5 s, so a gateway that waits for its calls to end would never say how they ended.
    os.environ["DRAIN_SECONDS"] = "0"
    many = f"gateway={settings.gateways},aibridge={settings.aibridge_workers}"
    honcho = [sys.executable, "-m", "honcho", "start", "-e", os.devnull, "-f", str(here.PROCFILE), "-c", many]
    os.execv(sys.executable, honcho)


# What the simulated model does, by SIMULATED_MODEL.
_SIMULATED: Final = {"talk": "follows a script, and calls the agent's tools for real", "parrot": "repeats its caller"}


def _agent_line(settings: Settings) -> str:
    if settings.agents_dir:
        return f"The agents of {settings.agents_dir} answer."
    if settings.agent_file:
        return f"The agent of {settings.agent_file} answers."
    return f"The agent of {here.RESTAURANT} answers. AGENT_FILE names another one."


def _simulated(settings: Settings) -> int:
    port = settings.gateway_port
    print(
        f"OPENAI_API_KEY is not set: starting with the simulated model, which {_SIMULATED[settings.simulated_model]}.\n"
        f"{_agent_line(settings)}\n"
        f"Open http://localhost:{port}/ in a browser and call it.\n"
        f"Unsigned calls are taken on http://127.0.0.1:{port}/twilio/voice, from this machine only. Ctrl-C ends it.",
        flush=True,
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    env = {
        "GATEWAY_PORT": str(port),
        "METRICS_PORT": str(settings.metrics_port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TWILIO_ACCOUNT_SID": "",
        "TWILIO_AUTH_TOKEN": "",
        "ALLOW_UNSIGNED": "on",
        "GATEWAYS": "1",
        "AIBRIDGE_WORKERS": "1",
        "DRAIN_SECONDS": "0",
        # Where `twentyms calls` looks.
        "DATA_DIR": str(settings.data_dir),
    }
    if not settings.agent_file and not settings.agents_dir:
        env["AGENT_FILE"] = str(here.RESTAURANT)
    model = ("--embedded", settings.simulated_model)
    try:
        with Stack(env=env, model=model, directory=here.directory()) as stack:
            return stack.wait()
    except KeyboardInterrupt:
        return 0
