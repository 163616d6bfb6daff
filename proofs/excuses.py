"""The damage that an act of harm may do to each of its victims, and how much of it the act did.

Every excuse has a victim (an act excuses the calls that it hit), a place in time, and a bound: one act excuses no more
of one kind of damage to one call than the table says. Damage that no act explains is a broken promise, however small.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from .acts import Act, Deed

Damage = Literal[
    "gap",
    "leftover",
    "lost",
    "twice",
    "order",
    "invented",
    "history",
    "inbound",
    "late answer",
    "cut",
    "lost socket",
    "lost session",
    "warning",
    "error",
    "instant turn",
    "tool",
]
UNITS: Final[Mapping[Damage, str]] = {
    "gap": "ms",
    "leftover": "ms",
    "lost": "bytes",
    "twice": "bytes",
    "order": "bytes",
    "invented": "bytes",
    "history": "ms",
    "inbound": "ms",
    "late answer": "ms",
    "cut": "ms",
}


@dataclass(frozen=True)
class Cost:
    """The most that one act may cost one call: `fixed`, and `each_s` for each second that it lasts.

    An act that is shorter than `from_s` costs nothing.
    """

    fixed: float
    each_s: float = 0.0
    from_s: float = 0.0

    def of(self, act: Act) -> float:
        return 0.0 if act.seconds < self.from_s else self.fixed + self.each_s * act.seconds


# A process or socket that stands still costs this time, and a little more until it runs again on a busy machine.
_STANDSTILL: Final = Cost(300, each_s=1_000)
# A worker that is stopped for longer than this loses its calls to another one (docs/failures.md).
HANDOVER_S: Final = 3.0
# The longest pause: BARGE_IN_EARLY_MS, and what txpacer grants beyond it to a worker that does not end it.
PAUSE_MS: Final = 850
_ONCE: Final = Cost(1)
_HANDED_OVER: Final = Cost(1, from_s=HANDOVER_S)

# Acts that take the media socket, that freeze what the speech passes through, and that take the model's session.
_SOCKET_GONE: Final = (("kill", "gateway"), ("lose", "media"))
_FROZEN: Final = dict.fromkeys((("stop", "gateway"), ("stop", "txpacer"), ("stop", "aibridge")), _STANDSTILL)
_SESSION_GONE: Final = {("kill", "aibridge"): _ONCE, ("lose", "model"): _ONCE, ("stop", "aibridge"): _HANDED_OVER}

# The cost of each act, by its kind and target. Speech that was made plays on without its worker: a gap needs a worker
# that is stopped before it has passed on what it reads.
EXCUSES: Final[Mapping[Damage, Mapping[tuple[str, str], Cost]]] = {
    "gap": {
        **dict.fromkeys(_SOCKET_GONE, Cost(1_000)),
        ("kill", "txpacer"): Cost(600),
        **_FROZEN,
        ("slow", "media"): _STANDSTILL,
    },
    # Speech that is heard after its interruption, beyond the lead.
    "leftover": {
        **dict.fromkeys((*_SOCKET_GONE, ("kill", "aibridge"), ("lose", "model")), Cost(1_000)),
        ("kill", "txpacer"): Cost(600),
        **_FROZEN,
        # The kernels hold 0.5 s for a socket that is not read, and deliver it at once when it is read again. Until the
        # AI is silent, the line is ahead of the ear by that, and no report says so.
        ("slow", "media"): Cost(800, each_s=1_000),
    },
    # The exact point at which the ear stopped when its socket was lost is unknown.
    "twice": dict.fromkeys(_SOCKET_GONE, Cost(1_600)),
    "history": dict.fromkeys((*_SOCKET_GONE, ("slow", "media")), Cost(300)),
    # Audio that the caller sends into a dead socket is lost.
    "inbound": dict.fromkeys(_SOCKET_GONE, Cost(300)),
    "late answer": {
        **dict.fromkeys(_SOCKET_GONE, Cost(1_000)),
        ("kill", "txpacer"): Cost(600),
        ("kill", "aibridge"): Cost(4_000),
        ("lose", "model"): Cost(1_500),
        **_FROZEN,
        ("slow", "media"): _STANDSTILL,
        ("slow", "model"): _STANDSTILL,
    },
    # What the model had not said yet, or said at the last instant, is lost with its session.
    "cut": {
        ("kill", "aibridge"): Cost(60_000),
        ("lose", "model"): Cost(60_000),
        ("stop", "aibridge"): Cost(60_000, from_s=HANDOVER_S),
    },
    "lost socket": dict.fromkeys(_SOCKET_GONE, _ONCE),
    "lost session": _SESSION_GONE,
    "warning": dict.fromkeys(_SOCKET_GONE, _ONCE),
    # A tool's call that was not made, or whose effect nobody knows: the one that runs, and the one after it, for which
    # toolbox was not there. A call that its session took along is another one.
    "tool": {
        **dict.fromkeys((("kill", "toolbox"), ("stop", "toolbox"), ("kill", "runner")), Cost(2)),
        **_SESSION_GONE,
    },
    # conversation_already_has_active_response: see nemesis_check.
    "error": _SESSION_GONE,
}


# With early pauses: the caller's first sound paused the line, and nobody reported or denied the speech in time.
_PAUSED: Final = dict.fromkeys((("kill", "aibridge"), ("lose", "model"), ("slow", "model")), Cost(PAUSE_MS))
EARLY_EXCUSES: Final[Mapping[Damage, Mapping[tuple[str, str], Cost]]] = {
    **EXCUSES,
    "gap": {**EXCUSES["gap"], **_PAUSED},
}


@dataclass
class Ledger:
    """All damage of a run, and how much of it each act explains."""

    # By damage: how often, how much in all, and the most at once.
    found: dict[Damage, tuple[int, float, float]] = field(default_factory=dict)
    # By damage and cause: how often and how much.
    excused: dict[tuple[Damage, str], tuple[int, float]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """For each kind of damage its total, each cause's share of it, and what no act explains."""
        for damage, (count, total, most) in sorted(self.found.items()):
            unit = UNITS.get(damage)
            amount = f"{total:.0f} {unit} in {count}, {most:.0f} at most" if unit else f"{count}"
            shares = sorted((cause, share) for (kind, cause), share in self.excused.items() if kind == damage)
            causes = "".join(f"; {cause} {share:.0f}" + f" in {n}" * bool(unit) for cause, (n, share) in shares)
            left = total - sum(share for _, (_, share) in shares)
            yield f"{damage}: {amount}{causes}; NOT EXPLAINED {left:.0f}"


