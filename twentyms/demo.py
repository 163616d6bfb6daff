"""Carry one call of 40 seconds through the whole pipeline with the simulated model, and judge what the caller heard.

Needs no account and no settings. Writes a recording (call.wav) and a picture (timeline.png) of the call, and keeps its
record (data). Exit status: 0 when every promise was kept.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import uvloop

from proofs.judge import judge
from proofs.picture import write_timeline, write_wav
from shared.settings import Settings
from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import place_call

from .arguments import Parser
from .stack import Stack

# In order: interrupt the greeting while it is protected; interrupt an answer that the model still makes (one cancel);
# take a polite turn; interrupt an answer that the model has finished (no cancel).
SCRIPT = (
    Say("tt-weasels", AiHeard(ms=100, talkspurt=1)),
    Say("vm-sorry", AiHeard(ms=1_500)),
    Say("auth-thankyou", AiSilent(ms=600)),
    Say("hello", AiHeard(ms=6_000)),
    HangUp(AiHeard(ms=8_000)),
)


def main(arguments: Sequence[str]) -> int:
    parser = Parser("demo", __doc__)
    out_help = "the directory for recording and picture (default out/demo)"
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help=out_help)
    options = parser.parse_args(arguments)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    lead_ms = int(Settings.model_fields["tx_lead_ms"].default)
    print(
        "Starting gateway, txpacer, aibridge and the simulated model; then one call of about 40 seconds ...", flush=True
    )
    # Absolute: another verb reads a relative one from the checkout.
    data = (out / "data").resolve()
    with Stack(env={"DATA_DIR": str(data)}, log=out / "processes.log") as stack:
        call = uvloop.run(place_call(stack.webhook_url, stack.auth_token, caller=Caller(SCRIPT, seed=1)))
        sessions = stack.sessions(call.call_sid)
    verdict = judge(call, sessions)
    write_wav(call, out / "call.wav")
    try:
        write_timeline(call, sessions, verdict, out / "timeline.png", lead_ms=lead_ms)
        seen = f"and look at {out / 'timeline.png'}"
    except ModuleNotFoundError:
        seen = "and install matplotlib for a picture of it: pip install 'twentyms[pictures]'"
    problems = verdict.problems(lead_ms=lead_ms)
    print("\n".join(verdict.lines(lead_ms=lead_ms)))
    print(f"\nListen to {out / 'call.wav'} (left the caller, right the AI), {seen}.")
    print(f"The call's record, with its lead and path over time: DATA_DIR={data} twentyms timeline {call.call_sid}")
    for problem in problems:
        print(f"BROKEN: {problem}")
    return 1 if problems else 0
