"""What removing a known echo gives the model: `python -m benchmarks.near_ear --parts removal`.

A caller speaks every five seconds over an AI that does not stop, on a speakerphone. A model that needs 300 ms of speech
hears the line as it is, and as the near ear gives it on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from aibridge.core.near_ear.detection import Detectors, Sensitivity
from aibridge.core.near_ear.near_ear import NearEar
from aibridge.core.near_ear.removal import Canceller
from shared.audio import BYTE_NS, BYTES_PER_MS, FRAME_BYTES
from simulator.model.vad import Vad

from .near_ear_corpus import Clip, Samples, decode, encode
from .near_ear_run import LINE_DBFS, between, seconds

# What the model needs before it notices a caller, and how long after their first sound it may.
NEEDED_MS: Final = 300
NOTICED_MS: Final = 1_500
CALLERS: Final = 20
EVERY_S: Final = 5
# The first caller speaks when the echo has been known for long.
FIRST_S: Final = 10


@dataclass(frozen=True)
class Removal:
    delay_ms: int
    loss_db: int
    # How much quieter the echo is, after the first two seconds.
    removed_db: float
    # Callers whom the model noticed, without and with the removal, and beginnings of speech in the echo alone.
    noticed: tuple[int, int]
    false: tuple[int, int]
    # CPU for each second of audio, above that of the near ear.
    ms: float


class Removals:
    def __init__(
        self, detectors: Detectors, canceller: Callable[[], Canceller], clips: list[Clip], ai: Samples
    ) -> None:
        self._detectors = replace(detectors, canceller=canceller)
        self._clips = clips
        self._ai = np.resize(ai, seconds(FIRST_S + CALLERS * EVERY_S))

    def trial(self, delay_ms: int, loss_db: int, path: Samples, *, seed: int) -> Removal:
        rng = np.random.default_rng(seed)
        n = self._ai.size
        heard = encode(self._ai)
        noise = rng.standard_normal(n) * 10 ** (LINE_DBFS / 20)
        alone = encode(np.convolve(decode(heard), path)[:n] + noise)
        callers, onsets_ms = np.zeros(n), []
        for number in range(CALLERS):
            at = seconds(FIRST_S + number * EVERY_S)
            clip = self._clips[int(rng.integers(len(self._clips)))].samples[: seconds(2)]
            callers[at : at + clip.size] = clip
            onsets_ms.append(at // BYTES_PER_MS)
        both = encode(decode(alone) + callers)
        quiet, ms = self._removed(alone, heard)
        clean, _ = self._removed(both, heard)
        begin = seconds(2)
        removed_db = 20 * np.log10(_loudness(alone[begin:]) / _loudness(quiet[begin:]))
        return Removal(
            delay_ms,
            loss_db,
            float(removed_db),
            (_noticed(both, onsets_ms), _noticed(clean, onsets_ms)),
            (len(_began(alone)), len(_began(quiet))),
            ms,
        )

    def _removed(self, caller: bytes, heard: bytes) -> tuple[bytes, float]:
        """What the model hears, and the CPU of the removal, ms a second."""
        codes = memoryview(heard)
        sensitivity = Sensitivity(removes_echo=True, only_guards=True)
        ear = NearEar(self._detectors, sensitivity, lambda from_ns, n: between(codes, from_ns // BYTE_NS, n))
        parts, used = [], 0.0
        for at in range(0, len(caller), FRAME_BYTES):
            frame = caller[at : at + FRAME_BYTES]
            ear.hear(frame, (at + len(frame)) * BYTE_NS, is_ai_audible=True)
            since = time.process_time()
            parts.append(ear.without_echo(frame))
            used += time.process_time() - since
        return b"".join(parts), used * 1_000 / (len(caller) / seconds(1))


def _loudness(audio: bytes) -> float:
    return float(np.sqrt((decode(audio) ** 2).mean()))


def _began(audio: bytes) -> list[int]:
    return [edge.at_ms for edge in Vad(needed_ms=NEEDED_MS).feed(audio) if edge.kind == "started"]


def _noticed(audio: bytes, onsets_ms: list[int]) -> int:
    began = _began(audio)
    return sum(any(0 <= at_ms - onset_ms < NOTICED_MS for at_ms in began) for onset_ms in onsets_ms)
