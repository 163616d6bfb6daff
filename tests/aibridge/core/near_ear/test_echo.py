"""The echo guard: what it learns of a call, and what it forgets."""

from __future__ import annotations

import pytest

from aibridge.core.near_ear.echo import Echo, EchoGuard, Known
from aibridge.core.near_ear.levels import level

from .line import ai_speech, caller_speech, echo_of, mixed, quiet


def judged(guard: EchoGuard, caller: bytes, heard: bytes) -> list[Echo | None]:
    """The verdict of each frame; None for a quiet one."""
    verdicts: list[Echo | None] = []
    for at in range(0, min(len(caller), len(heard)) - 159, 160):
        frame, reference = caller[at : at + 160], heard[at : at + 160]
        is_loud = level(frame) > 100
        guard.heard(reference)
        if is_loud:
            verdicts.append(guard.judge(caller[max(0, at - 1_120) : at + 160], level(frame)))
        else:
            verdicts.append(None)
    return verdicts


@pytest.mark.parametrize("inverted", [False, True], ids=["upright", "inverted"])
@pytest.mark.parametrize(("delay_ms", "loss_db"), [(45, 12), (200, 6), (600, 20)])
def test_delay_and_loss_of_an_echo_are_learned(delay_ms: int, loss_db: float, inverted: bool) -> None:
    guard, ai = EchoGuard(), ai_speech(6_000)

    verdicts = judged(guard, echo_of(ai, delay_ms=delay_ms, loss_db=loss_db, inverted=inverted), ai)

    assert guard.known is Known.LEARNED
    assert abs(guard.lag - 8 * delay_ms) <= 8
    assert 10 ** (-loss_db / 20) / 2 < guard.gain < 10 ** (-loss_db / 20) * 2
    assert Echo.NO not in verdicts[60:]


def test_an_echo_whose_first_sound_is_not_its_strongest_is_echo_from_its_first_sound() -> None:
    guard, ai = EchoGuard(), ai_speech(12_000)
    early, strong = (bytes([0xFF]) * (8 * delay_ms) + ai for delay_ms in (50, 81))

    verdicts = judged(guard, mixed(early[: len(ai)], strong[: len(ai)], gains=(0.15, 0.25)), ai)

    assert guard.known is Known.LEARNED
    assert Echo.NO not in verdicts[60:]


def test_a_line_that_returns_nothing_has_no_echo() -> None:
    guard, ai = EchoGuard(), ai_speech(3_000)

    judged(guard, quiet(2_400) + caller_speech(600), ai)

    assert guard.known is Known.NONE


def test_a_caller_on_a_line_without_echo_is_never_kept_waiting() -> None:
    guard, ai = EchoGuard(), ai_speech(4_000)
    judged(guard, quiet(3_000), ai[: 3_000 * 8])

    verdicts = judged(guard, caller_speech(900), ai[3_000 * 8 :])

    assert set(verdicts) <= {Echo.NO, None}


def test_speech_as_loud_as_the_ais_is_no_echo_even_before_anything_is_learned() -> None:
    guard = EchoGuard()
    heard = mixed(ai_speech(900), gains=(0.3,))

    assert Echo.YES not in judged(guard, caller_speech(900), heard)


def test_an_echo_that_stops_coming_is_forgotten_and_a_new_one_is_learned() -> None:
    guard, ai = EchoGuard(), ai_speech(14_000)
    first, second, third = ai[: 3_000 * 8], ai[3_000 * 8 : 9_000 * 8], ai[9_000 * 8 :]

    judged(guard, echo_of(first, delay_ms=100, loss_db=12), first)
    assert guard.known is Known.LEARNED
    judged(guard, quiet(5_800) + caller_speech(200), second)
    assert guard.known is Known.NONE
    judged(guard, echo_of(third, delay_ms=300, loss_db=12), third)
    assert guard.known is Known.LEARNED
    assert abs(guard.lag - 2_400) <= 8


def test_an_echo_whose_delay_jumps_is_learned_anew() -> None:
    guard, ai = EchoGuard(), ai_speech(12_000)
    first, second = ai[: 4_000 * 8], ai[4_000 * 8 :]

    judged(guard, echo_of(first, delay_ms=100, loss_db=12), first)
    judged(guard, echo_of(second, delay_ms=260, loss_db=12), second)

    assert abs(guard.lag - 2_080) <= 8


def test_silence_at_the_ear_has_no_echo() -> None:
    guard = EchoGuard()

    assert set(judged(guard, caller_speech(900), b"\xff" * 7_200)) <= {Echo.NO, None}


def test_an_echo_that_something_louder_hides_is_not_forgotten() -> None:
    guard, ai = EchoGuard(), ai_speech(8_000)
    judged(guard, echo_of(ai, delay_ms=100, loss_db=12)[: 4_000 * 8], ai[: 4_000 * 8])
    for at in range(4_000 * 8, 8_000 * 8, 160):
        guard.heard(ai[at : at + 160])
        guard.may_be_there()
    judged(guard, caller_speech(200), ai[: 200 * 8])

    assert guard.known is Known.LEARNED


def test_a_loudspeaker_that_is_turned_up_returns_echo_after_a_moment() -> None:
    guard, ai = EchoGuard(), ai_speech(12_000)
    quiet_echo, loud_echo = (echo_of(ai, delay_ms=100, loss_db=loss_db) for loss_db in (24, 8))
    judged(guard, quiet_echo[: 5_000 * 8], ai[: 5_000 * 8])

    verdicts = judged(guard, loud_echo[5_000 * 8 :], ai[5_000 * 8 :])

    assert verdicts.count(Echo.NO) > 0
    assert Echo.NO not in verdicts[100:]


def test_a_caller_10_db_louder_than_a_known_echo_is_known_with_the_second_frame() -> None:
    guard, ai = EchoGuard(), ai_speech(6_000)
    echo = echo_of(ai, delay_ms=200, loss_db=18)
    judged(guard, echo[: 4_000 * 8], ai[: 4_000 * 8])

    over = mixed(caller_speech(400), echo[4_000 * 8 : 4_400 * 8])
    verdicts = judged(guard, over, ai[4_000 * 8 : 4_400 * 8])

    assert Echo.NO in verdicts[:2]
