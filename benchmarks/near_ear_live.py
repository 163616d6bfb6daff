"""`python -m benchmarks.near_ear_live`: the caller's first sound, in real calls of a cell on this machine.

    interruptions   how long the caller hears the AI after their first sound
    noise           how often noise makes the AI hesitate
    echo            how often the AI interrupts itself on a speakerphone

The model needs 300 ms of speech before it notices the caller, and notices no noise. `--early off` and `--guard off`
show the same without. Exit 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import uvloop

from proofs.judge import judge
from proofs.verdict import Verdict
from shared.audio import BYTES_PER_MS
from shared.process import ConfigError, run
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, Caller, HangUp, Say, Step
from simulator.carrier.client import Exchange, sid
from simulator.carrier.speakerphone import Speakerphone
from simulator.model.behaviour import Behaviour
from twentyms.stack import Stack, get

from . import near_ear_corpus as corpus
from .near_ear_figures import Stop, percentile, stops

LOG: Final = Path("out/near-ear-live.log")
# What the model needs of the caller's speech.
NOTICES_MS: Final = 300
NEVER_MS: Final = 600_000
# Noise below speech.
NOISE_DB: Final = 15.0
ECHO_DB: Final = 12.0
ECHO_MS: Final = (60, 200, 350)
# Words that are long enough for a model to notice.
SPOKEN_MS: Final = 900
# Between the beginnings of two calls.
RAMP_S: Final = 0.06
# So many interruptions are named.
SLOWEST: Final = 6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_ear_live", description=__doc__)
    parser.add_argument("what", choices=("interruptions", "noise", "echo"))
    parser.add_argument("--calls", type=int, default=0, metavar="N", help="at the same time (default 50, or 30)")
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="of AI speech a call, for noise and echo")
    parser.add_argument("--early", choices=("on", "off"), default="on")
    parser.add_argument("--guard", choices=("on", "off"), default="on")
    parser.add_argument("--lead", type=int, default=0, metavar="MS", help="a fixed lead (default: as it is set)")
    parser.add_argument("--echo", type=int, default=0, metavar="MS", help="interruptions over an echo of -12 dB")
    options = parser.parse_args()
    if advice := corpus.missing():
        raise ConfigError(f"sounds are missing: {', '.join(advice)}; {corpus.NEEDED}")
    env = {
        "BARGE_IN_EARLY": options.early,
        "ECHO_GUARD": options.guard,
        "MAX_CALLS": "500",
        "MAX_CALLS_PER_SOURCE": "500",
    }
    if options.lead:
        env |= dict.fromkeys(("TX_LEAD_MS", "TX_LEAD_MIN_MS", "TX_LEAD_MAX_MS"), str(options.lead))
    problems = {"interruptions": interruptions, "noise": noise, "echo": echo}[options.what](options, env)
    for problem in problems:
        print(f"BROKEN: {problem}")
    sys.exit(1 if problems else 0)


def interruptions(options: argparse.Namespace, env: dict[str, str]) -> list[str]:
    clips = [each for each in corpus.callers() if each.samples.size >= SPOKEN_MS * BYTES_PER_MS]
    phone = Speakerphone(delay_ms=options.echo, loss_db=ECHO_DB) if options.echo else None

    def caller(number: int) -> Caller:
        rng = random.Random(number)
        steps: list[Step] = [Say("hello", AiSilent(ms=1_000))]
        for _ in range(3):
            clip = rng.choice(clips)
            steps.append(Say(clip.name, AiHeard(ms=700, upto_ms=6_000), corpus.encode(clip.samples)))
        return Caller([*steps, HangUp(AiHeard(ms=1_500))], seed=number, noise=True, speakerphone=phone)

    behaviour = Behaviour(answer_ms=9_000, detection_ms=NOTICES_MS, responses=(Behaviour(detection_ms=NOTICES_MS),))
    calls = _carry(options.calls or 50, caller, behaviour, env)
    found = [
        each
        for record, _ in calls.calls
        for each in stops(record, calls.interruptions.get(record.call_sid, ()), epoch_ns=calls.epoch_ns)
    ]
    silent = sorted(each.after_ms for each in found)
    verdicts = calls.verdicts
    print(
        f"{len(verdicts)} calls, {len(silent)} interruptions: from the first sound to silence p50 "
        f"{percentile(silent, 50):.0f} ms, p99 {percentile(silent, 99):.0f}, at most {silent[-1]:.0f}"
    )
    known = sorted(each.known_ms for each in found if each.known_ms is not None)
    rest = sorted(each.after_ms - each.known_ms for each in found if each.known_ms is not None)
    if known:
        print(
            f"of it, until the pause p50 {percentile(known, 50):.0f} ms, p99 {percentile(known, 99):.0f}; "
            f"from then on p50 {percentile(rest, 50):.0f} ms, p99 {percentile(rest, 99):.0f} ({len(known)} known)"
        )
    slowest = sorted(found, key=lambda each: -each.after_ms)[:SLOWEST]
    print("slowest: " + "; ".join(f"{each.after_ms:.0f} ms, {_share(each)}({each.name})" for each in slowest))
    print(
        f"clears {sum(each.clears for each in verdicts)}; cancels a response {max(each.cancels for each in verdicts)} "
        f"at most; history error {max(each.history_error_ms for each in verdicts)} ms; damaged bytes "
        f"{sum(each.damaged_bytes() for each in verdicts)}; gaps {sum(len(each.gaps) for each in verdicts)}"
    )
    calls.print_counts()
    return _broken(verdicts)


def _share(stop: Stop) -> str:
    return "" if stop.known_ms is None else f"paused after {stop.known_ms:.0f} "


def noise(options: argparse.Namespace, env: dict[str, str]) -> list[str]:
    seconds = options.seconds
    rng = np.random.default_rng(5)
    names = list(corpus.NOISES)
    n = (seconds + 5) * corpus.RATE
    level = 10 ** (-NOISE_DB / 20)
    sounds = {name: corpus.encode(corpus.NOISES[name](n, rng) * level) for name in names}

    def caller(number: int) -> Caller:
        name = names[number % len(names)]
        return Caller([Say(name, AfterAnswer(ms=0), sounds[name]), HangUp(AiSilent(ms=500))], seed=number)

    behaviour = Behaviour(answer_ms=seconds * 1_000, detection_ms=NEVER_MS)
    calls = _carry(options.calls or 32, caller, behaviour, env, ends_at_s=seconds + 8)
    minutes = sum(each.speech_ms for each in calls.verdicts) / 60_000
    by_kind: dict[str, list[float]] = {name: [] for name in names}
    for (record, _), verdict in zip(calls.calls, calls.verdicts, strict=True):
        by_kind[record.said[0].name] += [gap.ms for gap in verdict.gaps]
    print(f"{len(calls.verdicts)} calls, {minutes:.1f} minutes of AI speech over noise of -{NOISE_DB:.0f} dB")
    for name, pauses in by_kind.items():
        print(
            f"  {name}: {len(pauses)} silences"
            + (f" of {', '.join(f'{ms:.0f}' for ms in pauses)} ms" if pauses else "")
        )
    print(f"damaged bytes {sum(each.damaged_bytes() for each in calls.verdicts)}")
    calls.print_counts()
    return [text for each in calls.verdicts for text in each.problems() if "bytes" in text or "cut off" in text]


def echo(options: argparse.Namespace, env: dict[str, str]) -> list[str]:
    seconds = options.seconds

    def caller(number: int) -> Caller:
        phone = Speakerphone(delay_ms=ECHO_MS[number % len(ECHO_MS)], loss_db=ECHO_DB)
        return Caller([HangUp(AfterAnswer(ms=seconds * 1_000))], seed=number, noise=True, speakerphone=phone)

    behaviour = Behaviour(answer_ms=seconds * 1_000, detection_ms=NOTICES_MS)
    calls = _carry(options.calls or 30, caller, behaviour, env, ends_at_s=seconds + 8)
    minutes = sum(each.speech_ms for each in calls.verdicts) / 60_000
    heard: dict[int, float] = dict.fromkeys(ECHO_MS, 0.0)
    cut: dict[int, int] = dict.fromkeys(ECHO_MS, 0)
    for number, (_, sessions) in enumerate(calls.calls):
        delay_ms = ECHO_MS[number % len(ECHO_MS)]
        heard[delay_ms] += calls.verdicts[number].speech_ms / 60_000
        cut[delay_ms] += sum(item["truncated_ms"] is not None for each in sessions for item in each["items"])
    print(f"{len(calls.verdicts)} calls with an echo of -{ECHO_DB:.0f} dB, {minutes:.1f} minutes of AI speech")
    for delay_ms in ECHO_MS:
        print(f"  {delay_ms} ms: {cut[delay_ms]} self-interruptions in {heard[delay_ms]:.1f} minutes")
    calls.print_counts()
    return (
        [f"the AI interrupted itself {sum(cut.values())} times"] if sum(cut.values()) and options.guard == "on" else []
    )


class _Calls:
    """The calls of one run, with the model's sessions, and what aibridge counted."""

    def __init__(
        self,
        calls: Sequence[tuple[CallRecord, list[dict[str, Any]]]],
        metrics: str,
        interruptions: dict[str, list[dict[str, Any]]],
    ) -> None:
        self.calls = calls
        # Those of the calls' records, whose clock began at the Unix epoch; the carrier's began at `epoch_ns`.
        self.interruptions = interruptions
        self.epoch_ns = time.time_ns() - time.monotonic_ns()
        self.verdicts = [judge(record, sessions) for record, sessions in calls]
        self._metrics = metrics

    def print_counts(self) -> None:
        late_ms = max(each.lag_max_ms for each in self.verdicts)
        print(f"carrier late by {late_ms:.0f} ms at most")
        names = ("early_pauses", "echoes_ignored", "interruptions", "illegal_events")
        lines = [
            line.removeprefix("twentyms_aibridge_")
            for line in self._metrics.splitlines()
            if re.match(rf"twentyms_aibridge_({'|'.join(names)})_total", line)
        ]
        print(
            "counted: " + "; ".join(re.sub(r"_total\{(?:process=\"[^\"]*\",?)?(.*?)\}", r" \1", line) for line in lines)
        )


