"""The trials of `make bench-near-ear`, and their figures."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np

from aibridge.core.near_ear.detection import Detector, Detectors, Gate, Sensitivity
from aibridge.core.near_ear.near_ear import NearEar
from shared.audio import FRAME_BYTES, FRAME_NS

from . import near_ear_corpus as corpus
from .near_ear_corpus import RATE, Clip, Samples, encode
from .near_ear_removal import Removal
from .near_ear_run import between, over, run, seconds

# The AI speaks for so long before the caller does, and up to a second longer.
BEFORE_S: Final = 3.0
# A caller who is not noticed within this is missed: the model's own event comes long before.
MISSED_MS: Final = 1_000
# With the guard off, an echo is shown for this long: every answer is cut.
UNGUARDED_MINUTES: Final = 2.0


@dataclass(frozen=True)
class Onsets:
    """How long after a caller's first sound the near ear knew, ms, by clips; None: missed."""

    name: str
    delays_ms: list[float | None]
    # What it took for speech before the caller spoke.
    false: int
    noise: str = ""
    snr_db: int = 0

    @property
    def heard_ms(self) -> list[float]:
        return [MISSED_MS if delay is None else delay for delay in self.delays_ms]

    @property
    def missed(self) -> int:
        return self.delays_ms.count(None)


@dataclass(frozen=True)
class Noise:
    name: str
    snr_db: int
    minutes: float
    pauses_ms: list[float]


@dataclass(frozen=True)
class EchoAlone:
    delay_ms: int
    loss_db: int
    minutes: float
    # What the AI's own voice interrupted; without the guard, in UNGUARDED_MINUTES.
    interruptions: int
    unguarded: int
    # Bursts of echo that were known for it.
    ignored: int


@dataclass(frozen=True)
class DoubleTalk:
    delay_ms: int
    loss_db: int
    onsets: Onsets
    # By clips: how much later than on a line without echo, ms.
    later_ms: list[float]


@dataclass(frozen=True)
class Cost:
    name: str
    # CPU for each second of a call, and judgements of the detector in it.
    ms: float
    asked: float


@dataclass
class Figures:
    onsets: list[Onsets] = field(default_factory=list)
    noises: list[Noise] = field(default_factory=list)
    echoes: list[EchoAlone] = field(default_factory=list)
    double_talk: list[DoubleTalk] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)


