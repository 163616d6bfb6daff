"""One trial of the near ear: a caller's sounds and an AI that pauses, by frames, as fast as the machine can."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aibridge.core.near_ear.detection import Detectors, Sensitivity
from aibridge.core.near_ear.events import EchoIgnored, SpeechBegan, SpeechEnded
from aibridge.core.near_ear.near_ear import NearEar
from shared.audio import FRAME_BYTES, FRAME_MS, FRAME_NS, SILENCE

from .near_ear_corpus import RATE, Samples, decode, encode

# Frames that the ear still plays after a pause: the lead.
LEAD_FRAMES: Final = 6
# The AI begins to speak so much later than the call.
BEGINS_FRAMES: Final = 25
# The line's own noise.
LINE_DBFS: Final = -62.0


@dataclass
class Heard:
    """What the near ear reported. Times are ms since the trial began, when the frame had arrived."""

    began_ms: list[float] = field(default_factory=list)
    paused_ms: list[float] = field(default_factory=list)
    echoes: int = 0


def run(
    caller: Samples,
    ai: Samples,
    detectors: Detectors,
    *,
    sensitivity: Sensitivity,
    echo: Samples | None = None,
    seed: int = 1,
) -> Heard:
    """Play `caller` against `ai`, which is repeated as long as needed. The ear of a paused line plays the lead out."""
    rng = np.random.default_rng(seed)
    n_frames = caller.size // FRAME_BYTES
    caller = caller + rng.standard_normal(caller.size) * 10 ** (LINE_DBFS / 20)
    reach = echo.size if echo is not None else 0
    silent_before = int(np.flatnonzero(echo)[0]) if echo is not None else 0
    taps = echo[silent_before:] if echo is not None else np.zeros(0)
    played = np.zeros(reach + n_frames * FRAME_BYTES)
    codes = np.full(played.size, 0xFF, dtype=np.uint8)
    speech = np.frombuffer(encode(ai), dtype=np.uint8)
    speech = speech[: speech.size // FRAME_BYTES * FRAME_BYTES]
    speech_samples = decode(speech.tobytes())
    at, is_paused, ear_frames = 0, False, LEAD_FRAMES
    result = Heard()

    def heard(from_ns: int, n_bytes: int) -> bytes:
        return between(codes.data, reach + round(from_ns / 125_000), n_bytes)

    near_ear = NearEar(detectors, sensitivity, heard)
    for frame in range(n_frames):
        begin, end = reach + frame * FRAME_BYTES, reach + (frame + 1) * FRAME_BYTES
        ear_frames = max(0, ear_frames - 1) if is_paused else LEAD_FRAMES
        is_audible = frame >= BEGINS_FRAMES
        if ear_frames and is_audible:
            played[begin:end] = speech_samples[at : at + FRAME_BYTES]
            codes[begin:end] = speech[at : at + FRAME_BYTES]
            at = (at + FRAME_BYTES) % speech.size
        sound = caller[frame * FRAME_BYTES : (frame + 1) * FRAME_BYTES]
        if echo is not None:
            past = played[end - FRAME_BYTES - reach + 1 : end - silent_before]
            sound = sound + np.convolve(past, taps, "valid")[:FRAME_BYTES]
        now_ns = (frame + 1) * FRAME_NS
        for event in near_ear.hear(encode(sound), now_ns, is_ai_audible=is_audible):
            now_ms = now_ns / 1e6
            match event:
                case SpeechBegan():
                    result.began_ms.append(now_ms)
                    is_paused = True
                case SpeechEnded():
                    result.paused_ms.append(now_ms - result.began_ms[-1])
                    is_paused = False
                case EchoIgnored():
                    result.echoes += 1
    if len(result.paused_ms) < len(result.began_ms):
        result.paused_ms.append(n_frames * FRAME_MS - result.began_ms[-1])
    return result


def between(codes: memoryview, first: int, n_bytes: int) -> bytes:
    """The `n_bytes` of mu-law from `first` on; silence before the beginning."""
    silence = SILENCE * min(n_bytes, max(0, -first))
    return silence + bytes(codes[max(0, first) : max(0, first + n_bytes)])


def over(clip: Samples, n: int, at: int) -> Samples:
    """Silence of `n` samples with a clip from sample `at` on."""
    sound = np.zeros(n)
    sound[at : at + clip.size] = clip[: n - at]
    return sound


def seconds(n: float) -> int:
    return int(n * RATE)
