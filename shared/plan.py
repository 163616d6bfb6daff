"""The plan with which a call starts, and the order with which its conversation ends."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec


class CallPlan(msgspec.Struct, frozen=True, array_like=True):
    """All that is known about a call before it starts.

    The webhook makes it once. Every message that begins or hands over a call carries it. It never changes.
    """

    direction: Literal["inbound", "outbound"] = "inbound"
    account_sid: str = ""
    # As the carrier writes them: E.164, a SIP address, or "" when it does not say.
    from_number: str = ""
    to_number: str = ""
    # The name of the agent that answers; "" is the default agent.
    agent: str = ""
    # Values for the variables in the agent's instructions and greeting.
    variables: dict[str, str] = {}
    # The version of the agent's file at the gateway.
    agent_version: str = ""
    # When the plan was made, ms of the Unix epoch.
    made_ms: int = 0


class HangUp(msgspec.Struct, frozen=True, array_like=True, tag="hang-up"):
    """The conversation is over: end the call."""


class Dial(msgspec.Struct, frozen=True, array_like=True, tag="dial"):
    """Connect the caller to somebody else; when that fails or ends, Twilio returns with the call."""

    # E.164 number or SIP address.
    to: str
    # The number that the called party sees; "" leaves the choice to the carrier.
    caller_id: str = ""
    timeout_s: int = 30


class Conference(msgspec.Struct, frozen=True, array_like=True, tag="conference"):
    """Put the caller into the conference of this name."""

    name: str


class Fallback(msgspec.Struct, frozen=True, array_like=True, tag="fallback"):
    """No model can continue the call: give the caller the settings' sentence, number, or neither."""


CallOrder: TypeAlias = HangUp | Dial | Conference | Fallback
