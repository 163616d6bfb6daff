"""The detectors that the near ear needs. Their libraries are loaded in a shell: aibridge/detectors.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from shared.audio import MULAW_TO_LINEAR

from .removal import Canceller

_LOW: Final = bytes(value & 0xFF for value in MULAW_TO_LINEAR)
_HIGH: Final = bytes(value >> 8 & 0xFF for value in MULAW_TO_LINEAR)
_FIRST, _SECOND = (_LOW, _HIGH) if sys.byteorder == "little" else (_HIGH, _LOW)


def linear(audio: bytes | bytearray) -> bytes:
    """mu-law as linear 16-bit audio, native byte order. (`audioop` has left Python.)"""
    pcm = bytearray(2 * len(audio))
    pcm[::2] = audio.translate(_FIRST)
    pcm[1::2] = audio.translate(_SECOND)
    return bytes(pcm)


class Gate(Protocol):
    """Cheap: a few microseconds a frame. Noise may open it. It remembers the noise of its call."""

    def is_open(self, pcm: bytes) -> bool:
        """Judge 20 ms of linear 16-bit audio, 8 kHz, native byte order."""


class Detector(Protocol):
    """Costs a hundred microseconds. It holds no audio of any call between two judgements."""

    def speech(self, pcm: bytes) -> float:
        """How likely the end of this audio is speech, 0 to 1: linear 16-bit, 8 kHz, native byte order."""


@dataclass(frozen=True)
class Detectors:
    """A gate for each call, and the detector that the calls of a worker share."""

    gate: Callable[[], Gate]
    detector: Detector
    # For each call with an echo that shall be removed; None: the library is missing, or no agent wants it.
    canceller: Callable[[], Canceller] | None = None


@dataclass(frozen=True)
class Sensitivity:
    """When sound is speech."""

    # The detector's likelihood from which sound is speech, 0 to 1. Higher on noisy lines.
    threshold: float = 0.5
    # Speech that ends within this time is SHORT; 0: none is.
    short_ns: int = 0
    # Take for echo what is a delayed, quieter copy of what the caller hears.
    guards_echo: bool = True
    # And remove it from what the model hears.
    removes_echo: bool = False
    # Tell the caller from echo and do nothing else: on a line without echo nothing needs to be judged.
    only_guards: bool = False
