"""What stands out of a line's noise."""

from __future__ import annotations

import random

from aibridge.core.near_ear.levels import NoiseFloor


def babble(frames: int, mean: float, seed: int = 1) -> list[float]:
    """Levels of many voices at once: steady in the mean, with frames up to 10 dB louder."""
    rng = random.Random(seed)
    swell, levels = 0.0, []
    for _ in range(frames):
        swell = 0.7 * swell + 0.7 * rng.gauss(0, 3.0)
        levels.append(mean * 10 ** (swell / 20))
    return levels


def test_steady_noise_that_begins_with_the_call_is_known_after_a_few_frames() -> None:
    floor = NoiseFloor()
    exceeding = [floor.is_exceeded(level, is_ai_audible=False) for level in babble(200, 400.0)]

    assert not any(exceeding[10:])


def test_hardly_a_frame_of_many_voices_stands_out_and_a_voice_12_db_above_them_does() -> None:
    floor = NoiseFloor()
    for level in babble(500, 400.0):
        floor.is_exceeded(level, is_ai_audible=False)

    assert sum(floor.is_exceeded(level, is_ai_audible=False) for level in babble(3_000, 400.0, seed=2)) < 30
    assert floor.is_exceeded(1_600.0, is_ai_audible=True)


def test_a_voice_on_a_quiet_line_does_not_raise_what_the_next_one_must_exceed() -> None:
    floor = NoiseFloor()
    for level in [20.0] * 100 + [1_500.0] * 100 + [20.0] * 30:
        floor.is_exceeded(level, is_ai_audible=False)

    assert floor.is_exceeded(200.0, is_ai_audible=True)


def test_a_caller_who_speaks_from_the_first_frame_on_is_heard_after_their_first_pause() -> None:
    floor = NoiseFloor()
    for level in [1_500.0] * 60 + [20.0] * 20:
        floor.is_exceeded(level, is_ai_audible=False)

    assert floor.is_exceeded(500.0, is_ai_audible=True)
