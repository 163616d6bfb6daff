from __future__ import annotations

from gateway.core import admission as module
from gateway.core.admission import RESUMES_MAX, Admission, Answer, Ending
from gateway.core.tokens import LIFE_NS


def answer(
    admission: Admission, call_sid: str, *, resumed: bool = False, ready: bool = True, now_ns: int = 0
) -> Answer:
    given = admission.answer(call_sid, resumed=resumed, ready=ready, now_ns=now_ns).answer
    if given is Answer.CONNECT:
        admission.offered(call_sid, now_ns)
    return given


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
