"""What the server does for this conversation: one response at a time, moved by a table.

A pair of state and step that is not in RESPONSE_TABLE is illegal: it is counted, and nothing changes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Literal

from .metrics import ConversationMetrics

Purpose = Literal["greeting", "answer", "continue", "repeat"]


class Server(Enum):
    """The state of the default conversation's response slot."""

    IDLE = auto()
    REQUESTED = auto()  # we sent response.create and have not seen response.created
    ACTIVE = auto()
    CANCELLING = auto()  # we sent response.cancel and have not seen response.done


class Step(Enum):
    """What moves it."""

    CREATE_SENT = auto()
    CREATE_REFUSED = auto()
    CREATED = auto()
    CANCEL_SENT = auto()
    CANCEL_REFUSED = auto()
    DONE = auto()
    LOST = auto()  # the session is gone, and with it whatever it was doing


RESPONSE_TABLE: Final[dict[tuple[Server, Step], Server]] = {
    (Server.IDLE, Step.CREATE_SENT): Server.REQUESTED,
    # The server's own VAD makes most responses.
    (Server.IDLE, Step.CREATED): Server.ACTIVE,
    (Server.REQUESTED, Step.CREATED): Server.ACTIVE,
    (Server.REQUESTED, Step.CREATE_REFUSED): Server.IDLE,
    # Our create crossed the server's own response, which won.
    (Server.ACTIVE, Step.CREATE_REFUSED): Server.ACTIVE,
    (Server.CANCELLING, Step.CREATE_REFUSED): Server.CANCELLING,
    (Server.IDLE, Step.CREATE_REFUSED): Server.IDLE,
    (Server.ACTIVE, Step.CANCEL_SENT): Server.CANCELLING,
    (Server.ACTIVE, Step.DONE): Server.IDLE,
    (Server.CANCELLING, Step.DONE): Server.IDLE,
    # The cancel crossed response.done, which is here already or about to come.
    (Server.CANCELLING, Step.CANCEL_REFUSED): Server.CANCELLING,
    (Server.ACTIVE, Step.CANCEL_REFUSED): Server.ACTIVE,
    (Server.IDLE, Step.CANCEL_REFUSED): Server.IDLE,
    (Server.REQUESTED, Step.CANCEL_REFUSED): Server.REQUESTED,
    **{(state, Step.LOST): Server.IDLE for state in Server},
}

# Finished responses that are remembered, for late events of them.
KEEP_RESPONSES: Final = 32


@dataclass(slots=True)
class Response:
    """A response of ours or of the server's VAD."""

    id: str
    purpose: Purpose
    # No audio of it goes to the line any more.
    interrupted: bool = False
    # The server will send nothing more of it: response.done came, or its session is gone.
    done: bool = False
    # Its session is gone: its items can be neither cut nor deleted any more.
    lost: bool = False
    # Audio of it has come.
    spoke: bool = False
    # Its items that can hold speech, in order.
    items: list[str] = field(default_factory=list)
    # Of these the server made more audio than it sent.
    incomplete: list[str] = field(default_factory=list)
    # The conversation holds what was heard of these.
    told: list[str] = field(default_factory=list)

    def add(self, item_id: str) -> None:
        if item_id not in self.items:
            self.items.append(item_id)


class Responses:
    """The responses of a call, and the state of the server's slot for them."""

    def __init__(self, metrics: ConversationMetrics) -> None:
        self._metrics = metrics
        self.server = Server.IDLE
        # The one that is active on the server.
        self.active: Response | None = None
        self._known: OrderedDict[str, Response] = OrderedDict()

    def step(self, step: Step) -> bool:
        """Move the slot; False for an illegal step."""
        after = RESPONSE_TABLE.get((self.server, step))
        if after is None:
            self._metrics.illegal.inc()
            return False
        self.server = after
        return True

    def get(self, response_id: str) -> Response | None:
        return self._known.get(response_id)

    def created(self, response_id: str, purpose: Purpose) -> Response | None:
        """response.created came. None when that was illegal."""
        if response_id in self._known or not self.step(Step.CREATED):
            return None
        response = self.active = self.add(response_id, purpose)
        return response

    def add(self, response_id: str, purpose: Purpose) -> Response:
        """Know a response that was not made by the server: a recording."""
        response = self._known[response_id] = Response(response_id, purpose)
        while len(self._known) > KEEP_RESPONSES:
            self._known.popitem(last=False)
        return response

    def finished(self, response_id: str) -> Response | None:
        """response.done came. None when that was illegal."""
        response = self._known.get(response_id)
        if response is None or response.done:
            self._metrics.illegal.inc()
            return None
        response.done = True
        if self.active is response:
            self.step(Step.DONE)
            self.active = None
        return response

    def session_lost(self) -> Response | None:
        """Nothing more comes of any response. Returns the one that was active."""
        active, self.active = self.active, None
        self.step(Step.LOST)
        for response in self._known.values():
            response.done = response.lost = True
        return active
