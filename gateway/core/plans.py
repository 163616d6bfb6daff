"""A call plan on its way through Twilio: out in the TwiML's `<Parameter>`s, back in `start.customParameters`.

The media socket may reach another gateway than the webhook did, so the plan travels with the call. The stream token's
MAC covers the packed text (tokens.py). A returned plan is read only after its MAC was checked.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

import msgspec

from shared.agents.choice import Directory
from shared.plan import PLAN_MAX_BYTES, CallPlan, encoded

from .tokens import TokenError

# Twilio: name and value of one <Parameter> have at most 500 characters together.
PARAMETER_MAX: Final = 500
_NAME_MAX: Final = len("plan00")
_PART: Final = PARAMETER_MAX - _NAME_MAX
# Packed characters: 16 parameters. Twilio documents no bound on their number; `start` stays below 10 of the 64 KiB that
# the media socket reads.
PACKED_MAX: Final = 16 * _PART
assert PLAN_MAX_BYTES == PACKED_MAX * 3 // 4
# Characters of one number or SIP address. Twilio's are below 100; a form field may be 64 kB long.
FIELD_MAX: Final = 128

_decoder: Final = msgspec.msgpack.Decoder(CallPlan)


class PlanError(ValueError):
    """A plan that is too large to travel."""


def inbound(
    account_sid: str,
    from_number: str,
    to_number: str,
    made_ms: int,
    agents: Directory | None = None,
    *,
    agent_name: str = "",
) -> CallPlan:
    """The plan of an inbound call, with fields cut to FIELD_MAX. Without a directory, aibridge has one agent.

    `agent_name`: the agent that was chosen; "": the called number chooses.
    """
    account_sid, from_number, to_number = account_sid[:FIELD_MAX], from_number[:FIELD_MAX], to_number[:FIELD_MAX]
    if agents is None:
        return CallPlan("inbound", account_sid, from_number, to_number, made_ms=made_ms)
    agent = agents.agents.get(agent_name) or agents.answering(to_number)
    return CallPlan(
        "inbound", account_sid, from_number, to_number, agent.name, agent_version=agent.version, made_ms=made_ms
    )


def pack(plan: CallPlan) -> str:
    """The plan as letters, digits, "-" and "_". Raises PlanError beyond PACKED_MAX."""
    packed = urlsafe_b64encode(encoded(plan)).rstrip(b"=").decode()
    if len(packed) > PACKED_MAX:
        raise PlanError(f"the plan has {len(packed)} characters, {PACKED_MAX} can travel; shorten its variables")
    return packed


def unpack(packed: str) -> CallPlan:
    """The plan in a packed text. Raises TokenError for a text that is not a packed plan."""
    try:
        return _decoder.decode(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        raise TokenError("malformed") from None


def parameters(token: str, packed: str) -> dict[str, str]:
    """The TwiML's `<Parameter>`s, each short enough for Twilio."""
    parts = (packed[at : at + _PART] for at in range(0, len(packed), _PART))
    return {"token": token, **{f"plan{number}": part for number, part in enumerate(parts)}}


def packed_in(custom_parameters: Mapping[str, str]) -> str:
    """The packed plan in the parameters of `start`, up to the first missing part."""
    parts = []
    for number in range(PACKED_MAX // _PART):
        part = custom_parameters.get(f"plan{number}")
        if part is None:
            break
        parts.append(part)
    return "".join(parts)
