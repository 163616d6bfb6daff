from __future__ import annotations

import math

import pytest

from gateway.core.pulse import Pulse

MS = 1_000_000


def test_the_rate_is_fifty_frames_a_second_for_any_number_of_speaking_calls() -> None:
    pulse = Pulse()
    for _ in range(3 * 50):
        pulse.gap(20 * MS, 1)
    assert pulse.second() == (0.02, 50.0)


def test_a_stall_shows_in_the_rate_and_stays_the_largest_gap_for_a_minute() -> None:
    pulse = Pulse()
    for _ in range(30):
        pulse.gap(20 * MS, 1)
    pulse.gap(400 * MS, 1)
    largest, rate = pulse.second()
    assert largest == 0.4
    assert rate == pytest.approx(31)
    for _ in range(59):
        pulse.gap(20 * MS, 1)
        largest, _ = pulse.second()
        assert largest == 0.4
    assert pulse.second()[0] == 0.02


def test_the_rate_is_nan_while_nobody_speaks() -> None:
    pulse = Pulse()
    assert math.isnan(pulse.second()[1])
