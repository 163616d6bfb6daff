"""A real Chromium, headless, with a recorded voice as its microphone."""

from __future__ import annotations

import itertools
import os
import shutil
import wave
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from shared.audio import MULAW_TO_LINEAR
from simulator.voice import clip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Chromium's fake microphone reads this rate without resampling.
RATE = 48_000


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Browser]]:
    """Starts a browser with an empty profile, FLAGS and these flags."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed: apt-get install chromium")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=[*FLAGS, *flags])


@pytest.fixture
def microphone(tmp_path: Path) -> Callable[[Sequence[tuple[float, str]], float], str]:
    """Writes a WAV file with each recording at its second, and returns the flag that makes it the microphone."""
    return lambda script, seconds: _write(tmp_path / "voice.wav", script, seconds)


def _write(path: Path, script: Sequence[tuple[float, str]], seconds: float) -> str:
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
    return f"--use-file-for-fake-audio-capture={path}%noloop"
