"""How far the frames had come when a line or a media socket was lost."""

from __future__ import annotations

import pytest

from aibridge.core.line_lost import given, heard_until
from aibridge.core.utterances import Utterance
from shared.audio import BYTE_NS, FRAME_BYTES
from shared.messages import LineLost

S = 1_000_000_000


def lost(*marks: tuple[int, int], frames: int = 0) -> LineLost:
    return LineLost(1, 2, marks, frames, 0, 0)


def test_frames_since_the_last_mark_belong_to_the_first_utterance_with_speech() -> None:
    silent, spoken, later = Utterance(1, 1), Utterance(2, 1, 8_000, 8_000), Utterance(3, 1, 800, 800)
    paced, finished = given([silent, spoken, later], lost(frames=10))
    assert paced == {1: 0, 2: 1_600, 3: 0}
    assert finished == set()


def test_an_utterance_with_its_mark_was_given_to_its_end() -> None:
    first, second = Utterance(1, 1, 1_650, 1_650), Utterance(2, 1, 8_000, 8_000)
    paced, finished = given([first, second], lost((1, 11), frames=3))
    assert paced == {1: 1_650, 2: 480}  # the last of the 11 frames was not full
    assert finished == {1}


def test_what_an_earlier_socket_played_counts_for_the_utterance_in_its_midst() -> None:
    utterance = Utterance(1, 1, 8_000, 8_000)
    assert given([utterance], lost(frames=5), base=(1, 4_000))[0] == {1: 4_800}


@pytest.mark.parametrize(("ms", "n_bytes"), [(0, 0), (29, 0), (35, 160), (510, 4_000)])
def test_the_ear_stops_at_a_whole_frame(ms: int, n_bytes: int) -> None:
    utterance = Utterance(1, 1, 8_000, 8_000, began_ns=10 * S)
    heard, finished = heard_until([utterance], 10 * S + ms * 1_000_000)
    assert heard == {1: n_bytes}
    assert finished == set()


@pytest.mark.parametrize("late_ms", [0, 0.25, 2, 10])
def test_an_ear_that_lags_behind_its_clock_loses_nothing(late_ms: float) -> None:
    """A frame takes some ms to the ear, and the caller's audio some ms back: together `late_ms`."""
    utterance = Utterance(1, 1, 8_000, 8_000, began_ns=10 * S)
    for n_bytes in range(2_400, 2_800):
        heard, _ = heard_until([utterance], 10 * S + n_bytes * BYTE_NS + int(late_ms * 1_000_000))
        assert heard[1] <= n_bytes < heard[1] + 2 * FRAME_BYTES


@pytest.mark.parametrize("ended", [True, False])
def test_an_utterance_is_heard_to_its_end_when_no_more_comes(ended: bool) -> None:
    utterance = Utterance(1, 1, 8_050, 8_050, ended, began_ns=10 * S)
    heard, finished = heard_until([utterance], 20 * S)
    assert heard == {1: 8_050}
    assert finished == ({1} if ended else set())
