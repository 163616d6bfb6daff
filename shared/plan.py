"""The plan with which a call starts, and the order with which its conversation ends."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

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
    # Keys of the agent's file with other values for this call.
    overrides: dict[str, str] = {}


class HangUp(msgspec.Struct, frozen=True, array_like=True, tag="hang-up"):
    """The conversation is over: end the call."""


class Reject(msgspec.Struct, frozen=True, array_like=True, tag="reject"):
    """Do not answer the call: the caller hears that the number is busy, or not in service."""

    reason: Literal["rejected", "busy"] = "rejected"


class Dial(msgspec.Struct, frozen=True, array_like=True, tag="dial"):
    """Connect the caller to somebody else; when that fails or ends, Twilio returns with the call."""

    # E.164 number or SIP address.
    to: str
    # The number that the called party sees; "" leaves the choice to the carrier.
    caller_id: str = ""
    timeout_s: int = 30
    # The number for a second attempt when the first one fails, because the carrier may refuse `caller_id`; "": none.
    second_caller_id: str = ""


class Conference(msgspec.Struct, frozen=True, array_like=True, tag="conference"):
    """Put the caller into the conference of this name."""

    name: str


class Fallback(msgspec.Struct, frozen=True, array_like=True, tag="fallback"):
    """No model can continue the call: give the caller the settings' sentence, number, or neither."""


CallOrder: TypeAlias = HangUp | Reject | Dial | Conference | Fallback

# Bytes of an encoded plan that can travel through Twilio (gateway/core/plans.py).
PLAN_MAX_BYTES: Final = 5_928
_encoder: Final = msgspec.msgpack.Encoder()


def encoded(plan: CallPlan) -> bytes:
    """The plan in MessagePack."""
    return _encoder.encode(plan)
