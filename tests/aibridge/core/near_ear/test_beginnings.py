"""Words that begin softly, or with much breath: known before the detector is sure of them."""

from __future__ import annotations

from collections.abc import Iterator

from aibridge.core.near_ear.events import NearEarEvent, SpeechBegan

from .line import ByLevel, Line, caller_speech, mixed, quiet

# Frames of a voice: in the test's clip they are all above the noise of the line.
VOICE = caller_speech(400)


def heard(line: Line, *frames: tuple[float, bytes]) -> list[tuple[int, NearEarEvent]]:
    """What the near ear reports of frames with these gains, 500 ms after the line began."""
    line.hear(quiet(500))
    return [event for gain, frame in frames for event in line.hear(mixed(frame, gains=(gain,)))]


def frame(number: int = 2) -> bytes:
    return VOICE[160 * number : 160 * (number + 1)]


def doubtful_once() -> Iterator[float]:
    yield 0.55
    while True:
        yield 0.05


def test_a_voice_that_swells_after_one_doubtful_frame_is_speech_after_three_more() -> None:
    likelihoods = doubtful_once()
    line = Line(detector=ByLevel(lambda level: next(likelihoods)))

    events = heard(line, *((0.2 + 0.02 * n, frame()) for n in range(6)))

    assert [(type(event), at_ms) for at_ms, event in events] == [(SpeechBegan, 580)]


def test_a_noise_that_fades_after_one_doubtful_frame_is_none() -> None:
    likelihoods = doubtful_once()
    line = Line(detector=ByLevel(lambda level: next(likelihoods)))

    assert heard(line, *((0.4 * 0.8**n, frame()) for n in range(8))) == []


def test_a_pause_between_a_doubtful_frame_and_a_louder_one_is_no_swelling() -> None:
    likelihoods = doubtful_once()
    line = Line(detector=ByLevel(lambda level: next(likelihoods)))

    assert heard(line, (0.2, frame()), (0.0, frame()), *((0.3, frame()) for _ in range(6))) == []


def test_a_sound_as_loud_as_somebody_close_is_speech_after_four_frames_though_the_detector_denies_it() -> None:
    line = Line(detector=ByLevel(lambda level: 0.0))

    events = heard(line, *((3.0, frame()) for _ in range(8)))

    assert [at_ms for at_ms, event in events if isinstance(event, SpeechBegan)] == [580]


def test_a_sound_that_becomes_loud_later_is_left_to_the_detector() -> None:
    line = Line(detector=ByLevel(lambda level: 0.0))

    assert heard(line, *((0.3, frame()) for _ in range(13)), *((3.0, frame()) for _ in range(8))) == []
