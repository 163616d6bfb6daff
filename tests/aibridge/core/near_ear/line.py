"""Sounds for the tests of the near ear: recorded speech, its echo, and detectors that go by level."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from functools import cache

from aibridge.core.near_ear.detection import Detectors, Sensitivity
from aibridge.core.near_ear.events import NearEarEvent
from aibridge.core.near_ear.near_ear import NearEar
from shared.audio import BYTE_NS, FRAME_BYTES, MULAW_TO_LINEAR, SILENCE, linear_to_mulaw
from simulator.voice import clips

MS = 1_000_000
BEGAN_NS = 7_000 * MS


def quiet(ms: int, seed: int = 1) -> bytes:
    """A line's own noise."""
    rng = random.Random(seed)
    return bytes(linear_to_mulaw(round(rng.gauss(0, 12))) for _ in range(8 * ms))


@cache
def ai_speech(ms: int) -> bytes:
    """As loud as the caller."""
    audio = b"".join(clip.audio for clip in clips("ai"))
    return mixed(audio[: 8 * ms], gains=(0.5,))


def caller_speech(ms: int) -> bytes:
    """From its first loud sample."""
    audio = next(clip.audio for clip in clips("caller") if clip.name == "caller-outside")
    begin = next(at for at, code in enumerate(audio) if abs(MULAW_TO_LINEAR[code]) > 500)
    return audio[begin : begin + 8 * ms]


def mixed(*sounds: bytes, gains: Sequence[float] = (1.0, 1.0, 1.0)) -> bytes:
    length = max(map(len, sounds))
    padded = [sound + SILENCE * (length - len(sound)) for sound in sounds]
    return bytes(
        linear_to_mulaw(round(sum(gain * MULAW_TO_LINEAR[code] for gain, code in zip(gains, codes, strict=False))))
        for codes in zip(*padded, strict=True)
    )


def echo_of(heard: bytes, *, delay_ms: int, loss_db: float, inverted: bool = False) -> bytes:
    """What a speakerphone returns of it: a delayed, quieter copy, and two reflections that are quieter still."""
    gain = 10 ** (-loss_db / 20) * (-1 if inverted else 1)
    copies = [SILENCE * (8 * (delay_ms + after)) + heard for after in (0, 3, 11)]
    return mixed(*(copy[: len(heard)] for copy in copies), gains=(gain, gain / 3, gain / 4))


class ByLevel:
    """A gate that is always open, and a detector that takes loud audio for speech. It counts what it is asked."""

    def __init__(self, certainty: Callable[[int], float] = lambda level: 0.9 if level > 100 else 0.0) -> None:
        self._certainty = certainty
        self.asked = 0

    def is_open(self, pcm: bytes) -> bool:
        return True

    def speech(self, pcm: bytes) -> float:
        self.asked += 1
        samples = array("h", pcm)[-FRAME_BYTES:]
        return self._certainty(sum(map(abs, samples)) // FRAME_BYTES)


class Line:
    """A near ear, what its caller says and what the ear hears."""

    def __init__(
        self,
        *,
        ai: bytes = b"",
        detector: ByLevel | None = None,
        sensitivity: Sensitivity | None = None,
        reports_late_ms: int = 0,
    ) -> None:
        """What the ear heard is known `reports_late_ms` later, and silence until then."""
        self.detector = detector or ByLevel()
        self._ai = ai
        self._reports_late_ns = reports_late_ms * MS
        self.now_ns = BEGAN_NS
        detectors = Detectors(lambda: self.detector, self.detector)
        self.ear = NearEar(detectors, sensitivity or Sensitivity(), self._heard)

    def _heard(self, from_ns: int, n_bytes: int) -> bytes:
        at = (from_ns - BEGAN_NS) // BYTE_NS
        known = (self.now_ns - self._reports_late_ns - BEGAN_NS) // BYTE_NS
        speech = SILENCE * -max(at, -n_bytes) if at < 0 else b""
        speech += self._ai[max(0, at) : max(0, min(at + n_bytes, known))]
        return speech + SILENCE * (n_bytes - len(speech))

    def hear(self, audio: bytes, *, audible: bool = True, chunk: int = FRAME_BYTES) -> list[tuple[int, NearEarEvent]]:
        """Each event with the ms since the beginning."""
        events: list[tuple[int, NearEarEvent]] = []
        for at in range(0, len(audio), chunk):
            part = audio[at : at + chunk]
            self.now_ns += len(part) * BYTE_NS
            found = self.ear.hear(part, self.now_ns, is_ai_audible=audible)
            events += [((self.now_ns - BEGAN_NS) // MS, event) for event in found]
        return events
