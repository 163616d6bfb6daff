"""Tones in virtual calls; `python -m proofs.tones` carries a thousand sequences."""

from __future__ import annotations

from proofs.tones import Sent, carry


def test_every_sequence_of_a_call_is_received_whole_whoever_speaks() -> None:
    found = carry(1, 6)
    assert not found.problem
    assert len(found.called) >= 4
    assert found.received


def test_a_sequence_that_is_lost_or_told_wrongly_is_a_problem() -> None:
    assert Sent(("12", "3"), ("12", "3"), "12").problem
    assert Sent(("12",), ("1",), "12").problem
    assert not Sent(("12", "3"), ("12", "3"), "123").problem
