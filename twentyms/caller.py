"""The caller of `twentyms call` and `twentyms simulate carrier`: what it says, and a line for each thing it hears."""

from __future__ import annotations

import itertools
import wave
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aibridge.recording import read_recording
from shared.audio import BYTES_PER_MS, FRAME_MS, SILENCE, linear_to_mulaw
from shared.process import ConfigError
from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Say, Step, Tick

SCRIPTS: Final[dict[str, tuple[Step, ...]]] = {
    # A polite turn, then an interruption of the answer.
    "talk": (Say("hello", AiSilent(ms=600)), Say("vm-sorry", AiHeard(ms=2_000)), HangUp(AiSilent(ms=1_500))),
    # The greeting, and nothing else.
    "listen": (HangUp(AiSilent(ms=1_500)),),
}
# A voice that is silent for this long has stopped speaking.
_PAUSE_MS: Final = 300
_RATE: Final = 8_000


def script(path: Path) -> tuple[Step, ...]:
    """Say a recording after the greeting, hear the answer, hang up. Raises ConfigError for a file without audio."""
    try:
        audio = any_recording(path)
    except OSError as exc:
        raise ConfigError(f"--wav {path} cannot be read ({exc.strerror})") from None
    except (ValueError, wave.Error, EOFError) as exc:
        raise ConfigError(f"--wav {path} cannot be spoken: {exc}; a WAV file of PCM or mu-law can be") from None
    return (Say(path.name, AiSilent(ms=600), audio), HangUp(AiSilent(ms=1_500)))


class Watched(Caller):
    """A caller that prints who speaks."""

    def __init__(self, script: Sequence[Step], *, seed: int) -> None:
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
