"""Interruptions and lost models through real processes; short versions of `python -m proofs.matrix_live`."""

from __future__ import annotations

import pytest

from proofs.matrix_live import interruptions, losses

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]


def test_interruptions_at_random_moments_are_answered_and_leave_nothing() -> None:
    assert interruptions(3) == []


def test_calls_that_lose_their_model_in_mid_sentence_go_on_with_their_memory() -> None:
    assert losses(3) == []
