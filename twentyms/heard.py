"""What the caller of one call heard, as lines to read and as a list of what was wrong."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared.audio import BYTE_NS, FRAME_MS
from simulator.carrier.call import CallRecord

# How long the model may take from the caller's first sound to `speech_started`, network included: 60 ms for the
# simulated model, up to 300 ms for a real one.
NOTICE_MS: Final = 400
# Marks that stand inside an utterance (gateway/core/media_streams.py): those of utterance 0.
_INSIDE: Final = re.compile(r"\d+\.0\.\d+", re.ASCII)


@dataclass(frozen=True)
class Run:
    """Speech at the ear without a pause in it; ns. `ended`: a mark says that its last utterance is complete."""

    began_ns: int
    ended_ns: int
    ended: bool


def runs(call: CallRecord) -> Iterator[Run]:
    """What the ear heard, in order."""
    ear = call.ear
    ends = {at_bytes for at_bytes, name in ear.marks if not _INSIDE.fullmatch(name)}
    began_ns = ended_ns = 0
    at_bytes = 0
    for start_ns, size, heard in zip(ear.play_start_ns, ear.size_bytes, ear.heard_bytes, strict=True):
        if not ended_ns:
            began_ns = start_ns
        elif start_ns > ended_ns:
            yield Run(began_ns, ended_ns, at_bytes in ends)
            began_ns = start_ns
        ended_ns = start_ns + heard * BYTE_NS
        at_bytes += size
    if ended_ns:
        yield Run(began_ns, ended_ns, True)


def gaps_ms(call: CallRecord) -> list[float]:
    """How long the ear was silent inside an utterance, each time."""
    pairs = itertools.pairwise(runs(call))
    return [(after.began_ns - before.ended_ns) / 1e6 for before, after in pairs if not before.ended]


def verdict(call: CallRecord, *, lead_ms: int | None) -> tuple[list[str], list[str]]:
    """The figures of a call as lines, and what was wrong with it. Asks nobody but the ear.

    `lead_ms` bounds how long the AI may speak on after an interruption; None: no bound is known.
    """
    spoken = list(runs(call))
    gaps = gaps_ms(call)
    stops = [
        (run.ended_ns - said.at_ns) / 1e6
        for said in call.said
        for run in spoken
        if run.began_ns < said.at_ns < run.ended_ns
    ]
    lines = [f"call               {call.call_sid}, {(call.ended_ns - call.started_ns) / 1e9:.1f} s, {call.outcome}"]
    lines += [f"TwiML              {verb.name} {verb.text}".rstrip() for verb in call.verbs if verb.name != "Connect"]
    if spoken:
        silent_after = f"{', '.join(f'{ms:.0f}' for ms in stops)} ms, from the caller's first sound" if stops else "-"
        lines += [
            f"first audio        {(spoken[0].began_ns - call.started_ns) / 1e6:.0f} ms after start",
            f"speech heard       {sum(run.ended_ns - run.began_ns for run in spoken) / 1e9:.1f} s",
            f"gaps at the ear    {len(gaps)} ({sum(gaps):.1f} ms)",
            f"silent after       {silent_after}",
        ]
    problems = []
    if call.outcome != "hung-up-by-caller":
        problems.append(f"the caller did not end the call: {call.outcome or 'no answer'}")
    problems += [f"{warning.text} (as Twilio's debugger would say, {warning.code})" for warning in call.warnings]
    if not spoken:
        problems.append("the caller heard nothing; look at /readyz and at the log of aibridge")
    if gaps:
        problems.append(f"{len(gaps)} gaps at the ear, the longest {max(gaps):.0f} ms; see docs/operations.md, EarGaps")
    if lead_ms is not None:
        limit_ms = lead_ms + FRAME_MS + NOTICE_MS
        problems += [f"the AI spoke on for {ms:.0f} ms after it was interrupted" for ms in stops if ms > limit_ms]
    return lines, problems
