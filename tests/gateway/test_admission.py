from __future__ import annotations

from typing import Any

from gateway.core import admission as module
from gateway.core.admission import PROMPT_NS, RESUMES_MAX, Admission, Answer, Decision, Ending, Why
from gateway.core.tokens import LIFE_NS


def decide(
    admission: Admission,
    call_sid: str,
    source: str = "",
    *,
    resumed: bool = False,
    ready: bool = True,
    late: bool = False,
    cell_calls: int = 0,
    now_ns: int = 0,
) -> Decision:
    decision = admission.answer(
        call_sid, source=source, resumed=resumed, ready=ready, late=late, cell_calls=cell_calls, now_ns=now_ns
    )
    if decision.answer is Answer.CONNECT:
        admission.offered(call_sid, now_ns, source)
    return decision


def answer(admission: Admission, call_sid: str, source: str = "", **said: Any) -> Answer:
    return decide(admission, call_sid, source, **said).answer


def test_an_offer_holds_a_place_until_it_starts_ends_or_expires():
    admission = Admission(1, 1)
    assert answer(admission, "CA1") is Answer.CONNECT
    assert answer(admission, "CA2") is Answer.FALLBACK
    assert answer(admission, "CA1") is Answer.CONNECT  # the same webhook again
    admission.started("CA1")
    assert admission.live == 1
    assert answer(admission, "CA2", now_ns=LIFE_NS) is Answer.FALLBACK
    admission.ended("CA1")
    assert answer(admission, "CA2") is Answer.CONNECT
    assert answer(admission, "CA3", now_ns=LIFE_NS - 1) is Answer.FALLBACK
    assert answer(admission, "CA3", now_ns=LIFE_NS) is Answer.CONNECT


def test_a_source_has_so_many_places_and_gets_them_back():
    admission = Admission(10, 2)
    assert answer(admission, "CA1", "mine") is Answer.CONNECT
    assert answer(admission, "CA2", "mine") is Answer.CONNECT
    assert decide(admission, "CA3", "mine").why is Why.SOURCE
    assert answer(admission, "CA4", "yours") is Answer.CONNECT
    admission.started("CA1", "mine")
    assert decide(admission, "CA3", "mine").why is Why.SOURCE
    admission.ended("CA1")
    assert answer(admission, "CA3", "mine") is Answer.CONNECT


def test_a_call_that_another_gateway_offered_counts_for_its_source():
    admission = Admission(10, 1)
    admission.started("CA1", "mine")
    assert decide(admission, "CA2", "mine").why is Why.SOURCE
    assert answer(admission, "CA3", "yours") is Answer.CONNECT
    admission.ended("CA1")
    assert answer(admission, "CA2", "mine") is Answer.CONNECT


def test_an_offer_that_was_used_at_another_gateway_holds_no_place_here():
    admission = Admission(1, 1)
    assert answer(admission, "CA1", "mine") is Answer.CONNECT
    admission.taken_elsewhere("CA1")
    admission.taken_elsewhere("CA1")
    assert answer(admission, "CA2", "mine") is Answer.CONNECT


def test_the_calls_of_the_whole_cell_count():
    assert decide(Admission(2, 2), "CA1", cell_calls=2).why is Why.FULL
    assert answer(Admission(2, 2), "CA1", cell_calls=1) is Answer.CONNECT


def test_a_call_that_comes_back_has_a_place_however_full_the_cell_is():
    admission = Admission(1, 1)
    admission.started("CA1", "mine")
    assert answer(admission, "CA2", "mine", resumed=True, late=True, cell_calls=9) is Answer.CONNECT
    assert decide(admission, "CA3", "yours").why is Why.FULL


def test_an_offer_is_waited_for_until_its_caller_must_have_hung_up():
    admission = Admission(5, 5)
    assert not admission.awaits_a_socket(0)
    admission.offered("CA1", 0)
    assert admission.awaits_a_socket(PROMPT_NS - 1)
    assert not admission.awaits_a_socket(PROMPT_NS)
    admission.started("CA1")
    assert not admission.awaits_a_socket(0)


def test_a_late_machine_takes_no_new_call():
    assert decide(Admission(5, 5), "CA1", late=True).why is Why.LATE


def test_not_ready_is_the_fallback():
    assert answer(Admission(1, 1), "CA1", ready=False) is Answer.FALLBACK


def test_a_call_that_we_ended_is_not_taken_again():
    admission = Admission(5, 5)
    admission.ending("CA1", Ending.GOODBYE)
    admission.ending("CA2", Ending.FALLBACK)
    assert answer(admission, "CA1", resumed=True) is Answer.HANG_UP
    assert answer(admission, "CA1", resumed=True, ready=False) is Answer.HANG_UP
    assert answer(admission, "CA2", resumed=True) is Answer.FALLBACK
    assert answer(admission, "CA3", resumed=True) is Answer.CONNECT


def test_a_call_resumes_a_few_times_and_then_gets_the_fallback():
    admission = Admission(5, 5)
    answers = [answer(admission, "CA1", resumed=True) for _ in range(RESUMES_MAX + 1)]
    assert answers == [Answer.CONNECT] * RESUMES_MAX + [Answer.FALLBACK]
    assert answer(admission, "CA2", resumed=True) is Answer.CONNECT


def test_memories_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_MAX", 2)
    admission = Admission(5, 5)
    for call_sid in ("CA1", "CA2", "CA3"):
        admission.ending(call_sid, Ending.GOODBYE)
    assert answer(admission, "CA1", resumed=True) is Answer.CONNECT
    assert answer(admission, "CA3", resumed=True) is Answer.HANG_UP
