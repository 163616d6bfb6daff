from __future__ import annotations

from typing import Any

import pytest

from gateway.core import admission as module
from gateway.core.admission import PROMPT_NS, RESUMES_MAX, Admission, Decision
from gateway.core.fallback import FallbackCause
from gateway.core.tokens import LIFE_NS
from shared.plan import CallOrder, Conference, Dial, Fallback, HangUp


def decide(
    admission: Admission,
    call_sid: str,
    source: str = "",
    *,
    resumed: bool = False,
    after_order: bool = False,
    ready: bool = True,
    late: bool = False,
    cell_calls: int = 0,
    now_ns: int = 0,
) -> Decision:
    decision = admission.answer(
        call_sid,
        source=source,
        resumed=resumed,
        after_order=after_order,
        ready=ready,
        late=late,
        cell_calls=cell_calls,
        now_ns=now_ns,
    )
    if decision.order is None:
        admission.offered(call_sid, 0, now_ns, source)
    return decision


def answer(admission: Admission, call_sid: str, source: str = "", **said: Any) -> CallOrder | None:
    return decide(admission, call_sid, source, **said).order


def test_an_offer_holds_a_place_until_it_starts_ends_or_expires():
    admission = Admission(1, 1)
    assert answer(admission, "CA1") is None
    assert answer(admission, "CA2") == Fallback()
    assert answer(admission, "CA1") is None  # the same webhook again
    admission.started("CA1")
    assert admission.live == 1
    assert answer(admission, "CA2", now_ns=LIFE_NS) == Fallback()
    admission.ended("CA1")
    assert answer(admission, "CA2") is None
    assert answer(admission, "CA3", now_ns=LIFE_NS - 1) == Fallback()
    assert answer(admission, "CA3", now_ns=LIFE_NS) is None


def test_a_source_has_a_number_of_places_and_gets_them_back():
    admission = Admission(10, 2)
    assert answer(admission, "CA1", "mine") is None
    assert answer(admission, "CA2", "mine") is None
    assert decide(admission, "CA3", "mine").cause is FallbackCause.SOURCE
    assert answer(admission, "CA4", "yours") is None
    admission.started("CA1", "mine")
    assert decide(admission, "CA3", "mine").cause is FallbackCause.SOURCE
    admission.ended("CA1")
    assert answer(admission, "CA3", "mine") is None


def test_a_call_that_another_gateway_offered_counts_for_its_source():
    admission = Admission(10, 1)
    admission.started("CA1", "mine")
    assert decide(admission, "CA2", "mine").cause is FallbackCause.SOURCE
    assert answer(admission, "CA3", "yours") is None
    admission.ended("CA1")
    assert answer(admission, "CA2", "mine") is None


def test_an_offer_that_was_used_at_another_gateway_holds_no_place_here():
    admission = Admission(1, 1)
    assert answer(admission, "CA1", "mine") is None
    admission.taken_elsewhere("CA1")
    admission.taken_elsewhere("CA1")
    assert answer(admission, "CA2", "mine") is None


def test_the_calls_of_all_gateways_of_the_cell_count():
    assert decide(Admission(2, 2), "CA1", cell_calls=2).cause is FallbackCause.FULL
    assert answer(Admission(2, 2), "CA1", cell_calls=1) is None


def test_a_returning_call_has_a_place_in_a_full_cell():
    admission = Admission(1, 1)
    admission.started("CA1", "mine")
    assert answer(admission, "CA2", "mine", resumed=True, late=True, cell_calls=9) is None
    assert decide(admission, "CA3", "yours").cause is FallbackCause.FULL


def test_an_offer_holds_a_drain_until_its_caller_must_have_hung_up():
    admission = Admission(5, 5)
    assert not admission.awaits_a_socket(0)
    admission.offered("CA1", 0, 0)
    assert admission.awaits_a_socket(PROMPT_NS - 1)
    assert not admission.awaits_a_socket(PROMPT_NS)
    admission.started("CA1")
    assert not admission.awaits_a_socket(0)


def test_a_late_machine_takes_no_new_call():
    assert decide(Admission(5, 5), "CA1", late=True).cause is FallbackCause.LATE


def test_a_gateway_that_is_not_ready_answers_with_the_fallback():
    assert answer(Admission(1, 1), "CA1", ready=False) == Fallback()


def test_a_call_that_was_ended_by_an_order_is_not_connected_again():
    admission = Admission(5, 5)
    admission.ordered("CA1", HangUp())
    admission.ordered("CA2", Fallback())
    assert answer(admission, "CA1", resumed=True) == HangUp()
    assert answer(admission, "CA1", resumed=True, ready=False) == HangUp()
    assert answer(admission, "CA2", resumed=True) == Fallback()
    assert answer(admission, "CA3", resumed=True) is None


@pytest.mark.parametrize("order", [Dial("+15550100"), Conference("room")])
@pytest.mark.parametrize("learned", ["from the query", "from its socket here", "from its socket elsewhere"])
def test_an_order_is_carried_out_once_and_then_the_call_returns_to_its_agent(order, learned):
    admission = Admission(5, 5)
    admission.ordered("CA1", order)
    assert answer(admission, "CA1", resumed=True) == order
    assert answer(admission, "CA1", resumed=True) == order  # the same request again
    if learned == "from its socket here":
        admission.started("CA1")
    elif learned == "from its socket elsewhere":
        admission.taken_elsewhere("CA1")
    assert answer(admission, "CA1", resumed=True, after_order=learned == "from the query") is None
    assert answer(admission, "CA1", resumed=True) is None


def test_a_call_with_the_order_to_hang_up_is_hung_up_although_another_socket_of_it_began():
    admission = Admission(5, 5)
    admission.ordered("CA1", HangUp())
    admission.started("CA1")
    assert answer(admission, "CA1", resumed=True, after_order=True) == HangUp()


def test_a_repeated_webhook_finds_the_worker_that_already_dials():
    admission = Admission(5, 5)
    assert admission.offered_to("CA1") is None
    admission.offered("CA1", 3, 0)
    assert admission.offered_to("CA1") == 3
    admission.started("CA1")
    assert admission.offered_to("CA1") is None


def test_a_call_that_keeps_losing_its_socket_gets_the_fallback():
    admission = Admission(5, 5)
    answers = [answer(admission, "CA1", resumed=True) for _ in range(RESUMES_MAX + 1)]
    assert answers == [None] * RESUMES_MAX + [Fallback()]
    assert answer(admission, "CA2", resumed=True) is None


def test_the_number_of_remembered_calls_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_MAX", 2)
    admission = Admission(5, 5)
    for call_sid in ("CA1", "CA2", "CA3"):
        admission.ordered(call_sid, HangUp())
    assert answer(admission, "CA1", resumed=True) is None
    assert answer(admission, "CA3", resumed=True) == HangUp()