class Trials:
    def __init__(self, detectors: Detectors, sensitivity: Sensitivity, *, clips: int, seed: int) -> None:
        self._detectors = detectors
        self._sensitivity = sensitivity
        self._seed = seed
        self.clips: list[Clip] = corpus.callers()
        if clips:
            self.clips = random.Random(seed).sample(self.clips, min(clips, len(self.clips)))
        self._ai = corpus.ai_speech()

    def onsets(
        self, name: str, *, noise: str = "", snr_db: int = 0, every: int = 1, echo: Samples | None = None
    ) -> Onsets:
        """Clips over the AI, each at an instant of its own. The same seed gives the same instants."""
        rng = np.random.default_rng(self._seed)
        made = corpus.NOISES[noise](seconds(60), np.random.default_rng(self._seed + 1)) if noise else np.zeros(0)
        delays_ms: list[float | None] = []
        false = 0
        for number, clip in enumerate(self.clips[::every]):
            at = seconds(BEFORE_S + rng.uniform())
            ai = np.roll(self._ai, -int(rng.integers(self._ai.size)))
            caller = over(clip.samples[: seconds(2)], at + seconds(1.5), at)
            if noise:
                caller = caller + np.roll(made, -number * RATE)[: caller.size] * 10 ** (-snr_db / 20)
            heard = run(caller, ai, self._detectors, sensitivity=self._sensitivity, echo=echo, seed=number)
            onset_ms = at / 8
            after = [began - onset_ms for began in heard.began_ms if began >= onset_ms]
            false += len(heard.began_ms) - len(after)
            delays_ms.append(after[0] if after and after[0] <= MISSED_MS else None)
        return Onsets(name, delays_ms, false, noise, snr_db)

    def noise(self, name: str, snr_db: int, *, minutes: float) -> Noise:
        """Nothing but noise, so many dB below the level of a caller, while the AI speaks."""
        made = corpus.NOISES[name](seconds(60 * minutes), np.random.default_rng(self._seed))
        heard = run(made * 10 ** (-snr_db / 20), self._ai, self._detectors, sensitivity=self._sensitivity)
        return Noise(name, snr_db, minutes, heard.paused_ms)

    def path(self, delay_ms: int, loss_db: int) -> Samples:
        """How a speakerphone returns what its caller hears. The same seed gives the same."""
        return corpus.echo_path(delay_ms, loss_db, np.random.default_rng((self._seed, delay_ms)))

    def echo(self, delay_ms: int, loss_db: int, *, minutes: float) -> EchoAlone:
        """Nothing but the AI's own voice, as a speakerphone returns it."""
        path = self.path(delay_ms, loss_db)
        quiet = np.zeros(seconds(60 * minutes))
        heard = run(quiet, self._ai, self._detectors, sensitivity=self._sensitivity, echo=path)
        deaf = replace(self._sensitivity, guards_echo=False)
        short = quiet[: seconds(60 * UNGUARDED_MINUTES)]
        unguarded = run(short, self._ai, self._detectors, sensitivity=deaf, echo=path)
        interruptions = len(heard.began_ms)
        return EchoAlone(delay_ms, loss_db, minutes, interruptions, len(unguarded.began_ms), heard.echoes)

    @cached_property
    def _without_echo(self) -> Onsets:
        return self.onsets("quiet line")

    def double_talk(self, delay_ms: int, loss_db: int) -> DoubleTalk:
        """Every clip over the AI and its echo."""
        onsets = self.onsets(f"{delay_ms} ms, -{loss_db} dB", echo=self.path(delay_ms, loss_db))
        pairs = zip(onsets.heard_ms, self._without_echo.heard_ms, strict=True)
        return DoubleTalk(delay_ms, loss_db, onsets, [mine - without for mine, without in pairs])

    def costs(self) -> list[Cost]:
        """What a second of a call costs whose AI speaks all the time."""
        n, rng = seconds(60), np.random.default_rng(self._seed)
        ai = np.resize(self._ai, n)
        echo = np.convolve(ai, self.path(200, 12))[:n]
        lines = {
            "AI silent": (np.zeros(n), False),
            "quiet line": (np.zeros(n), True),
            "white noise, 15 dB": (corpus.white(n, rng) * 10 ** (-15 / 20), True),
            "babble, 15 dB": (corpus.babble(n, rng) * 10 ** (-15 / 20), True),
            "music, 15 dB": (corpus.music(n, rng) * 10 ** (-15 / 20), True),
            "echo of -12 dB, 200 ms": (echo, True),
            "caller speaks all the time": (np.resize(np.concatenate([clip.samples for clip in self.clips]), n), True),
        }
        line = rng.standard_normal(n) * 10 ** (-62 / 20)
        return [self._cost(name, sound + line, ai, is_audible=audible) for name, (sound, audible) in lines.items()]

    def _cost(self, name: str, sound: Samples, ai: Samples, *, is_audible: bool) -> Cost:
        counted = _Counted(self._detectors)
        codes = memoryview(encode(ai))
        heard: Callable[[int, int], bytes] = lambda from_ns, n: between(codes, from_ns // 125_000, n)  # noqa: E731
        near_ear = NearEar(Detectors(counted.gate, counted), self._sensitivity, heard)
        audio = encode(sound)
        frames = [audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES)]
        since = time.process_time()
        for number, frame in enumerate(frames, 1):
            near_ear.hear(frame, number * FRAME_NS, is_ai_audible=is_audible)
        used = time.process_time() - since
        return Cost(name, used * 1_000 / (len(frames) / 50), counted.asked / (len(frames) / 50))


class _Counted:
    """A detector that counts what it is asked."""

    def __init__(self, detectors: Detectors) -> None:
        self.gate: Callable[[], Gate] = detectors.gate
        self._detector: Detector = detectors.detector
        self.asked = 0

    def speech(self, pcm: bytes) -> float:
        self.asked += 1
        return self._detector.speech(pcm)
