"""TCP settings of a media socket: frames shall arrive soon after a loss. docs/network.md has the measurements."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final

# Unsent bytes that the kernel may hold: about two frames. Further frames stay in the transport's buffer, where the wire
# sees that they have not left.
NOT_SENT_BYTES: Final = 512
# <linux/tcp.h>. The second is there since Linux 6.15, and Python does not name it.
_NOTSENT_LOWAT: Final = 25
_RTO_MIN_US: Final = 45
# TCP sends a frame again when no acknowledgement comes for the round trip and this. Linux's default is 200 ms. A peer
# may delay its acknowledgements by 40 ms; a shorter wait would take that for a loss.
RTO_MIN_US: Final = 40_000

# bbr, the default of some machines, lets only four segments fly for 200 ms every ten seconds, to measure the path. A
# call has six in flight at 120 ms of round trip, so bbr delays its frames on a path that loses nothing. reno is always
# permitted.
_TCP_CONGESTION: Final = 13
_CONGESTION: Final = (b"cubic", b"reno")

# The numbers are Linux's own; elsewhere 45 may be anything.
_OPTIONS: Final = ((_NOTSENT_LOWAT, NOT_SENT_BYTES), (_RTO_MIN_US, RTO_MIN_US)) if sys.platform == "linux" else ()


def tune(raw: socket.socket) -> None:
    """Set what the kernel knows. asyncio sets TCP_NODELAY itself."""
    if raw.family in (socket.AF_INET, socket.AF_INET6):
        for name, value in _OPTIONS:
            # A kernel without one works as before.
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, name, value)
        _choose_congestion_control(raw)


def _choose_congestion_control(raw: socket.socket) -> None:
    for name in _CONGESTION if sys.platform == "linux" else ():
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, name)
            return
