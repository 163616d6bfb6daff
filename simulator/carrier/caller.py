"""The caller: a script of what to say and when, turned into one 20 ms frame at a time.

A caller reacts to what it hears: each step of the script waits for its trigger, and the steps go in order, one at a
time. The line between is silent, or carries a little noise.

Pure: the carrier asks for a frame every 20 ms and says at which instant, and whether the AI is audible just then.
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from shared.audio import FRAME_BYTES, FRAME_MS, SILENCE, linear_to_mulaw

from .speakerphone import Speakerphone

# A shorter break does not end a talkspurt: one answer that arrives in pieces is still one answer.
TALKSPURT_HANGOVER_MS: Final = 300
# How long a caller waits for an answer when the AI kept talking over them: what it said may have been the answer.
PATIENCE_MS: Final = 5_000
# Line noise: peak of about -66 dBFS, which no voice activity detection takes for speech.
_NOISE_PEAK: Final = 16


@dataclass(frozen=True)
class AfterAnswer:
    """`ms` milliseconds after the call was answered."""

    ms: int


@dataclass(frozen=True)
class Wait:
    """`ms` milliseconds after the end of the step before."""

    ms: int


@dataclass(frozen=True)
class AiHeard:
    """The AI's talkspurt has been heard for `ms`: the trigger of an interruption.

    `talkspurt` counts from 1 over the whole call; 0: the first talkspurt after the beginning of the step before. With
    `upto_ms`, the instant is drawn from [ms, upto_ms]. When the talkspurt ends earlier, the trigger fires at its end.
    """

    ms: int
    talkspurt: int = 0
    upto_ms: int = 0


@dataclass(frozen=True)
class AiSilent:
    """The AI was heard after the step before had ended, and has now been silent for `ms`: a polite turn."""

    ms: int


Trigger = AfterAnswer | Wait | AiHeard | AiSilent


@dataclass(frozen=True)
class Say:
    """Speak a clip: one of simulator.voice by its name, or the mu-law `audio` given here."""

    clip: str
    when: Trigger
    audio: bytes | None = None


@dataclass(frozen=True)
class Press:
    """Press a key: one of 0-9, *, #, A-D."""

    digit: str
    when: Trigger


@dataclass(frozen=True)
class HangUp:
    when: Trigger


Step = Say | Press | HangUp


@dataclass(frozen=True)
class Said:
    """Speech of the caller as it went out: `at_ns` is the instant of its first sample, `frame` the number of frames
    that the caller had sent before."""

    at_ns: int
    name: str
    audio: bytes
    frame: int = 0


@dataclass(frozen=True)
class Tick:
    """What the caller does in one step of 20 ms: a frame in base64, perhaps a key, perhaps the end."""

    payload: str
    digit: str = ""
    hang_up: bool = False


def recorded_clip(name: str) -> bytes:
    """The mu-law audio of a clip that is shipped with the simulator."""
    from ..voice import clip  # reads files: only for callers that name clips

    return clip(name).audio


@lru_cache(maxsize=256)
def payloads(audio: bytes) -> tuple[str, ...]:
    """`audio` in frames of base64; silence fills the last one. Cached: the calls of a bench share their clips."""
    frames = (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))
    return tuple(b64encode(frame.ljust(FRAME_BYTES, SILENCE)).decode() for frame in frames)


