"""Place a call to the gateway that runs on this machine, print who speaks, and judge what the caller heard.

The caller is the simulated carrier's: it signs its webhook as Twilio does, plays into the same media socket, and hears
what a caller on a Twilio number hears. The model is the configured one, so with a real model this costs what a short
call costs. Exit status: 0 when the call was as it should be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.core.twiml import VOICE_PATH
from shared.process import ConfigError
from shared.settings import Settings
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import Caller
from simulator.carrier.client import place_call

from . import here
from .arguments import Parser
from .caller import SCRIPTS, Watched, script
from .heard import verdict

LIMIT_S: Final = 90.0


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError for a file that cannot be spoken, and when nobody listens."""
    parser = Parser("call", __doc__)
    parser.add_argument("--wav", type=Path, metavar="FILE", help="say this recording after the greeting")
    options = parser.parse_args(arguments)
    settings = here.settings()
    logging.getLogger("websockets").setLevel(logging.WARNING)
    steps = SCRIPTS["talk"] if options.wav is None else script(options.wav)
    port = settings.gateway_port
    if here.is_free("127.0.0.1", port):
        raise ConfigError(f"nobody listens on port {port} of this machine; start twentyms first: make run")
    print(f"Calling {settings.origin}{VOICE_PATH} (port {port} of this machine) ...", flush=True)
    call = asyncio.run(_place(settings, Watched(steps, seed=1)))
    lines, problems = verdict(call, lead_ms=settings.lead_ms)
    print("\n" + "\n".join(lines))
    for problem in problems:
        print(f"BROKEN: {problem}")
    if not problems:
        print("The call was as it should be.")
    return 1 if problems else 0


async def _place(settings: Settings, caller: Caller) -> CallRecord:
    return await place_call(
        settings.origin + VOICE_PATH,
        settings.twilio_auth_token,
        caller=caller,
        connect_to=("127.0.0.1", settings.gateway_port),
        limit_s=LIMIT_S,
        **({"account_sid": settings.twilio_account_sid} if settings.twilio_account_sid else {}),
    )
