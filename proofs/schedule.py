"""The acts of the nemesis and the script of its callers, as functions of a seed. Pure."""

from __future__ import annotations

import random
from typing import Any, Final

from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Say

from .acts import Act

# Between two acts: as long as supervisord takes to bring a process back, so that one of two always lives.
PAUSE_S: Final = (4.0, 9.0)
# Quiet at both ends: the calls begin, and recover from the last act.
QUIET_S: Final = 5.0
# How long a process is stopped, or a socket not read. What has a longer way back takes the longer one, too: a worker
# loses its calls to another after 3 s, and a gateway has to hold back what a caller's socket does not take.
AT_ONCE: Final = (0.0, 0.0)
SHORT_S: Final = (0.05, 2.0)
LONG_S: Final = (3.5, 6.0)
# All of it comes, in an order that the seed gives, before any of it comes again.
DECK: Final = (
    *2 * (("kill", "txpacer", AT_ONCE),),
    *2 * (("kill", "aibridge", AT_ONCE),),
    *2 * (("kill", "gateway", AT_ONCE),),
    ("kill", "callbook", AT_ONCE),
    ("stop", "txpacer", SHORT_S),
    ("stop", "aibridge", SHORT_S),
    ("stop", "aibridge", LONG_S),
    ("stop", "gateway", SHORT_S),
    ("stop", "callbook", SHORT_S),
    *2 * (("lose", "media", AT_ONCE),),
    ("lose", "model", AT_ONCE),
    ("slow", "media", SHORT_S),
    ("slow", "media", LONG_S),
    ("slow", "model", SHORT_S),
)
# In addition, where tools are called. A runner is a child of toolbox that runs them.
TOOL_ACTS: Final = (
    *2 * (("kill", "toolbox", AT_ONCE),),
    ("kill", "runner", AT_ONCE),
    ("stop", "toolbox", SHORT_S),
)
_CLIPS: Final = ("hello", "auth-thankyou", "vm-sorry", "vm-no")


def schedule(seed: int, seconds: float, *, tools: bool = False) -> list[Act]:
    """The acts of one run, in order. `tools`: TOOL_ACTS are among them."""
    whole = (*DECK, *TOOL_ACTS) if tools else DECK
    rng = random.Random(seed)
    acts: list[Act] = []
    deck: list[tuple[str, str, tuple[float, float]]] = []
    at_s = QUIET_S
    while at_s < seconds - QUIET_S:
        deck = deck or rng.sample(whole, len(whole))
        kind, target, length = deck.pop()
        lasting = round(rng.uniform(*length), 2)
        acts.append(Act(round(at_s, 2), kind, target, rng.randrange(1_000), lasting))
        at_s += lasting + rng.uniform(*PAUSE_S)
    return acts


def script(rng: random.Random) -> Caller:
    """A call of about half a minute: polite questions, and interruptions."""
    steps: list[Any] = [Say(rng.choice(_CLIPS), AiSilent(ms=400))]
    for _ in range(3):
        when = AiHeard(ms=1_000, upto_ms=5_000) if rng.random() < 0.5 else AiSilent(ms=400)
        steps.append(Say(rng.choice(_CLIPS), when))
    # With noise, so that what a model hears of the caller can be found in what the caller sent.
    return Caller([*steps, HangUp(AiHeard(ms=2_000))], seed=rng.getrandbits(32), noise=True)
