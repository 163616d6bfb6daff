"""Interruptions and lost models through real processes; short versions of `python -m proofs.matrix_live`."""

from __future__ import annotations

import pytest

from proofs.matrix_live import interruptions, losses

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]


def test_an_ai_that_is_interrupted_at_random_moments_falls_silent_in_time_and_answers() -> None:
    assert interruptions(3) == []


def test_calls_that_lose_their_model_in_mid_sentence_continue_with_their_memory() -> None:
    assert losses(3) == []
