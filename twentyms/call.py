"""`twentyms call`: place a call to the gateway that runs here, watch it, and judge it.

The caller is the simulated carrier's: it signs its webhook as Twilio does, plays into the same media socket, and has
the ear of a Twilio call. The model behind the gateway is whichever is configured, so with a real one this costs what a
short call costs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import wave
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aibridge.recording import read_recording
from gateway.core.twiml import VOICE_PATH
from shared.audio import BYTE_NS, BYTES_PER_MS, FRAME_MS, SILENCE, linear_to_mulaw
from shared.process import ConfigError
from shared.settings import Settings, load
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Press, Say, Tick
from simulator.carrier.client import place_call

# A polite turn, then an interruption of the answer.
TALK: Final = (
    Say("hello", AiSilent(ms=600)),
    Say("vm-sorry", AiHeard(ms=2_000)),
    HangUp(AiSilent(ms=1_500)),
)
LIMIT_S: Final = 90.0
# What the way from the caller's first sound to the model's speech_started may take, beside lead and frame: the model's
# voice detection (60 ms for the simulated one, up to 300 for a real one) and the network.
NOTICE_MS: Final = 400
# After so much silence a voice is over.
_PAUSE_MS: Final = 300
_RATE: Final = 8_000


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 when the call was as it should be. Raises ConfigError for a file that cannot be spoken."""
    parser = argparse.ArgumentParser(prog="twentyms call", description=__doc__)
    parser.add_argument("--wav", type=Path, metavar="FILE", help="say this recording when the greeting is over")
    options = parser.parse_args(arguments)
    settings = load()
    logging.getLogger("websockets").setLevel(logging.WARNING)
    script = TALK if options.wav is None else _script(options.wav)
    print(f"Calling {settings.origin}{VOICE_PATH} (port {settings.gateway_port} of this machine) ...", flush=True)
    call = asyncio.run(_place(settings, Watched(script, seed=1)))
    lines, problems = verdict(call, lead_ms=settings.tx_lead_ms)
    print("\n" + "\n".join(lines))
    for problem in problems:
        print(f"BROKEN: {problem}")
    if not problems:
        print("The call was as it should be.")
    return 1 if problems else 0


def _script(path: Path) -> tuple[Say | Press | HangUp, ...]:
    try:
        audio = any_recording(path)
    except OSError as exc:
        raise ConfigError(f"--wav {path} cannot be read ({exc.strerror})") from None
    except (ValueError, wave.Error, EOFError) as exc:
        raise ConfigError(f"--wav {path} cannot be spoken: {exc}; a WAV file of PCM or mu-law can be") from None
    return (Say(path.name, AiSilent(ms=600), audio), HangUp(AiSilent(ms=1_500)))


async def _place(settings: Settings, caller: Caller) -> CallRecord:
    return await place_call(
        settings.origin + VOICE_PATH,
        settings.twilio_auth_token,
        caller=caller,
        connect_to=("127.0.0.1", settings.gateway_port),
        limit_s=LIMIT_S,
        **({"account_sid": settings.twilio_account_sid} if settings.twilio_account_sid else {}),
    )


class Watched(Caller):
    """A caller that prints who speaks."""

    def __init__(self, script: Sequence[Say | Press | HangUp], *, seed: int) -> None:
        super().__init__(script, seed=seed)
        self._at_ms = 0
        self._silent_ms = _PAUSE_MS
        self._seen = 0

    def tick(self, at_ns: int, *, ai_audible: bool) -> Tick:
        if ai_audible and self._silent_ms >= _PAUSE_MS:
            self._say("the AI speaks")
        elif not ai_audible and self._silent_ms == _PAUSE_MS - FRAME_MS:
            self._say("the AI is silent")
        self._silent_ms = 0 if ai_audible else self._silent_ms + FRAME_MS
        tick = super().tick(at_ns, ai_audible=ai_audible)
        if len(self.said) > self._seen:
            self._seen = len(self.said)
            said = self.said[-1]
            over = ", into the AI's words" if ai_audible else ""
            self._say(f"the caller says {said.name} ({len(said.audio) / _RATE:.1f} s){over}")
        if tick.hang_up:
            self._say("the caller hangs up")
        self._at_ms += FRAME_MS
        return tick

    def _say(self, text: str) -> None:
        print(f"{self._at_ms / 1000:6.1f} s  {text}", flush=True)


