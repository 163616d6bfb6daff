"""Run what is not ours: one of the two ends, or the network. None needs a running twentyms, nor its settings.

  carrier   place calls as Twilio does, to the voice webhook of any server of Media Streams
  model     answer as OpenAI's Realtime API does, to any client: set OPENAI_BASE_URL to the address that it prints
  network   a bad path to any server: `network proxy` stalls, everywhere; `network tun` loses packets (Linux, root)

`twentyms simulate carrier --help` and the same of the others explain each.
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

from shared.arguments import EX_USAGE, nearest
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import Caller
from simulator.carrier.client import Exchange
from simulator.model import server
from simulator.network import proxy, tun

from .arguments import Parser
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
PROXY: Final = """Stand in front of a server, and hand everything on late, in both directions, until Ctrl-C.

  twentyms simulate network proxy --port 9001 --to 127.0.0.1:8080 --delay 30 --stall 400 --stall-every 8000
  twentyms simulate carrier --url http://127.0.0.1:9001/twilio/voice

The server's PUBLIC_URL must then name the proxy. Prints its address as JSON. Loses nothing: behind any proxy, a lost
packet looks like a stall. `--tls` puts HAProxy on both sides of the stalls, and TLS in between.
"""
TUN: Final = """Make a network of two addresses with a bad path in between, until Ctrl-C. Needs Linux, root and `ip`.

  twentyms simulate network tun --delay 60 --loss 0.01
  ip netns exec twentyms-1 twentyms simulate carrier --url http://10.213.1.1:8080/twilio/voice

What runs in the namespace reaches the machine under the near address, over real TCP that loses packets. Prints the
namespace and both addresses as JSON; at the end, how many packets it carried and lost.
"""


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError for what this machine does not permit, and for a recording that cannot be spoken."""
    match list(arguments):
        case ["carrier", *rest]:
            return carrier(rest)
        case ["model", *rest]:
            server.main(rest, Parser("simulate model", MODEL))
            return 0
        case ["network", "proxy", *rest]:
            proxy.main(rest, Parser("simulate network proxy", PROXY))
            return 0
        case ["network", "tun", *rest]:
            tun.main(rest, Parser("simulate network tun", TUN))
            return 0
        case ["network", "-h" | "--help"]:
            print(f"usage: twentyms simulate network proxy|tun [...]\n\n{PROXY}\n{TUN}", end="")
            return 0
        case ["network", *_]:
            advice = "network is either proxy or tun; see twentyms simulate network --help"
            print(f"twentyms simulate: {advice}", file=sys.stderr)
        case [] | ["-h" | "--help", *_]:
            print(f"usage: twentyms simulate carrier|model|network [...]\n\n{__doc__}", end="")
            return 0
        case [wrong, *_]:
            parts = ("carrier", "model", "network")
            advice = f"there is no {wrong} to simulate{nearest(wrong, parts)}; see twentyms simulate --help"
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
