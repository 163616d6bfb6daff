"""What CALL_CONFIG_URL may say of a call, and what follows for its plan.

Question and answer have the shape of Retell's and dograh's inbound webhooks: `call_inbound` with the numbers, and
`call_inbound` with `override_agent_id`, `dynamic_variables` and `agent_override`. `reject` and `order` are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from shared.agents.numbers import normalised, written_as_it_should_be
from shared.plan import PLAN_MAX_BYTES, CallOrder, CallPlan, Conference, Dial, HangUp, Reject, encoded

from .agent import OVERRIDABLE, Agents

# Why CALL_CONFIG_URL had no effect: the labels of a metric.
FAILURES: Final = ("timeout", "unreachable", "status", "too_large", "malformed", "unknown_agent")


class CallConfigError(Exception):
    """The answer cannot be used. `cause` is one of FAILURES; the text quotes nothing of the answer."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


# Gets the body of the answer, or why there is none.
OnAnswer: TypeAlias = Callable[[bytes | CallConfigError], None]


class _DialOrder(msgspec.Struct, frozen=True, tag="dial", tag_field="type"):
    to: str
    caller_id: str = ""
    timeout_s: int = 30


class _ConferenceOrder(msgspec.Struct, frozen=True, tag="conference", tag_field="type"):
    name: str


class _HangUpOrder(msgspec.Struct, frozen=True, tag="hang_up", tag_field="type"):
    pass


class _CallInbound(msgspec.Struct, frozen=True):
    override_agent_id: str = ""
    dynamic_variables: dict[str, str | int | float | bool | None] = {}
    agent_override: dict[str, str] = {}
    reject: bool | Literal["rejected", "busy"] = False
    order: _DialOrder | _ConferenceOrder | _HangUpOrder | None = None


class _Answer(msgspec.Struct, frozen=True):
    call_inbound: _CallInbound = _CallInbound()


_decoder: Final = msgspec.json.Decoder(_Answer)


def question(call_sid: str, plan: CallPlan, agents: Agents) -> dict[str, Any]:
    """What is asked, for JSON."""
    return {
        "event": "call_inbound",
        "call_inbound": {
            "agent_id": plan.agent or agents.default.name,
            "from_number": plan.from_number,
            "to_number": plan.to_number,
            "call_sid": call_sid,
            "account_sid": plan.account_sid,
            "direction": plan.direction,
        },
    }


def answered(body: bytes, plan: CallPlan, agents: Agents) -> tuple[CallPlan, CallOrder | None]:
    """The plan as the answer changes it, and the order that it gives. Raises CallConfigError."""
    try:
        said = _decoder.decode(body or b"{}").call_inbound
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise CallConfigError("malformed", "its answer is not JSON of the form in docs/agents.md") from None
    changed = plan
    if said.override_agent_id:
        agent = agents.by_name.get(said.override_agent_id)
        if agent is None:
            raise CallConfigError("unknown_agent", "it names an agent that is not in AGENTS_DIR")
        changed = msgspec.structs.replace(plan, agent=agent.name, agent_version=agent.version)
    if not said.agent_override.keys() <= OVERRIDABLE:
        raise CallConfigError("malformed", f"agent_override can have {', '.join(sorted(OVERRIDABLE))} only")
    variables = {name: _text(value) for name, value in said.dynamic_variables.items() if value is not None}
    changed = msgspec.structs.replace(changed, variables=variables, overrides=said.agent_override)
    if len(encoded(changed)) > PLAN_MAX_BYTES:
        raise CallConfigError("too_large", f"variables and overrides have more than {PLAN_MAX_BYTES} bytes")
    return changed, _order(said)


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _order(said: _CallInbound) -> CallOrder | None:
    if said.reject:
        return Reject("busy" if said.reject == "busy" else "rejected")
    match said.order:
        case _DialOrder(to, caller_id, timeout_s):
            if not written_as_it_should_be(to) or not 5 <= timeout_s <= 600:
                raise CallConfigError("malformed", "its order needs a whole number or SIP address, and 5 to 600 s")
            address = normalised(to)
            return Dial(f"sip:{address}" if "@" in address else address, caller_id, timeout_s)
        case _ConferenceOrder(name):
            return Conference(name)
        case _HangUpOrder():
            return HangUp()
        case None:
            return None
