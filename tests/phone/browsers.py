"""Chromium and Firefox, headless, with a recorded voice as their microphone."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PULSEAUDIO = shutil.which("pulseaudio")
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
PREFERENCES: dict[str, str | float | bool] = {"media.autoplay.default": 0, "media.navigator.permission.disabled": True}
# Firefox takes no file for its microphone.
MICROPHONE_JS = """
if (navigator.mediaDevices) navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  const file = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  const source = new AudioBufferSourceNode(context, { buffer: await context.decodeAudioData(file.buffer) });
  const microphone = context.createMediaStreamDestination();
  source.connect(microphone);
  source.start();
  return microphone.stream;
};
"""


class Opened:
    """A browser with an empty profile, whose pages hear `voice`."""

    def __init__(self, browser: Browser, init_script: str = "") -> None:
        self._browser = browser
        self._init_script = init_script

    def new_page(self, **options: Any) -> Page:
        page = self._browser.new_page(**options)
        if self._init_script:
            page.add_init_script(self._init_script)
        return page

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()


# Opens a browser whose microphone plays this file.
Launch = Callable[..., Opened]
Microphone = Callable[[Sequence[tuple[float, str]], float], Path]


def launch_chromium(playwright: Playwright, voice: Path | None = None) -> Opened:
    _need(CHROMIUM, "chromium")
    flags = [f"--use-file-for-fake-audio-capture={voice}%noloop"] if voice else []
    return Opened(playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=[*FLAGS, *flags]))


@contextmanager
def loudspeaker(directory: Path) -> Iterator[str]:
    """A sound server whose output nobody hears, and its address. Firefox plays nothing without an output."""
    _need(PULSEAUDIO, "pulseaudio")
    address = directory / "sound"
    options = ("-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-L", "module-null-sink", "-L")
    command = [str(PULSEAUDIO), *options, f"module-native-protocol-unix socket={address} auth-anonymous=1"]
    env = {**os.environ, "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not address.exists():
        assert time.monotonic() < deadline and server.poll() is None, "pulseaudio does not start"  # noqa: PT018
        time.sleep(0.05)
    yield f"unix:{address}"
    server.terminate()
    server.wait(10)


def launch_firefox(playwright: Playwright, directory: Path, loudspeaker: str, voice: Path | None = None) -> Opened:
    """Writes a program into `directory`."""
    _need(FIREFOX, "firefox-esr")
    program = directory / "firefox"
    relay = Path(__file__).with_name("firefox.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{relay}" "{FIREFOX}" "$@"\n')
    program.chmod(0o700)
    browser = playwright.firefox.launch(
        channel="moz-firefox",
        executable_path=program,
        headless=True,
        firefox_user_prefs=PREFERENCES,
        env={**os.environ, "PULSE_SERVER": loudspeaker},
    )
    return Opened(browser, MICROPHONE_JS % base64.b64encode(voice.read_bytes()).decode() if voice else "")


def _need(program: str | None, package: str) -> None:
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"{package} is not installed: apt-get install {package}")
        pytest.skip(f"{package} is not installed")
