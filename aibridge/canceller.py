"""Loading WebRTC's echo canceller (pywebrtc-audio), which is the extra `echo-removal`.

Without it a worker takes calls as it would with ECHO_GUARD=on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from shared.audio import MULAW_TO_LINEAR, linear_to_mulaw

from .core.near_ear.removal import Canceller

log = logging.getLogger("aibridge")

RATE: Final = 8_000
# The library takes 10 ms at a time.
PART: Final = RATE // 100


def load() -> Callable[[], Canceller] | None:
    """A canceller for each call that needs one; None when the library is not installed."""
    try:
        import numpy
        import pywebrtc_audio
    except ImportError as exc:
        log.info(
            "%s is not installed, so ECHO_GUARD=remove works as ECHO_GUARD=on: the model hears the echo; "
            "install twentyms[echo-removal] to remove it",
            exc.name,
        )
        return None
    linear = numpy.array(MULAW_TO_LINEAR, dtype=numpy.int16)
    # By the bits of a 16-bit sample.
    codes = numpy.array([linear_to_mulaw(value) for value in (*range(32_768), *range(-32_768, 0))], dtype=numpy.uint8)

    class WebRtc:
        def __init__(self) -> None:
            self._process: Any = pywebrtc_audio.AudioProcessor(sample_rate=RATE, echo_cancellation=True).process

        def remove(self, caller: bytes, heard: bytes) -> bytes:
            near = linear[numpy.frombuffer(caller, dtype=numpy.uint8)]
            far = linear[numpy.frombuffer(heard, dtype=numpy.uint8)]
            parts = [self._process(near[at : at + PART], far[at : at + PART]) for at in range(0, len(near), PART)]
            return codes[numpy.concatenate(parts).view(numpy.uint16)].tobytes()

    return WebRtc
