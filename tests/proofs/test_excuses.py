"""Each excuse has a victim, a place in time and a bound, and excuses not a millisecond more."""

from __future__ import annotations

import pytest

from proofs.acts import NEAR_NS
from proofs.excuses import EXCUSES, PAUSE_MS, Account, Damage, Ledger

from .harmed_call import MS, START, deed

AT_NS = START + 5_000 * MS
TABLE = [(damage, *cause) for damage, causes in EXCUSES.items() for cause in causes]


@pytest.mark.parametrize(("damage", "kind", "target"), TABLE)
def test_an_act_excuses_as_much_as_the_table_says_to_its_victim_and_no_more(
    damage: Damage, kind: str, target: str
) -> None:
    done = deed(kind, target, 5_000, 4.0)
    most = EXCUSES[damage][kind, target].of(done.act)
    assert most > 0
    assert Account([done], Ledger()).settle(damage, most, AT_NS, AT_NS) == 0
    assert Account([done], Ledger()).settle(damage, most + 1, AT_NS, AT_NS) == 1


@pytest.mark.parametrize(("damage", "kind", "target"), TABLE)
def test_an_act_excuses_its_bound_once_for_repeated_damage(damage: Damage, kind: str, target: str) -> None:
    done = deed(kind, target, 5_000, 4.0)
    account = Account([done], Ledger())
    account.settle(damage, EXCUSES[damage][kind, target].of(done.act), AT_NS, AT_NS)
    assert account.settle(damage, 1, AT_NS, AT_NS) == 1


@pytest.mark.parametrize(("damage", "kind", "target"), TABLE)
def test_an_act_excuses_no_damage_before_it_and_none_a_second_after_its_end(
    damage: Damage, kind: str, target: str
) -> None:
    done = deed(kind, target, 5_000, 4.0)
    too_late_ns = done.ended_ns + NEAR_NS + 1
    for from_ns, to_ns in ((AT_NS - 2, AT_NS - 1), (too_late_ns, too_late_ns + 1)):
        assert Account([done], Ledger()).settle(damage, 1, from_ns, to_ns) == 1


def test_acts_on_callbook_excuse_nothing_and_lost_bytes_are_never_excused() -> None:
    assert not any(target == "callbook" for causes in EXCUSES.values() for _, target in causes)
    assert not {"lost", "order", "invented"} & set(EXCUSES)


@pytest.mark.parametrize(("kind", "target"), [("kill", "aibridge"), ("lose", "model"), ("slow", "model")])
def test_an_act_that_leaves_an_early_pause_open_excuses_its_length_and_without_early_pauses_nothing(
    kind: str, target: str
) -> None:
    done = deed(kind, target, 5_000, 4.0)
    assert Account([done], Ledger(), early=True).settle("gap", PAUSE_MS + 1, AT_NS, AT_NS) == 1
    assert Account([done], Ledger()).settle("gap", 1, AT_NS, AT_NS) == 1


def test_a_worker_that_is_stopped_for_less_than_a_handover_loses_no_session() -> None:
    short, long = deed("stop", "aibridge", 5_000, 2.9), deed("stop", "aibridge", 5_000, 3.1)
    assert Account([short], Ledger()).settle("lost session", 1, AT_NS, AT_NS) == 1
    assert Account([long], Ledger()).settle("lost session", 1, AT_NS, AT_NS) == 0


def test_the_ledger_prints_each_damage_with_the_acts_that_explain_it_and_the_rest() -> None:
    ledger = Ledger()
    account = Account([deed("kill", "gateway", 5_000), deed("stop", "gateway", 5_000, 0.5)], ledger)
    for amount in (700.0, 1_200.0):
        account.note("gap", amount)
        account.settle("gap", amount, AT_NS, AT_NS)
    assert list(ledger.lines()) == [
        "gap: 1900 ms in 2, 1200 at most; kill gateway 1000 in 2; stop gateway 800 in 1; NOT EXPLAINED 100"
    ]