_SILENT_FRAME: Final = payloads(SILENCE * FRAME_BYTES)[0]
# The noise sample for each value of a random byte.
_NOISE_LEVELS: Final = bytes(linear_to_mulaw(byte * 2 * _NOISE_PEAK // 255 - _NOISE_PEAK) for byte in range(256))


def line_audio(noise_seed: int | None, said: Sequence[Said], frames: int) -> bytes:
    """The first `frames` frames that a caller sent, end to end: its speech, and its noise or silence between."""
    if noise_seed is None:
        line = bytearray(SILENCE * frames * FRAME_BYTES)
    else:
        rng = random.Random(noise_seed)
        line = bytearray(b"".join(rng.randbytes(FRAME_BYTES) for _ in range(frames)).translate(_NOISE_LEVELS))
    for each in said:
        speech = each.audio + SILENCE * (-len(each.audio) % FRAME_BYTES)
        at = each.frame * FRAME_BYTES
        line[at : at + len(speech)] = speech[: len(line) - at]
    return bytes(line)


class Caller:
    """One caller with its script. After the last step it stays silent on the line until someone hangs up.

    `clips` maps a name to mu-law audio. `seed` fixes every random choice. With `noise` the line is not digitally
    silent, and no two frames are alike, so a frame is recognised by its bytes wherever it arrives.
    """

    def __init__(
        self,
        script: Sequence[Step],
        *,
        clips: Callable[[str], bytes] = recorded_clip,
        seed: int = 0,
        noise: bool = False,
        speakerphone: Speakerphone | None = None,
    ) -> None:
        rng = random.Random(seed)
        self._steps = [_Armed(step, _threshold_ms(step.when, rng)) for step in script]
        self._clips = clips
        # What the caller hears comes back into the line.
        self.speakerphone = speakerphone
        self.noise_seed = rng.getrandbits(32) if noise else None
        self._noise = None if self.noise_seed is None else random.Random(self.noise_seed)
        # Frames of the clip being spoken, the next one last.
        self._speaking: list[str] = []
        self._now_ms = 0
        # When the step before began and ended, in ms since the answer.
        self._began_ms = -1
        self._ended_ms = 0
        # Talkspurts of the AI so far; of the current one: the ms heard, when it began, and when it was last heard.
        self._talkspurts = 0
        self._heard_ms = 0
        self._talkspurt_ms = -1
        self._audible_ms = -1
        self.said: list[Said] = []

    @property
    def is_speaking(self) -> bool:
        return bool(self._speaking)

    @property
    def is_done(self) -> bool:
        """Whether the whole script has been carried out."""
        return not self._steps and not self._speaking

    def tick(self, at_ns: int, *, ai_audible: bool) -> Tick:
        """The next 20 ms of the line, which begin at `at_ns`."""
        self._listen(ai_audible)
        digit = ""
        if not self._speaking and self._steps and self._fires(self._steps[0]):
            step = self._steps.pop(0).step
            self._began_ms = self._ended_ms = self._now_ms
            if isinstance(step, HangUp):
                return Tick(_SILENT_FRAME, hang_up=True)
            if isinstance(step, Press):
                digit = step.digit
            else:
                audio = self._clips(step.clip) if step.audio is None else step.audio
                self.said.append(Said(at_ns, step.clip, audio, self._now_ms // FRAME_MS))
                self._speaking = list(reversed(payloads(audio)))
        payload = self._frame()
        self._now_ms += FRAME_MS
        return Tick(payload, digit)

    def _frame(self) -> str:
        noise = self._noise.randbytes(FRAME_BYTES) if self._noise is not None else b""
        if self._speaking:
            self._ended_ms = self._now_ms + FRAME_MS
            return self._speaking.pop()
        return b64encode(noise.translate(_NOISE_LEVELS)).decode() if noise else _SILENT_FRAME

    def _listen(self, audible: bool) -> None:
        if not audible:
            return
        if self._audible_ms < 0 or self._now_ms - self._audible_ms > TALKSPURT_HANGOVER_MS:
            self._talkspurts += 1
            self._talkspurt_ms = self._now_ms
            self._heard_ms = 0
        self._heard_ms += FRAME_MS
        self._audible_ms = self._now_ms

    def _fires(self, armed: _Armed) -> bool:
        when = armed.step.when
        threshold = armed.threshold_ms
        if isinstance(when, AfterAnswer):
            return self._now_ms >= threshold
        if isinstance(when, Wait):
            return self._now_ms - self._ended_ms >= threshold
        silent_ms = self._now_ms - self._audible_ms
        if isinstance(when, AiSilent):
            return self._audible_ms >= self._ended_ms and silent_ms >= threshold
        if self._talkspurts == 0:
            return False
        if when.talkspurt:
            if self._talkspurts != when.talkspurt:
                return self._talkspurts > when.talkspurt
        elif self._talkspurt_ms <= self._began_ms:
            return self._audible_ms >= self._ended_ms and silent_ms > PATIENCE_MS
        return self._heard_ms - FRAME_MS >= threshold or silent_ms > TALKSPURT_HANGOVER_MS


@dataclass(frozen=True)
class _Armed:
    step: Step
    threshold_ms: int


def _threshold_ms(when: Trigger, rng: random.Random) -> int:
    if isinstance(when, AiHeard) and when.upto_ms:
        return rng.randint(when.ms, when.upto_ms)
    return when.ms
