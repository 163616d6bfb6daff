"""The ZeroMQ sockets between the processes of a cell.

txpacer binds two ROUTER sockets (one for the gateways, one for the aibridges), each aibridge worker binds one for the
gateways, callbook one for the facts of both and one for the stories of the gateways, and toolbox one for the workers;
the others connect DEALER sockets that carry their names. A ROUTER reaches exactly the peer it means and says so when
that peer is gone or full, which PUB and PUSH do not.
Copies of calls that somebody listens to are published instead: callbook subscribes to a call, and whichever gateway has
the call learns that from its socket.

Nothing here waits: a send that would block is refused (`send` returns False), and the caller decides. Linger is 0, so
no process hangs at its exit, and nothing stale is delivered to the next one.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from pathlib import Path
from typing import Any, Final

import zmq

from .metrics import Counter
from .process import ConfigError

logger = logging.getLogger("bus")

# As plain numbers: to combine two of pyzmq's enum members takes 5 us, as long as to ask a socket for its events.
POLLIN: Final = int(zmq.POLLIN)
NOBLOCK: Final = int(zmq.NOBLOCK)
NOBLOCK_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)

# Frames from txpacer to one gateway: one message per 10 ms tick. Acknowledgements bound the frames in flight to the
# lead (12 ticks of 120 ms); this is a second bound, for a long lead.
FRAMES_HWM: Final = 400
# Control messages and reports: a peer that does not read for this many is stopped or dead.
CONTROL_HWM: Final = 2_000
# Caller audio to aibridge: one message per 4 ms. 500 messages are the 2 s for which a worker may be frozen without
# loss.
CALLER_HWM: Final = 500
# Speech to txpacer: see aibridge/speech_link.py; what does not fit waits in the channel.
SPEECH_HWM: Final = 2_000
# Copies of calls that somebody listens to: 17 messages a second each, so 3 s of ten calls.
COPIES_HWM: Final = 500
# Calls of tools and their answers: a few a second, each of up to 64 kB.
TOOLS_HWM: Final = 500
# Stories to callbook: some kB each. What does not fit waits at its gateway, of each call the newest one.
STORIES_HWM: Final = 64
# Speech that waits in aibridge for a txpacer that does not read: one reservoir of 10 minutes.
SPEECH_KEEP_BYTES: Final = 4_800_000


# Offsets from the port of BUS_URL. The aibridge workers' ports follow.
_SPEECH, _FRAMES, _CALLBOOK, _TOOLBOX, _COPIES, _STORIES, _CALLS = range(7)
_secret_key = ""


def secure(secret_key: str) -> None:
    """Use this CURVE key (Z85) for every tcp:// socket of this process, both ways. Call it once, at the start.

    One key pair per cell. The public half is secret, too: without it nobody connects, and nobody can read along.
    Raises ConfigError for a text that is not a key.
    """
    global _secret_key
    if secret_key:
        try:
            zmq.curve_public(secret_key.encode())
        except (ValueError, zmq.ZMQError):
            raise ConfigError("BUS_SECRET_KEY is not a CURVE key; see .env.example for how to make one") from None
    _secret_key = secret_key


def draw_epoch() -> int:
    """The name of one incarnation of a channel's end; no two are equal."""
    return secrets.randbits(62) | 1


def speech_url(base: Path | str) -> str:
    """`base` is the run directory, or the tcp:// URL whose port is the first of the cell's."""
    return _url(base, "txpacer-speech", _SPEECH)


def frames_url(base: Path | str) -> str:
    return _url(base, "txpacer-frames", _FRAMES)


def calls_url(base: Path | str, worker: int) -> str:
    return _url(base, f"aibridge-{worker}", _CALLS + worker)


def callbook_url(base: Path | str) -> str:
    return _url(base, "callbook", _CALLBOOK)


def stories_url(base: Path | str) -> str:
    return _url(base, "callbook-stories", _STORIES)


def copies_url(base: Path | str) -> str:
    return _url(base, "callbook-copies", _COPIES)


def toolbox_url(base: Path | str) -> str:
    return _url(base, "toolbox", _TOOLBOX)


def _url(base: Path | str, name: str, offset: int) -> str:
    if isinstance(base, Path):
        return f"ipc://{base}/{name}.ipc"
    address, _, port = base.rpartition(":")
    return f"{address}:{int(port) + offset}"