def _carry(
    calls: int, caller: Callable[[int], Caller], behaviour: Behaviour, env: dict[str, str], *, ends_at_s: float = 90
) -> _Calls:
    """Place the calls, all at once. `ends_at_s`: who has not hung up by then does."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "behaviour.json"
        path.write_bytes(msgspec.json.encode(_fields(behaviour)))
        with Stack(env=env, model=("--behaviour", str(path)), log=LOG) as stack:
            records = uvloop.run(_place(stack, [caller(number) for number in range(calls)], ends_at_s))
            sessions = [(record, stack.sessions(record.call_sid)) for record in records]
            port = int(stack.env["METRICS_PORT"])
            metrics = get(port, "/metrics")[1].decode()
            told = {record.call_sid: get(port, f"/api/calls/{record.call_sid}") for record in records}
    interruptions = {
        call_sid: msgspec.json.decode(body)["interruptions"]
        for call_sid, (status, body) in told.items()
        if status == 200
    }
    return _Calls(sessions, metrics, interruptions)


def _fields(behaviour: Behaviour) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(behaviour)
    return fields | {"responses": [_fields(each) for each in behaviour.responses]}


async def _place(stack: Stack, callers: Sequence[Caller], limit_s: float) -> list[CallRecord]:
    async with Exchange() as exchange:

        async def one(number: int, caller: Caller) -> CallRecord:
            await asyncio.sleep(number * RAMP_S)
            return await exchange.place_call(
                stack.webhook_url, stack.auth_token, caller=caller, call_sid=sid("CA"), limit_s=limit_s
            )

        records = await asyncio.gather(*(one(number, caller) for number, caller in enumerate(callers)))
        await asyncio.sleep(2)
        return list(records)


def _broken(verdicts: Sequence[Verdict]) -> list[str]:
    return [f"call {n}: {text}" for n, each in enumerate(verdicts) for text in each.problems()]


if __name__ == "__main__":
    run("near_ear_live", main)
