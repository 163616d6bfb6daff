"""Run one of the two ends that are not ours. Neither needs a running twentyms, nor its settings.

  carrier   place calls as Twilio does, to the voice webhook of any server of Media Streams
  model     answer as OpenAI's Realtime API does, to any client: set OPENAI_BASE_URL to the address that it prints

`twentyms simulate carrier --help` and `twentyms simulate model --help` explain each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulator.carrier.call import CallRecord
from simulator.carrier.caller import Caller
from simulator.carrier.client import Exchange
from simulator.model import server

from .arguments import EX_USAGE, Parser, nearest
from .caller import SCRIPTS, Watched, script
from .heard import verdict

CARRIER: Final = """Place calls as Twilio does: post the signed webhook, carry out the TwiML, open the media socket.

Prints what each caller heard: speech, gaps, and how soon the AI fell silent when it was interrupted. Exit status: 0
when every caller heard the AI without a gap and ended the call, and when Twilio's debugger would have stayed empty.

  twentyms simulate carrier --url https://voice.example.com/twilio/voice --calls 10
"""
MODEL: Final = """Answer as OpenAI's Realtime API does, with recorded sentences, until Ctrl-C.

  twentyms simulate model --port 9000
  OPENAI_API_KEY=any OPENAI_BASE_URL=http://127.0.0.1:9000/v1 ...

/healthz says how many sessions are open, and /simulator/sessions?request_id=CALL what each saw and said.
"""


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError for a port that cannot be used, and for a recording that cannot be spoken."""
    match list(arguments):
        case ["carrier", *rest]:
            return carrier(rest)
        case ["model", *rest]:
            server.main(rest, Parser("simulate model", MODEL))
            return 0
        case [] | ["-h" | "--help", *_]:
            print(f"usage: twentyms simulate carrier|model [...]\n\n{__doc__}", end="")
            return 0
        case [wrong, *_]:
            advice = f"unknown end {wrong}{nearest(wrong, ('carrier', 'model'))}; see twentyms simulate --help"
            print(f"twentyms simulate: {advice}", file=sys.stderr)
    return EX_USAGE


def carrier(arguments: Sequence[str]) -> int:
    parser = Parser("simulate carrier", CARRIER)
    parser.add_argument("--url", required=True, help="the voice webhook")
    token_help = "what the requests are signed with (default: TWILIO_AUTH_TOKEN of the environment)"
    parser.add_argument(
        "--auth-token", default=os.environ.get("TWILIO_AUTH_TOKEN", ""), metavar="TOKEN", help=token_help
    )
    parser.add_argument("--account-sid", default="AC" + 32 * "0", metavar="SID", help="the account that calls")
    parser.add_argument("--to", default="+15005550001", metavar="NUMBER", help="the number that is called")
    parser.add_argument("--calls", type=int, default=1, metavar="N", help="how many at the same time (default 1)")
    what = parser.add_mutually_exclusive_group()
    script_help = "talk: a polite turn, then an interruption (the default); listen: the greeting alone"
    what.add_argument("--script", choices=tuple(SCRIPTS), default="talk", help=script_help)
    what.add_argument("--wav", type=Path, metavar="FILE", help="say this recording after the greeting, hear the answer")
    parser.add_argument("--limit", type=float, default=90.0, metavar="S", help="hang up after S seconds (default 90)")
    options = parser.parse_args(arguments)
    if not options.url.startswith(("http://", "https://")):
        parser.error(f"--url {options.url} is not an http:// or https:// URL")
    logging.getLogger("websockets").setLevel(logging.WARNING)
    steps = SCRIPTS[options.script] if options.wav is None else script(options.wav)
    count = max(1, options.calls)
    callers = [Watched(steps, seed=1)] if count == 1 else [Caller(steps, seed=seed) for seed in range(count)]
    bad = 0
    for call in asyncio.run(_place(callers, options)):
        lines, problems = verdict(call, lead_ms=None)
        print("\n" + "\n".join([*lines, *(f"BROKEN: {problem}" for problem in problems)]))
        bad += bool(problems)
    print(f"\n{count - bad} of {count} calls were as they should be.")
    return 1 if bad else 0


async def _place(callers: Sequence[Caller], options: Namespace) -> list[CallRecord]:
    async with Exchange() as exchange:
        calls = (
            exchange.place_call(
                options.url,
                options.auth_token,
                caller=caller,
                account_sid=options.account_sid,
                to_number=options.to,
                limit_s=options.limit,
            )
            for caller in callers
        )
        return await asyncio.gather(*calls)
