"""The detectors that the near ear needs. Their libraries are loaded in a shell: aibridge/detectors.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Gate(Protocol):
    """Cheap: a few microseconds a frame. Noise may open it."""

    def is_open(self, pcm: bytes) -> bool:
        """Judge 20 ms of linear 16-bit audio, 8 kHz, native byte order."""


class Detector(Protocol):
    """Costs a hundred microseconds. It holds no audio of any call between two judgements."""

    def speech(self, pcm: bytes) -> float:
        """How likely the end of this audio is speech, 0 to 1: linear 16-bit, 8 kHz, native byte order."""


@dataclass(frozen=True)
class Detectors:
    """Shared by the calls of a worker."""

    gate: Gate
    detector: Detector


@dataclass(frozen=True)
class Sensitivity:
    """When sound is speech."""

    # The detector's likelihood from which sound is speech, 0 to 1. Higher on noisy lines.
    threshold: float = 0.5
    # Speech that ends within this time is SHORT; 0: none is.
    short_ns: int = 0
    # Take for echo what is a delayed, quieter copy of what the caller hears.
    guards_echo: bool = True
