"""Handing a call off to another agent: its session is dialled beside the live one, and takes over between two turns.

The function `hand_off` stays without an answer until then. When the other agent's session does not come, the model
learns it and the call goes on as before. Whoever speaks meanwhile, speaks with the first agent. The line plays on: the
caller hears another voice, and no gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .agent import Agent
from .built_in import BuiltIn
from .chart import Table, becomes, stays
from .rules import Rules, Script
from .tools import ToolRule

# A session that is not ready by then does not come: longer than a handshake may take.
DEADLINE_NS: Final = 20_000_000_000
# The last that the other agent is told before it speaks.
NOTE: Final = (
    "You have taken over this call from another agent; all of the above was said before you. Say in a few words who "
    "you are, and go on with what the caller wants."
)


class HandOff(Enum):
    NONE = auto()
    WANTED = auto()  # the model has called it
    DIALLING = auto()  # the other agent's session is being dialled, or waits for a moment between two turns


class HandOffEvent(Enum):
    CALLED = auto()
    DIALLED = auto()
    ADOPTED = auto()  # the call has the other agent's session
    FAILED = auto()


class HandOffAct(Enum):
    CHANGE_AGENT = auto()
    REFUSE = auto()  # the model learns that the other agent does not come


HAND_OFF_TABLE: Final[Table[HandOff, HandOffEvent, HandOffAct]] = {
    (HandOff.NONE, HandOffEvent.CALLED): (HandOff.WANTED, ()),
    (HandOff.WANTED, HandOffEvent.DIALLED): (HandOff.DIALLING, ()),
    (HandOff.DIALLING, HandOffEvent.ADOPTED): (HandOff.NONE, (HandOffAct.CHANGE_AGENT,)),
    **becomes((HandOff.DIALLING,), HandOffEvent.FAILED, HandOff.NONE, HandOffAct.REFUSE),
    (HandOff.WANTED, HandOffEvent.FAILED): (HandOff.NONE, ()),
    **stays((HandOff.NONE,), HandOffEvent.ADOPTED, HandOffEvent.FAILED),
}


@dataclass(frozen=True)
class Part:
    """What an agent brings into a conversation that it takes over."""

    agent: Agent
    script: Script
    rules: Rules
    tools: Mapping[str, ToolRule]
    built_in: BuiltIn