class Account:
    """One call: the acts that hit it, and what each of them may still excuse. `early`: its agent pauses early."""

    def __init__(self, deeds: Sequence[Deed], ledger: Ledger, *, early: bool = False) -> None:
        self.deeds = deeds
        self._excuses = EARLY_EXCUSES if early else EXCUSES
        self._ledger = ledger
        self._left: dict[tuple[int, Damage], float] = {}

    def near(self, damage: Damage, from_ns: int, to_ns: int) -> list[Deed]:
        """The acts that may explain this damage at this time."""
        costs = self._excuses.get(damage, {})
        return [
            deed
            for deed in self.deeds
            if (cost := costs.get((deed.act.kind, deed.act.target))) is not None
            and cost.of(deed.act)
            and deed.is_near(from_ns, to_ns)
        ]

    def settle(
        self,
        damage: Damage,
        amount: float,
        from_ns: int,
        to_ns: int,
        *,
        most: float | None = None,
        only: tuple[str, str] | None = None,
    ) -> float:
        """How much of this damage no act explains. `most`: an act's bound here where it is below the table's.

        `only`: acts of this kind and target.
        """
        for deed in self.near(damage, from_ns, to_ns):
            if only not in (None, (deed.act.kind, deed.act.target)):
                continue
            key = (id(deed), damage)
            cost = self._excuses[damage][deed.act.kind, deed.act.target].of(deed.act)
            left = self._left.setdefault(key, cost)
            share = min(amount, left if most is None else min(left, most))
            if share > 0:
                self._left[key] -= share
                amount -= share
                self.excuse(damage, f"{deed.act.kind} {deed.act.target}", share)
        return amount

    def note(self, damage: Damage, amount: float) -> None:
        """Count damage that was found."""
        count, total, most = self._ledger.found.get(damage, (0, 0.0, 0.0))
        self._ledger.found[damage] = (count + 1, total + amount, max(most, amount))

    def excuse(self, damage: Damage, cause: str, amount: float) -> None:
        """Count damage that an act explains."""
        count, total = self._ledger.excused.get((damage, cause), (0, 0.0))
        self._ledger.excused[damage, cause] = (count + 1, total + amount)
