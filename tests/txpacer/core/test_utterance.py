"""From deltas of any size to frames: no byte is lost, changed or moved."""

from __future__ import annotations

import random

from shared.audio import FRAME_BYTES, SILENCE
from txpacer.core.reports import Shifted, Starved

from ..virtual_lines import MS, T0
from .cells import speech
from .lines import make, run, tick


def test_the_bytes_that_leave_are_the_bytes_that_came_whatever_the_size_of_the_deltas() -> None:
    rng = random.Random(7)
    audio = speech(5_003)
    line = make()
    at = 0
    while at < len(audio):
        size = rng.choice([1, 7, 159, 160, 161, 800, 4000])
        line.push(1, audio[at : at + size])
        at += size
    line.end(1)
    out = b"".join(piece for _, _, piece, _ in run(line, T0 + 10_000 * MS))
    assert out == audio + SILENCE * (-len(audio) % FRAME_BYTES)


def test_only_the_end_of_an_utterance_is_padded_and_carries_its_mark() -> None:
    line = make()
    line.push(1, b"\x01" * 250)
    assert tick(line, T0) == [(0, b"\x01" * 160, 0)]
    line.end(1)
    assert tick(line, T0 + 20 * MS) == [(1, b"\x01" * 90 + SILENCE * 70, 1)]


def test_an_end_that_comes_after_the_last_frame_still_sends_the_mark() -> None:
    line = make()
    line.push(1, speech(20))
    tick(line, T0)
    line.end(1)
    assert tick(line, T0 + 5 * MS) == [(1, b"", 1)]


def test_two_items_of_a_response_follow_each_other_without_a_seam() -> None:
    line = make()
    line.push(1, speech(300, 1))
    line.push(2, speech(300, 2))
    line.end(2)
    out = run(line, T0 + 2_000 * MS)
    assert b"".join(audio for _, _, audio, _ in out) == speech(300, 1) + speech(300, 2)
    assert [mark for _, _, _, mark in out if mark] == [1, 2]
    assert not any(isinstance(r, Shifted | Starved) for r in line.reports)


def test_a_reservoir_takes_ten_minutes_of_speech_and_says_what_it_refused() -> None:
    line = make()
    assert line.push(1, b"x" * 4_800_000) == 0
    assert line.push(1, b"x" * 100) == 100
