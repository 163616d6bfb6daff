"""How a call goes on or ends: one table for every event of a call.

A call is TALKING until aibridge sends an order (EndCall). Then it is LEAVING until the caller has heard everything that
was queued before the order: Twilio echoes the mark of its last utterance. A LEAVING call needs no worker: the gateway
keeps the order, so a worker that dies changes nothing, and no successor begins to talk.

A missing key means that the event changes nothing. An OVER call has no key at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from shared.liveness import MARK_S, ns

MARK_NS: Final = ns(MARK_S)


class Stage(Enum):
    TALKING = auto()
    LEAVING = auto()
    OVER = auto()


class Event(Enum):
    """What can happen to a call."""

    ORDERED = auto()  # EndCall came
    GOODBYE_HEARD = auto()  # Twilio echoed the mark of EndCall's utterance
    GOODBYE_SILENT = auto()  # that echo is missing, and no frame left for MARK_S
    STOPPED = auto()  # Twilio said that the stream or the call ended
    SOCKET_LOST = auto()  # the media socket is gone without a stop
    SOCKET_MEANINGLESS = auto()  # its audio can no longer be attributed to the call
    SOCKET_REPLACED = auto()  # the call began on another media socket, so Twilio gave this one up
    SOCKET_IDLE = auto()  # nothing came for IDLE_S
    SOCKET_UNREAD = auto()  # the peer accepted no frame for UNREAD_S
    GOES_ON_ELSEWHERE = auto()  # the store has the story of another cell, and no caller is heard here
    TOKEN_REFUSED = auto()  # the token was used at another gateway: the socket is not the call's
    WORKER_GONE = auto()  # and another worker is ready
    WORKER_RESTARTED = auto()  # it forgot its calls
    UNSERVED = auto()  # the worker is gone, and no worker came for too long
    PACER_GONE = auto()  # txpacer is gone for good
    DRAINED = auto()  # the gateway ends, and it is the last one
    DRAINED_TO_ANOTHER = auto()  # the gateway ends, and another one, or another cell, takes its calls


class Act(Enum):
    """What is done beside moving to the next stage."""

    KEEP_ORDER = auto()  # the order is the answer to Twilio's next request
    FALL_BACK = auto()  # the fallback is the answer to Twilio's next request
    HAND_OVER = auto()  # give the call to another worker
    ANNOUNCE = auto()  # announce the call to its worker again


class Close(Enum):
    """How the media socket is closed. The values are WebSocket close codes (RFC 6455, 7.4.1)."""

    PEER = 0  # the peer closes it, or it is gone
    NORMAL = 1000
    VIOLATION = 1008
    ABORT = 1006  # without a closing handshake, which the peer would not read


class Next(NamedTuple):
    stage: Stage
    act: Act | None = None
    # With OVER: the reason in CallEnded, and how the socket closes.
    reason: str = ""
    close: Close = Close.PEER


_TALKING_ONLY: Final[Mapping[tuple[Stage, Event], Next]] = {
    (Stage.TALKING, Event.ORDERED): Next(Stage.LEAVING, Act.KEEP_ORDER),
    (Stage.TALKING, Event.WORKER_GONE): Next(Stage.TALKING, Act.HAND_OVER),
    (Stage.TALKING, Event.WORKER_RESTARTED): Next(Stage.TALKING, Act.ANNOUNCE),
    (Stage.TALKING, Event.UNSERVED): Next(Stage.OVER, Act.FALL_BACK, "hung-up", Close.NORMAL),
    (Stage.TALKING, Event.PACER_GONE): Next(Stage.OVER, Act.FALL_BACK, "hung-up", Close.NORMAL),
}
_LEAVING_ONLY: Final[Mapping[tuple[Stage, Event], Next]] = {
    (Stage.LEAVING, Event.ORDERED): Next(Stage.LEAVING, Act.KEEP_ORDER),
    (Stage.LEAVING, Event.GOODBYE_HEARD): Next(Stage.OVER, None, "hung-up", Close.NORMAL),
    (Stage.LEAVING, Event.GOODBYE_SILENT): Next(Stage.OVER, None, "hung-up", Close.NORMAL),
}
_EITHER: Final[Mapping[Event, Next]] = {
    Event.STOPPED: Next(Stage.OVER, None, "stop", Close.PEER),
    Event.SOCKET_LOST: Next(Stage.OVER, None, "lost", Close.PEER),
    Event.SOCKET_MEANINGLESS: Next(Stage.OVER, None, "lost", Close.VIOLATION),
    Event.SOCKET_REPLACED: Next(Stage.OVER, None, "lost", Close.NORMAL),
    Event.SOCKET_IDLE: Next(Stage.OVER, None, "lost", Close.ABORT),
    Event.SOCKET_UNREAD: Next(Stage.OVER, None, "lost", Close.ABORT),
    Event.GOES_ON_ELSEWHERE: Next(Stage.OVER, None, "lost", Close.ABORT),
    Event.TOKEN_REFUSED: Next(Stage.OVER, None, "hung-up", Close.VIOLATION),
    Event.DRAINED: Next(Stage.OVER, None, "hung-up", Close.NORMAL),
    Event.DRAINED_TO_ANOTHER: Next(Stage.OVER, None, "lost", Close.NORMAL),
}
TABLE: Final[Mapping[tuple[Stage, Event], Next]] = {
    **_TALKING_ONLY,
    **_LEAVING_ONLY,
    **{(stage, event): following for event, following in _EITHER.items() for stage in (Stage.TALKING, Stage.LEAVING)},
}
