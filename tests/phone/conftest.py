"""Fixtures: real browsers, and recordings for their microphones."""

from __future__ import annotations

import itertools
import wave
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Playwright, sync_playwright

from shared.audio import MULAW_TO_LINEAR
from simulator.voice import clip
from tests.phone.browsers import Launch, Microphone, launch_chromium, launch_firefox, loudspeaker

# Chromium's fake microphone reads this rate without resampling.
RATE = 48_000


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture
def launch(playwright: Playwright) -> Launch:
    """For what one browser shows as well as another."""
    return lambda voice=None: launch_chromium(playwright, voice)


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loudspeaker(tmp_path_factory.mktemp("sound")) as address:
        yield address


@pytest.fixture(params=["chromium", "firefox"])
def launch_each(request: pytest.FixtureRequest, playwright: Playwright, tmp_path: Path) -> Launch:
    if request.param == "chromium":
        return lambda voice=None: launch_chromium(playwright, voice)
    speaker: str = request.getfixturevalue("speaker")
    return lambda voice=None: launch_firefox(playwright, tmp_path, speaker, voice)


@pytest.fixture
def microphone(tmp_path: Path) -> Microphone:
    """Writes a WAV file with each recording at its second."""
    return lambda script, seconds: _write(tmp_path / "voice.wav", script, seconds)


def _write(path: Path, script: Sequence[tuple[float, str]], seconds: float) -> Path:
    line = array("h", bytes(2 * int(seconds * 8_000)))
    for at, name in script:
        for n, code in enumerate(clip(name).audio, int(at * 8_000)):
            line[n] = MULAW_TO_LINEAR[code]
    up = array("h")
    for before, after in itertools.pairwise(line):
        up.extend(before + (after - before) * step // 6 for step in range(6))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(up.tobytes())
    return path