@dataclass(frozen=True)
class Run:
    """Speech at the ear without a pause in it; ns. `ended`: a mark says that nothing of its last utterance is due."""

    began_ns: int
    ended_ns: int
    ended: bool


def runs(call: CallRecord) -> Iterator[Run]:
    """What the ear heard, in order."""
    ear = call.ear
    marks = set(ear.mark_bytes)
    began_ns = ended_ns = 0
    at_bytes = 0
    for start_ns, size, heard in zip(ear.play_start_ns, ear.size_bytes, ear.heard_bytes, strict=True):
        if not ended_ns:
            began_ns = start_ns
        elif start_ns > ended_ns:
            yield Run(began_ns, ended_ns, at_bytes in marks)
            began_ns = start_ns
        ended_ns = start_ns + heard * BYTE_NS
        at_bytes += size
    if ended_ns:
        yield Run(began_ns, ended_ns, True)


def verdict(call: CallRecord, *, lead_ms: int) -> tuple[list[str], list[str]]:
    """The figures of a call as lines, and what was wrong with it. Asks nobody but the ear."""
    spoken = list(runs(call))
    gaps = [
        (after.began_ns - before.ended_ns) / 1e6 for before, after in itertools.pairwise(spoken) if not before.ended
    ]
    stops = [
        (run.ended_ns - said.at_ns) / 1e6
        for said in call.said
        for run in spoken
        if run.began_ns < said.at_ns < run.ended_ns
    ]
    heard_s = sum(run.ended_ns - run.began_ns for run in spoken) / 1e9
    first_ms = (spoken[0].began_ns - call.started_ns) / 1e6 if spoken else None
    lines = [
        f"call               {call.call_sid}, {(call.ended_ns - call.started_ns) / 1e9:.1f} s, {call.outcome}",
        f"first audio        {'none' if first_ms is None else f'{first_ms:.0f} ms after start'}",
        f"speech heard       {heard_s:.1f} s",
        f"gaps at the ear    {len(gaps)} ({sum(gaps):.1f} ms)",
        f"silent after       {', '.join(f'{ms:.0f}' for ms in stops) or '-'} ms, from the caller's first sound",
    ]
    problems = []
    if call.outcome != "hung-up-by-caller":
        problems.append(f"the call ended otherwise than the caller wanted: {call.outcome or 'no answer'}")
    problems += [f"{warning.text} (as Twilio's debugger would say, {warning.code})" for warning in call.warnings]
    if not spoken:
        problems.append("the caller heard nothing; look at /readyz and at the log of aibridge")
    if gaps:
        problems.append(f"{len(gaps)} gaps at the ear, the longest {max(gaps):.0f} ms; see docs/operations.md, EarGaps")
    limit_ms = lead_ms + FRAME_MS + NOTICE_MS
    problems += [f"the AI went on for {ms:.0f} ms after it was interrupted" for ms in stops if ms > limit_ms]
    return lines, problems


def any_recording(path: Path) -> bytes:
    """mu-law of any WAV file: PCM of every width, rate and number of channels, or mu-law at 8 kHz.

    Raises OSError, ValueError and wave.Error.
    """
    try:
        return read_recording(path)
    except ValueError:
        pass
    with wave.open(str(path), "rb") as file:
        channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
        data = file.readframes(file.getnframes())
    if width == 1:
        samples = array("h", ((byte - 128) << 8 for byte in data))
    elif width in (2, 3, 4):
        # The two upper bytes of each sample; little-endian.
        high = bytes(
            itertools.chain.from_iterable(zip(data[width - 2 :: width], data[width - 1 :: width], strict=True))
        )
        samples = array("h", high)
    else:
        raise ValueError(f"{8 * width} bits a sample")
    mono = [sum(samples[at : at + channels]) // channels for at in range(0, len(samples), channels)]
    out = bytearray()
    for n in range(len(mono) * _RATE // rate):
        # The mean over the length of one sample of the line: enough of a low pass for speech.
        start = n * rate // _RATE
        stop = max(start + 1, (n + 1) * rate // _RATE)
        out.append(linear_to_mulaw(sum(mono[start:stop]) // (stop - start)))
    if not out:
        raise ValueError("it holds no audio")
    return bytes(out) + SILENCE * (BYTES_PER_MS * FRAME_MS)
