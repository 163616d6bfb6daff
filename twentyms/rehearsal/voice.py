"""What the caller of a scenario says, as mu-law: words spoken by flite, a file, or a recording of the simulator."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from shared.audio import linear_to_mulaw
from shared.process import ConfigError
from simulator.speak import levelled, synthesised, telephone, trimmed
from simulator.voice import clip

from ..caller import any_recording
from .scenario import Scenario, Step

# The voice of the caller: not that of the simulated model, so that a recording can be told apart by ear.
VOICE: Final = "rms"


class Voices:
    """The audio of all steps. Words are spoken once, however often they are said."""

    def __init__(self, scenarios: Iterable[Scenario]) -> None:
        """Raises ConfigError for a step that cannot be spoken."""
        steps = [(scenario, step) for scenario in scenarios for step in scenario.step]
        words = sorted({step.say for _, step in steps if step.say})
        if words and shutil.which("flite") is None:
            raise ConfigError(
                "flite is not installed, and it speaks the words of `say`; install it (Debian: apt-get install flite), "
                "or use `wav` with recordings"
            )
        with ThreadPoolExecutor() as pool:
            self._spoken = dict(zip(words, pool.map(_speak, words), strict=True))
        self._files: dict[tuple[str, str], bytes] = {}
        for scenario, step in steps:
            if step.wav or step.clip:
                self._files[scenario.directory, step.wav or step.clip] = _recorded(scenario, step)

    def of(self, scenario: Scenario, step: Step) -> bytes:
        return self._spoken[step.say] if step.say else self._files[scenario.directory, step.wav or step.clip]


def _speak(words: str) -> bytes:
    return bytes(map(linear_to_mulaw, trimmed(levelled(telephone(*synthesised(words, VOICE))))))


def _recorded(scenario: Scenario, step: Step) -> bytes:
    if step.clip:
        try:
            return clip(step.clip).audio
        except KeyError:
            raise ConfigError(f"{scenario.name}: the simulator has no recording called {step.clip}") from None
    path = Path(scenario.directory) / step.wav
    try:
        return any_recording(path)
    except OSError as exc:
        raise ConfigError(f"{scenario.name}: {path} cannot be read ({exc.strerror})") from None
    except (ValueError, wave.Error, EOFError) as exc:
        raise ConfigError(f"{scenario.name}: {path} cannot be spoken: {exc}") from None
