"""The carrier's receiver of tones: it takes what ITU-T Q.24 has it take, and nothing else."""

from __future__ import annotations

import math
import random
from typing import get_args

import pytest

from shared.audio import BYTES_PER_MS, SILENCE, linear_to_mulaw
from simulator.carrier.dtmf import HIGH_HZ, KEYS, LOW_HZ, decode, tones
from simulator.voice import Role, clips


def tone(
    key: str = "5",
    ms: int = 60,
    *,
    low_dbm0: float = -10,
    high_dbm0: float = -10,
    off: float = 0.0,
    noise: int = 0,
    from_byte: int = 0,
) -> bytes:
    row = next(at for at, keys in enumerate(KEYS) if key in keys)
    rng = random.Random(1)
    pair = ((LOW_HZ[row], low_dbm0), (HIGH_HZ[KEYS[row].index(key)], high_dbm0))
    samples = []
    for at in range(ms * BYTES_PER_MS):
        value = sum(
            32_636 * 10 ** ((level - 3.17) / 20) * math.sin(math.tau * hz * (1 + off) * (at + 7) / 8_000)
            for hz, level in pair
        )
        samples.append(linear_to_mulaw(round(value) + (rng.randint(-noise, noise) if noise else 0)))
    return SILENCE * from_byte + bytes(samples)


def quiet(ms: int) -> bytes:
    return SILENCE * (ms * BYTES_PER_MS)


@pytest.mark.parametrize("key", "".join(KEYS))
def test_every_key_is_received_wherever_it_begins(key: str) -> None:
    for from_byte in range(0, 102, 17):
        assert decode(tone(key, from_byte=from_byte) + quiet(60)) == key


@pytest.mark.parametrize("off", [-0.015, 0.015])
def test_frequencies_may_be_off_by_one_and_a_half_per_cent(off: float) -> None:
    assert all(decode(tone(key, 80, off=off) + quiet(60)) == key for key in "15*D")


@pytest.mark.parametrize("off", [-0.035, 0.035])
def test_frequencies_may_not_be_off_by_three_and_a_half_per_cent(off: float) -> None:
    assert all(decode(tone(key, 80, off=off) + quiet(60)) == "" for key in "15*D")


@pytest.mark.parametrize(
    ("low_dbm0", "high_dbm0", "is_received"),
    [
        (-3, -3, True),
        (-24, -24, True),
        (-28, -28, False),
        (-12, -9, True),
        (-9, -16, True),
        (-14, -8, False),
        (-8, -18, False),
    ],
)
def test_levels_and_twist_have_bounds(low_dbm0: float, high_dbm0: float, is_received: bool) -> None:
    audio = tone("8", low_dbm0=low_dbm0, high_dbm0=high_dbm0) + quiet(60)
    assert decode(audio) == ("8" if is_received else "")


def test_a_key_lasts_forty_milliseconds_at_least() -> None:
    for from_byte in range(0, 102, 17):
        assert decode(tone("1", 52, from_byte=from_byte) + quiet(60)) == "1"
        assert decode(tone("1", 23, from_byte=from_byte) + quiet(60)) == ""


def test_two_equal_keys_are_two_and_a_short_break_does_not_make_two_of_one() -> None:
    assert decode(tone("1", 60) + quiet(40) + tone("1", 60) + quiet(60)) == "11"
    assert decode(tone("1", 60) + quiet(10) + tone("1", 60) + quiet(60)) == "1"


def test_noise_and_speech_are_no_keys() -> None:
    assert decode(tone("7", 80, noise=1_000) + quiet(60)) == "7"
    rng = random.Random(2)
    assert decode(bytes(rng.randrange(256) for _ in range(80_000))) == ""
    assert {decode(each.audio) for role in get_args(Role) for each in clips(role)[:3]} == {""}


def test_a_tone_is_measured() -> None:
    (found,) = tones(quiet(100) + tone("9", 100, low_dbm0=-11, high_dbm0=-9, off=0.01) + quiet(60))
    assert found.began_ms == pytest.approx(100, abs=13)
    assert found.ended_ms == pytest.approx(200, abs=13)
    assert (found.low_dbm0, found.high_dbm0) == pytest.approx((-11, -9), abs=1)
    assert (found.low_off, found.high_off) == pytest.approx((0.01, 0.01), abs=0.001)
