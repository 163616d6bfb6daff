"""The responses of a call, and what the model still has to learn about each (TRUTH_TABLE).

The model believes that the caller heard everything that it made. After an interruption, its conversation has to be cut
to what was heard. The cut waits for two things: the model ends the response (until then it may append to it), and
txpacer reports what it paced. A response of a former session, or a recording, is text in this session's conversation:
the text is replaced.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from shared.metrics import Counter

from ..models.port import Purpose
from .chart import Chart, Table, becomes, stays


class Truth(Enum):
    """What the model's conversation holds of a response."""

    MAKING = auto()  # the model makes it, and the line gets it
    SILENCED = auto()  # the model makes it, and the line gets no more of it
    MADE = auto()  # it is there whole
    CUT = auto()  # it was interrupted and has ended: its utterances are truncated or forgotten, once each
    TOLD = auto()  # it is text there, whole
    TOLD_CUT = auto()  # it is text there and was interrupted: the text is corrected


class TruthEvent(Enum):
    INTERRUPTED = auto()
    ENDED = auto()
    LOST = auto()  # the session is gone


class TruthAct(Enum):
    TELL_TRUTH = auto()


TRUTH_TABLE: Final[Table[Truth, TruthEvent, TruthAct]] = {
    (Truth.MAKING, TruthEvent.INTERRUPTED): (Truth.SILENCED, ()),
    (Truth.MAKING, TruthEvent.ENDED): (Truth.MADE, ()),
    (Truth.SILENCED, TruthEvent.ENDED): (Truth.CUT, (TruthAct.TELL_TRUTH,)),
    (Truth.MADE, TruthEvent.INTERRUPTED): (Truth.CUT, (TruthAct.TELL_TRUTH,)),
    (Truth.TOLD, TruthEvent.INTERRUPTED): (Truth.TOLD_CUT, (TruthAct.TELL_TRUTH,)),
    **becomes((Truth.MAKING, Truth.MADE), TruthEvent.LOST, Truth.TOLD),
    **becomes((Truth.SILENCED, Truth.CUT), TruthEvent.LOST, Truth.TOLD_CUT),
    **stays((Truth.SILENCED, Truth.CUT, Truth.TOLD_CUT), TruthEvent.INTERRUPTED),
    **stays((Truth.TOLD, Truth.TOLD_CUT), TruthEvent.LOST),
}

# Settled responses that are kept for their late events.
KEEP_RESPONSES: Final = 32


@dataclass(slots=True)
class Response:
    """One response of the model, or a recording."""

    number: int
    purpose: Purpose
    truth: Chart[Truth, TruthEvent, TruthAct]
    # The caller's turn that it follows; 0: none.
    turn: int = 0
    # Its utterances, in order.
    utterances: list[int] = field(default_factory=list)
    # The utterances that the model remembers in greater length than it sent.
    cut_short: set[int] = field(default_factory=set)
    # The utterances about which the model knows the truth.
    told: set[int] = field(default_factory=set)

    @property
    def is_making(self) -> bool:
        return self.truth.state is Truth.MAKING or self.truth.state is Truth.SILENCED

    @property
    def reaches_line(self) -> bool:
        """Its audio is spoken."""
        return self.truth.state is Truth.MAKING

    @property
    def is_cut(self) -> bool:
        return self.truth.state in (Truth.CUT, Truth.TOLD_CUT)


class Responses:
    """The responses of a call, by number."""

    def __init__(self, illegal: Counter) -> None:
        self._illegal = illegal
        # The response that the model makes.
        self.active: Response | None = None
        self._known: OrderedDict[int, Response] = OrderedDict()

    def get(self, number: int) -> Response | None:
        return self._known.get(number)

    def add(self, number: int, purpose: Purpose, truth: Truth = Truth.MAKING, *, turn: int = 0) -> Response:
        response = Response(number, purpose, Chart(TRUTH_TABLE, truth, self._illegal), turn)
        self._known[number] = response
        while len(self._known) > KEEP_RESPONSES:
            self._known.popitem(last=False)
        if truth is Truth.MAKING:
            self.active = response
        return response

    def end(self, response: Response, cut_short: Iterable[int]) -> None:
        """Nothing more of it comes."""
        response.cut_short.update(cut_short)
        response.truth.step(TruthEvent.ENDED)
        if self.active is response:
            self.active = None

    def lose(self) -> None:
        """The session is gone, and all that it held."""
        self.active = None
        for response in self._known.values():
            response.truth.step(TruthEvent.LOST)
