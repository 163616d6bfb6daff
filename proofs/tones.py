"""`python -m proofs.tones`: sequences of `send_dtmf` as the carrier's receiver hears them; exit 1 when one is wrong.

Calls in virtual time, with the parts that run in production. The model sends random sequences; the caller speaks
politely, or over them. Every sequence has to be received whole and once, and to be answered as sent.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Final

from aibridge.core.rules import Rules
from aibridge.core.tones import KEYS, SEND_DTMF, WAIT
from shared.audio import BYTE_NS, SILENCE
from shared.process import run
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, HangUp, Say, Step
from simulator.carrier.dtmf import decode
from simulator.model.behaviour import Behaviour

from .cell.cell import Cell, default_agent
from .scenario import Sessions

# Sequences that the model of one call wants to send, one for each turn of the caller.
PER_CALL: Final = 20
LONGEST: Final = 16


@dataclass(frozen=True)
class Sent:
    """What one call's model sent, was told that it sent, and what was received of it. Pauses are left out."""

    called: tuple[str, ...]
    answered: tuple[str, ...]
    received: str

    @property
    def problem(self) -> str:
        if self.called != self.answered:
            return f"The model sent {self.called} and was answered {self.answered}."
        if "".join(self.called) != self.received:
            return f"The model sent {self.called}, and {self.received} was received."
        return ""


def sent(record: CallRecord, sessions: Sessions) -> Sent:
    """Read the records of carrier and model."""
    functions = [each for session in sessions for each in session["functions"]]
    whole = [each for each in functions if each["type"] == "function_call" and each["status"] == "completed"]
    outputs = {each["call_id"]: json.loads(each["output"]) for each in functions if "output" in each}
    # The answer of a call that the caller's speech crossed says why it was not carried out.
    done = [each for each in whole if "sent" in outputs.get(each["call_id"], {"sent": ""})]
    called = tuple(json.loads(each["arguments"])["digits"].replace(WAIT, "") for each in done)
    answered = tuple(outputs.get(each["call_id"], {"sent": ""})["sent"].replace(WAIT, "") for each in done)
    return Sent(called, answered, decode(ear_audio(record)))


def ear_audio(record: CallRecord) -> bytes:
    """What the ear played, with the silence between."""
    ear, audio, at = record.ear, bytearray(), 0
    for start_ns, size, heard in zip(ear.play_start_ns, ear.size_bytes, ear.heard_bytes, strict=True):
        offset = (start_ns - ear.play_start_ns[0]) // BYTE_NS
        audio += SILENCE * max(0, offset - len(audio))
        audio += ear.audio[at : at + heard]
        at += size
    return bytes(audio)


def carry(seed: int, count: int = PER_CALL) -> Sent:
    """One call in virtual time."""
    rng = random.Random(seed)
    sequences = ["".join(rng.choices("".join(KEYS) + WAIT, k=rng.randint(1, LONGEST))) for _ in range(count)]
    responses = [
        behaviour
        for digits in sequences
        for behaviour in (
            Behaviour(
                tool_call=SEND_DTMF,
                tool_arguments=json.dumps({"digits": digits}),
                preamble=rng.random() < 0.3,
                answer_ms=500,
            ),
            Behaviour(answer_ms=500),
        )
    ]
    script: list[Step] = [Say("hello", AfterAnswer(ms=500))]
    script += [
        Say("hello", AiHeard(ms=100, upto_ms=1_500) if rng.random() < 0.5 else AiSilent(ms=400)) for _ in sequences
    ]
    agent = default_agent({"greeting": "", "send_dtmf": True})
    cell = Cell(agent=agent, rules=Rules(sends_dtmf=True), tools={}, seed=seed)
    phone = cell.call([*script, HangUp(AiSilent(ms=3_000))], (Behaviour(responses=tuple(responses)),))
    cell.run_out(300_000)
    result = cell.result(phone)
    return sent(result.record, result.sessions)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proofs.tones", description=__doc__)
    parser.add_argument("--sequences", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    count = keys = wrong = calls = 0
    while count < arguments.sequences:
        found = carry(arguments.seed + calls)
        calls += 1
        count += len(found.called)
        keys += len(found.received)
        if found.problem:
            wrong += 1
            print(f"seed {arguments.seed + calls - 1}: {found.problem}")
    seconds = time.monotonic() - began
    print(f"{count} sequences in {calls} calls, {keys} keys received: {wrong} calls wrong ({seconds:.0f} s)")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    run("tones", main)
