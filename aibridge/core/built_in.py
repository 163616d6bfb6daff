"""The functions that come with the system: what the model is told of them, and what a call of one means.

`end_call` and `transfer_call` give an order, which is carried out when the caller has heard everything (the goodbye
region). `hand_off` gives the conversation to another agent (hand_off.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from shared.agents.destinations import Destination
from shared.agents.numbers import normalised
from shared.plan import CallOrder, CallPlan, Dial

from . import tones
from .agent import Agent

END_CALL: Final = "end_call"
TRANSFER_CALL: Final = "transfer_call"
HAND_OFF: Final = "hand_off"
# Answers to the model.
ENDING: Final = '{"ok": true}'
CONNECTING: Final = '{"ok": true, "state": "the caller is connected when they have heard you"}'
CALLED_OFF: Final = '{"ok": false, "state": "not carried out, because the caller spoke"}'
# What the model is told beside that when the caller keeps the call.
NOTE_CALLED_OFF: Final = (
    "The caller spoke before they were connected, so the transfer was not carried out. Answer them. If they still want "
    "it, call transfer_call again."
)


class Function(NamedTuple):
    """A function as the model knows it. `parameters` is a JSON schema; empty: it has none."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class BuiltIn:
    """Whom an agent may pass its callers on to, by name."""

    transfers: Mapping[str, Destination] = field(default_factory=dict)
    colleagues: Iterable[str] = ()
    # The model says a filler sentence when the other agent has not come by then; 0: never.
    filler_after_ns: int = 0


def of_agent(agent: Agent) -> BuiltIn:
    return BuiltIn(agent.transfer, tuple(agent.hand_off), int(agent.filler_after_s * 1e9))


def functions(agent: Agent) -> list[Function]:
    """The built-in functions of an agent."""
    found: list[Function] = []
    if agent.end_call:
        text = "End the phone call. Call it after the goodbye was said; the caller hears all of that first."
        found.append(Function(END_CALL, text, {}))
    if agent.send_dtmf:
        found.append(Function(tones.SEND_DTMF, tones.DESCRIPTION, tones.PARAMETERS))
    if agent.transfer:
        text = (
            "Connect the caller to a person. First tell the caller in one sentence that you connect them, and call "
            "this in the same turn; the caller hears all of that first. If nobody answers, they come back to you."
        )
        described = {name: destination.description for name, destination in agent.transfer.items()}
        found.append(Function(TRANSFER_CALL, text, _choice("destination", described)))
    if agent.hand_off:
        text = (
            "Let another agent, who knows all that was said, continue this conversation. First tell the caller in one "
            "sentence what happens, and call this in the same turn."
        )
        found.append(Function(HAND_OFF, text, _choice("agent", agent.hand_off)))
    return found


def _choice(parameter: str, described: Mapping[str, str]) -> dict[str, Any]:
    """The schema of a function with one parameter, which is one of these names."""
    lines = [f"{name}: {text}" if text else name for name, text in described.items()]
    schema = {"type": "string", "enum": list(described), "description": "\n".join(lines)}
    return {"type": "object", "properties": {parameter: schema}, "required": [parameter], "additionalProperties": False}


def argument(arguments: str, name: str) -> str:
    """A text among the arguments of a call; "" when there is none."""
    try:
        value = msgspec.json.decode(arguments or "{}", type=dict[str, Any]).get(name, "")
    except (msgspec.MsgspecError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""


def dial(destination: Destination, plan: CallPlan) -> CallOrder:
    """The order that connects a caller.

    A carrier permits the caller's number and the called one. It may still refuse the caller's when that is no real
    number ("anonymous"); then the order is carried out once more with ours.
    """
    own, callers = _number(plan.to_number), _number(plan.from_number)
    if destination.caller_id == "own" or not callers:
        return Dial(destination.address, own, destination.timeout_s)
    return Dial(destination.address, callers, destination.timeout_s, own)


def _number(text: str) -> str:
    """A telephone number that can be shown; "" for SIP addresses, names and anonymous callers."""
    number = normalised(text)
    return number if number.startswith("+") and number[1:].isdecimal() else ""
