"""The caller's script, in virtual time."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Sequence

import pytest

from shared.audio import FRAME_BYTES, FRAME_MS, FRAME_NS, MULAW_TO_LINEAR, SILENCE
from simulator.carrier.caller import (
    PATIENCE_MS,
    AfterAnswer,
    AiHeard,
    AiSilent,
    Caller,
    HangUp,
    Press,
    Say,
    Step,
    Wait,
    line_audio,
)

CLIP = bytes(range(256)) * 2  # 3.2 frames


def run(caller: Caller, ms: int, ai: Callable[[int], bool] = lambda ms: False) -> bytes:
    """The caller's audio for `ms`; `ai` tells when the AI is audible."""
    ticks = [caller.tick(at * 1_000_000, ai_audible=ai(at)) for at in range(0, ms, FRAME_MS)]
    return b"".join(b64decode(tick.payload) for tick in ticks)


def began_ms(script: Sequence[Step], ai: Callable[[int], bool] = lambda ms: False, ms: int = 20_000) -> list[int]:
    """When each clip of a script began."""
    caller = Caller(script)
    run(caller, ms, ai)
    return [said.at_ns // 1_000_000 for said in caller.said]


def say(when: AfterAnswer | Wait | AiHeard | AiSilent) -> Say:
    return Say("clip", when, CLIP)


def test_a_clip_goes_out_whole_on_frame_boundaries_with_silence_around_it() -> None:
    line = run(Caller([say(AfterAnswer(100))]), 300)
    start = 5 * FRAME_BYTES
    assert line[:start] == SILENCE * start
    assert line[start : start + len(CLIP)] == CLIP
    assert line[start + len(CLIP) :].strip(SILENCE) == b""
    assert len(line) == 15 * FRAME_BYTES


def test_a_named_clip_comes_from_the_callers_clips() -> None:
    caller = Caller([Say("hello", AfterAnswer(0))], clips={"hello": CLIP}.__getitem__)
    assert run(caller, 100).startswith(CLIP)
    assert caller.said[0].name == "hello"


def test_a_step_waits_for_the_end_of_the_step_before() -> None:
    assert began_ms([say(AfterAnswer(100)), say(Wait(50)), say(AfterAnswer(0))]) == [100, 240, 320]


def test_an_interruption_waits_until_the_talkspurt_has_been_heard_long_enough() -> None:
    assert began_ms([say(AiHeard(500))], lambda ms: 1000 <= ms < 5000) == [1500]


def test_short_breaks_do_not_end_a_talkspurt_and_do_not_count_as_heard() -> None:
    assert began_ms([say(AiHeard(500))], lambda ms: 1000 <= ms < 1300 or 1500 <= ms < 5000) == [1700]


def test_a_talkspurt_that_ends_too_early_triggers_at_its_end() -> None:
    assert began_ms([say(AiHeard(3000))], lambda ms: 1000 <= ms < 2000) == [2300]


def test_the_second_talkspurt_can_be_meant_by_number_or_as_the_next_one() -> None:
    def ai(ms: int) -> bool:
        return 1000 <= ms < 2000 or 4000 <= ms < 6000

    assert began_ms([say(AiHeard(200, talkspurt=2))], ai) == [4200]
    assert began_ms([say(AiHeard(200)), say(AiHeard(200))], ai) == [1200, 4200]


def test_a_caller_stops_waiting_for_an_answer_that_followed_without_a_break() -> None:
    first, second = began_ms([say(AfterAnswer(400)), say(AiHeard(1_000))], lambda ms: 200 <= ms < 2_000)
    assert (first, second) == (400, 2_000 + PATIENCE_MS)


def test_a_random_instant_lies_in_its_range_and_depends_only_on_the_seed() -> None:
    def at(seed: int) -> int:
        caller = Caller([say(AiHeard(100, upto_ms=4000))], seed=seed)
        run(caller, 6000, lambda ms: True)
        return caller.said[0].at_ns

    drawn = [at(seed) for seed in range(30)]
    assert drawn == [at(seed) for seed in range(30)]
    assert len(set(drawn)) > 20
    assert all(100 <= at_ns // 1_000_000 <= 4020 for at_ns in drawn)


def test_a_polite_caller_waits_until_the_ai_has_been_silent() -> None:
    assert began_ms([say(AiSilent(700))], lambda ms: 1000 <= ms < 2000) == [2680]


def test_a_polite_caller_waits_for_an_answer_before_the_next_turn() -> None:
    def ai(ms: int) -> bool:
        return ms < 1000 or 4000 <= ms < 5000

    assert began_ms([say(AiSilent(500)), say(AiSilent(500))], ai) == [1480, 5480]


def test_a_key_and_the_end_are_reported_in_the_tick_of_their_step() -> None:
    caller = Caller([Press("5", AfterAnswer(40)), HangUp(Wait(100))])
    ticks = [caller.tick(n * FRAME_NS, ai_audible=False) for n in range(8)]
    assert [tick.digit for tick in ticks] == ["", "", "5", "", "", "", "", ""]
    assert [tick.hang_up for tick in ticks] == [False] * 7 + [True]
    assert caller.is_done


@pytest.mark.parametrize("seed", [0, 1])
def test_line_noise_is_faint_and_seeded(seed: int) -> None:
    line = run(Caller([], noise=True, seed=seed), 2000)
    assert line == run(Caller([], noise=True, seed=seed), 2000)
    assert line.strip(SILENCE)
    assert max(abs(MULAW_TO_LINEAR[code]) for code in line) <= 16


def test_no_two_frames_of_a_noisy_line_are_alike() -> None:
    line = run(Caller([], noise=True), 2000)
    assert len({line[at : at + FRAME_BYTES] for at in range(0, len(line), FRAME_BYTES)}) == 100


@pytest.mark.parametrize("noise", [True, False])
def test_the_audio_that_a_caller_sent_can_be_rebuilt_from_its_seed_and_its_words(noise: bool) -> None:
    caller = Caller([say(AfterAnswer(ms=200)), say(Wait(ms=300))], noise=noise)
    line = run(caller, 3_000)
    assert line_audio(caller.noise_seed, caller.said, 150) == line
    assert [each.frame for each in caller.said] == [each.at_ns // FRAME_NS for each in caller.said]
