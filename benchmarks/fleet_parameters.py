"""What the simulation of a fleet is fed with: each figure beside the place that states it, or measures it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from aibridge.core.reconnect_and_renewal import BACK_OFF_S
from gateway.core.agent_check import RAMP_NS


def of(value: Any, unit: str, source: str) -> Any:
    return field(default=value, metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class Parameters:
    """One fleet. Seconds, unless the name says otherwise."""

    cells: int = of(60, "", "the question: 10,000 calls")
    zones: int = of(3, "", "the question: cells are dealt over them in turn")
    edges: int = of(4, "HAProxies", "docs/fleet.md: 10,000 calls are 2.5 Gbit/s at the edge")
    calls: int = of(10_000, "at the same time, on average", "the question")
    mean_call_s: float = of(180.0, "s", "an assumption; lengths are exponential")
    max_calls: int = of(
        200, "a cell", "`make bench` (docs/benchmarks.md): the machine of 2 cores has no gap at 300, and many at 400"
    )
    # HAProxy.
    agent_s: float = of(1.0, "s", "deploy/haproxy/haproxy.cfg: agent-inter")
    check_s: float = of(0.5, "s", "deploy/haproxy/haproxy.cfg: check inter")
    check_fall: int = of(2, "failed checks", "deploy/haproxy/haproxy.cfg: fall")
    connect_s: float = of(1.0, "s", "deploy/haproxy/haproxy.cfg: timeout connect")
    draws: int = of(2, "servers drawn; 0 is leastconn", "deploy/haproxy/haproxy.cfg: balance random(2)")
    retries: int = of(6, "", "deploy/haproxy/haproxy.cfg: retries")
    # Twilio.
    socket_after_s: float = of(0.15, "s, from TwiML to media socket", "docs/benchmarks.md: TCP and TLS of the carrier")
    redirect_least_s: float = of(
        0.1,
        "s, from a lost socket to the webhook",
        "an assumption; the whole pause when a gateway dies: 0.1 to 1 s (docs/failures.md)",
    )
    redirect_most_s: float = of(0.4, "s", "the same")
    # A cell.
    ramp_s: float = of(RAMP_NS / 1e9, "s", "gateway/core/agent_check.py: RAMP_NS")
    drain_s: float = of(600.0, "s", ".env.example: DRAIN_SECONDS")
    handed_over_per_s: float = of(20.0, "calls/s, when a drain ends", "docs/operations.md, Draining")
    start_s: float = of(3.0, "s, from the end to the first call", "docs/failures.md: starts in 1 to 2 s; and a margin")
    story_s: float = of(1.0, "s, between two stories of a call", "docs/failures.md: once a second")
    # The model.
    dial_s: float = of(0.5, "s, to a configured session", "an assumption; `twentyms doctor` measures yours")
    answer_s: float = of(0.3, "s, to the first sound", "docs/benchmarks.md: the model of the benchmarks")
    dials_per_s: float = of(200.0, "a second, then 429", "an assumption; your account's limits")
    dials_burst: float = of(200.0, "at once", "an assumption")
    reconnect_s: float = of(10.0, "s, then the fallback", ".env.example: MODEL_RECONNECT_SECONDS")

    @property
    def arrivals_per_s(self) -> float:
        """Little's law: calls at the same time = arrivals * length."""
        return self.calls / self.mean_call_s


# The pauses between two dials of one call.
BACK_OFF: Final = BACK_OFF_S


def rows() -> list[tuple[str, str, str]]:
    """Name, value with its unit, source."""
    return [
        (each.name, f"{each.default:g} {each.metadata['unit']}".strip(), each.metadata["source"])
        for each in fields(Parameters)
    ]