def _socket(context: zmq.Context[Any], kind: int, url: str, *, hwm: int) -> zmq.Socket[Any]:
    """A socket for `url`; over TCP with CURVE: without it, anyone on the network could read and write there."""
    if url.startswith("tcp://") and not _secret_key:
        raise ConfigError("BUS_SECRET_KEY is not set, and the bus is not used over TCP without it; see .env.example")
    sock: zmq.Socket[Any] = context.socket(kind)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.SNDHWM, hwm)
    sock.setsockopt(zmq.RCVHWM, hwm)
    if url.startswith("tcp://"):
        secret = _secret_key.encode()
        public = zmq.curve_public(secret)
        sock.setsockopt(zmq.CURVE_SECRETKEY, secret)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, public)
        if kind in (zmq.ROUTER, zmq.SUB):
            sock.setsockopt(zmq.CURVE_SERVER, 1)
        else:
            sock.setsockopt(zmq.CURVE_SERVERKEY, public)
    return sock


def router(context: zmq.Context[Any], url: str, *, hwm: int) -> zmq.Socket[Any]:
    """A bound ROUTER with `hwm` messages a peer each way. Sending to a full or absent peer raises, never waits.

    Raises zmq.ZMQError when `url` cannot be bound, and ConfigError for tcp:// without a key.
    """
    sock = _socket(context, zmq.ROUTER, url, hwm=hwm)
    sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
    # A peer that was killed and restarted under its old name takes over at once.
    sock.setsockopt(zmq.ROUTER_HANDOVER, 1)
    sock.bind(url)
    return sock


def dealer(context: zmq.Context[Any], url: str, *, name: str, hwm: int) -> zmq.Socket[Any]:
    """A DEALER named `name`, connecting (and reconnecting) to `url`, with `hwm` messages each way."""
    sock = _socket(context, zmq.DEALER, url, hwm=hwm)
    sock.setsockopt(zmq.ROUTING_ID, name.encode())
    # While the other end is away, refuse instead of queueing: what it would get later is stale.
    sock.setsockopt(zmq.IMMEDIATE, 1)
    # No back-off: callers wait for the restarted peer, which is on this machine or on the next one.
    sock.setsockopt(zmq.RECONNECT_IVL, 50)
    sock.connect(url)
    return sock


def publisher(context: zmq.Context[Any], url: str, *, hwm: int) -> zmq.Socket[Any]:
    """An XPUB that connects to `url`. It receives what is subscribed to, and refuses a send to a full subscriber."""
    sock = _socket(context, zmq.XPUB, url, hwm=hwm)
    sock.setsockopt(zmq.XPUB_NODROP, 1)
    sock.connect(url)
    return sock


def subscriber(context: zmq.Context[Any], url: str, *, hwm: int) -> zmq.Socket[Any]:
    """A bound SUB without subscriptions."""
    sock = _socket(context, zmq.SUB, url, hwm=hwm)
    sock.bind(url)
    return sock


def receive(router: zmq.Socket[Any]) -> tuple[bytes, memoryview]:
    """The sender's name and what it sent, without waiting; a third of the cost of pyzmq's `recv_multipart`.

    Raises zmq.Again when there is nothing, and ValueError for a message of several parts: no process sends one.
    """
    name = router.recv(NOBLOCK)
    frame = router.recv(NOBLOCK, copy=False)
    if frame.more:
        while router.recv(NOBLOCK, copy=False).more:
            pass
        raise ValueError("a message of several parts")
    return name, frame.buffer


class Faults:
    """Messages whose handling raised: each is counted and dropped alone, because other calls' messages follow it."""

    def __init__(self, count: Counter) -> None:
        self._count = count
        self._noted: set[type] = set()

    def note(self, message: object, exc: Exception) -> None:
        """Count a fault, and log the first one of a message's type."""
        self._count.inc()
        if type(message) not in self._noted:
            self._noted.add(type(message))
            where = traceback.extract_tb(exc.__traceback__)[-1]
            # No text of the exception: it can quote what a caller said.
            logger.error(
                "a %s could not be handled (%s at %s:%d); it is dropped, and further ones are only counted",
                type(message).__name__,
                type(exc).__name__,
                Path(where.filename).name,
                where.lineno or 0,
            )
