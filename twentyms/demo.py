"""Carry one call of a minute through the whole pipeline with the simulated model, and judge what the caller heard.

The caller books a table at the restaurant of examples/restaurant. The model follows a script; its tools are real. Needs
no account and no settings. Writes a recording (call.wav) and a picture (timeline.png) of the call, and keeps its
record (data). Exit status: 0 when every promise was kept.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import uvloop

from proofs.judge import judge
from proofs.picture import write_timeline, write_wav
from shared.settings import Settings
from simulator.carrier.call import STREAM_CLOSED
from simulator.carrier.caller import AiHeard, AiSilent, Caller, Say
from simulator.carrier.client import place_call

from . import here
from .arguments import Parser
from .stack import Stack

# In order: interrupt the greeting while it is protected; take two polite turns, in which the model calls its tools;
# interrupt words that the model still makes (one cancel); take two more turns; interrupt words that the model has
# finished (no cancel); say goodbye, and hear the model's.
SCRIPT = (
    Say("caller-hello", AiHeard(ms=100, talkspurt=1)),
    Say("caller-saturday", AiSilent(ms=400)),
    Say("caller-table", AiSilent(ms=400)),
    Say("caller-outside", AiHeard(ms=3_800)),
    Say("caller-terrace", AiSilent(ms=300)),
    Say("caller-enough", AiHeard(ms=6_000)),
    Say("caller-goodbye", AiSilent(ms=300)),
)
# The model hangs up after 55 s.
LIMIT_S = 90


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
        "Starting the processes and the simulated model, which follows a script; then one call of about a minute ...",
        flush=True,
    )
    # Absolute: another verb reads a relative one from the checkout.
    data = (out / "data").resolve()
    bookings = data / "restaurant.db"
    bookings.unlink(missing_ok=True)
    env = {"DATA_DIR": str(data), "AGENT_FILE": str(here.RESTAURANT)}
    with Stack(env=env, model=("--embedded", "talk"), log=out / "processes.log") as stack:
        call = uvloop.run(
            place_call(stack.webhook_url, stack.auth_token, caller=Caller(SCRIPT, seed=1), limit_s=LIMIT_S)
        )
        sessions = stack.sessions(call.call_sid)
    verdict = judge(call, sessions)
    called, wrong = tools_of(sessions, bookings)
    # Twilio notes 31921 whenever the server ends a call; here the AI hangs up.
    faults = [each for each in verdict.faults(lead_ms=lead_ms) if not each.key.startswith(str(STREAM_CLOSED))]
    problems = verdict.with_remark([each.text for each in faults]) + wrong
    write_wav(call, out / "call.wav")
    try:
        write_timeline(call, sessions, verdict, out / "timeline.png", lead_ms=lead_ms, problems=problems)
        seen = f"and look at {out / 'timeline.png'}"
    except ModuleNotFoundError:
        seen = "and install matplotlib for a picture of it: pip install 'twentyms[pictures]'"
    print("\n".join(verdict.lines(lead_ms=lead_ms)))
    print("\n".join(called))
    print(f"\nListen to {out / 'call.wav'} (left the caller, right the AI), {seen}.")
    print(f"The call's record, with its lead and path over time: DATA_DIR={data} twentyms timeline {call.call_sid}")
    for problem in problems:
        print(f"BROKEN: {problem}")
    return 1 if problems else 0


def tools_of(sessions: Sequence[dict[str, Any]], bookings: Path) -> tuple[list[str], list[str]]:
    """A line for each call of a tool, with its answer; and what is wrong with the calls."""
    functions = [each for session in sessions for each in session["functions"]]
    outputs = {each["call_id"]: each["output"] for each in functions if each["type"] == "function_call_output"}
    calls = [each for each in functions if each["type"] == "function_call"]
    lines = [f"{each['name']}({each['arguments']}): {outputs.get(each['call_id'], 'no answer')}" for each in calls]
    names = [each["name"] for each in calls if each["call_id"] in outputs]
    problems = [
        f"The tool {name} was answered {names.count(name)} times."
        for name in ("opening_hours", "book_table")
        if names.count(name) != 1
    ]
    booked: list[Any] = []
    if bookings.exists():
        with closing(sqlite3.connect(bookings)) as database:
            booked = database.execute("SELECT * FROM booking").fetchall()
    if len(booked) != 1:
        problems.append(f"{bookings} holds {len(booked)} bookings; the call made one.")
    return lines, problems
