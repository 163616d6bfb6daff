"""The sounds of `make bench-near-ear`: speech, noise and echo paths, as 8 kHz samples of -1 to 1.

Speech is recorded (Debian's asterisk-core-sounds-en-wav) and synthesised (espeak-ng, flite). Noise is made here, except
music on hold (asterisk-moh-opsound-wav). Everything random comes from a seed.
"""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from shutil import which
from tempfile import NamedTemporaryFile
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.audio import MULAW_TO_LINEAR

Samples = npt.NDArray[np.float64]

RATE: Final = 8_000
RECORDED: Final = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
MUSIC: Final = Path("/usr/share/asterisk/moh")
NEEDED: Final = "apt-get install asterisk-core-sounds-en-wav asterisk-moh-opsound-wav espeak-ng flite"
# Speech, by its loudest parts; a phone line carries it at -30 to -15 dBFS.
SPEECH_DBFS: Final = -20.0
# A clip begins where 10 ms first are at most this much below its loudest 10 ms: its first audible sound.
ONSET_DB: Final = 30.0

# What the AI says: long recordings.
AI_CLIPS: Final = ("demo-instruct", "priv-callee-options", "demo-congrats", "conf-adminmenu-18", "demo-moreinfo")
# What recorded callers say.
_CALLER_CLIPS: Final = (
    *("hello", "im-sorry", "one-moment-please", "goodbye", "please-try-again", "number", "cancelled", "invalid"),
    *("vm-nobodyavail", "demo-abouttotry", "conf-getpin", "call-waiting", "all-circuits-busy-now", "queue-thankyou"),
    *("privacy-thankyou", "pls-hold-while-try", "tomorrow", "yesterday", "agent-pass", "location", "hello-world"),
)
_PHRASES: Final = {
    "en-us": ("Wait wait, one moment please", "No, that is not what I meant", "Excuse me", "Stop", "Hang on a second"),
    "he": ("רגע רגע", "רגע, רגע, חכה שנייה", "לא, לא התכוונתי לזה", "סליחה"),
    "de": ("Moment mal", "Nein, das habe ich nicht gemeint", "Entschuldigung"),
    "fr-fr": ("Attendez un instant", "Non, ce n'est pas ça", "Pardon"),
    "es": ("Espera un momento", "No, no es eso", "Perdone"),
    "ru": ("Подождите, пожалуйста", "Нет, не то", "Простите"),
    "pt-br": ("Espera aí um pouquinho", "Não, não é isso"),
    "it": ("Aspetti un momento", "No, non intendevo questo"),
    "hi": ("एक मिनट रुकिए", "नहीं, यह नहीं"),
}
_ESPEAK_VARIANTS: Final = ("m3", "f2", "f5")
_FLITE_VOICES: Final = ("kal16", "awb", "rms", "slt")


@dataclass(frozen=True)
class Clip:
    """Speech from its first audible sound to its last."""

    name: str
    kind: str  # "recorded", or the synthesiser
    language: str
    samples: Samples


def missing() -> list[str]:
    """What this machine lacks for the whole corpus."""
    lack = [name for name in ("espeak-ng", "flite") if which(name) is None]
    return lack + [str(path) for path in (RECORDED, MUSIC) if not path.is_dir()]


@cache
def callers() -> list[Clip]:
    """What callers say over the AI."""
    clips = [_clip(name, "recorded", "en-us", _read(RECORDED / f"{name}.wav")) for name in _existing(_CALLER_CLIPS)]
    if which("espeak-ng"):
        for language, phrases in _PHRASES.items():
            for variant in _ESPEAK_VARIANTS:
                for phrase in phrases:
                    command = ["espeak-ng", "-v", f"{language}+{variant}", "--stdout", phrase]
                    name = f"{phrase} ({variant})"
                    clips.append(_clip(name, "espeak-ng", language, _read(BytesIO(_run(command)))))
    if which("flite"):
        for voice in _FLITE_VOICES:
            for phrase in _PHRASES["en-us"]:
                with NamedTemporaryFile(suffix=".wav") as file:
                    _run(["flite", "-voice", voice, "-t", phrase, "-o", file.name])
                    clips.append(_clip(f"{phrase} ({voice})", "flite", "en-us", _read(Path(file.name))))
    return [clip for clip in clips if clip.samples.size]


def ai_speech() -> Samples:
    """A few minutes of what the AI says, with short pauses between the sentences."""
    pause = np.zeros(RATE // 4)
    parts: list[Samples] = []
    for name in _existing(AI_CLIPS):
        parts += (_level(_read(RECORDED / f"{name}.wav"), SPEECH_DBFS), pause)
    return np.concatenate(parts)


def _existing(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (RECORDED / f"{name}.wav").exists()]


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def _read(source: Path | BytesIO) -> Samples:
    """A WAV file at 8 kHz, in the band of a telephone. espeak-ng writes no length into a header that it pipes."""
    with wave.open(str(source) if isinstance(source, Path) else source) as file:
        rate = file.getframerate()
        data = file.readframes(10**9)
    return _resample(np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2") / 32_768.0, rate)


def _resample(samples: Samples, rate: int) -> Samples:
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(samples.size, 1 / rate)
    spectrum[(hertz < 200) | (hertz > 3_400)] = 0
    n = round(samples.size * RATE / rate)
    kept = np.zeros(n // 2 + 1, dtype=complex)
    m = min(kept.size, spectrum.size)
    kept[:m] = spectrum[:m]
    return np.fft.irfft(kept, n) * (n / samples.size)


def _windows(samples: Samples) -> Samples:
    """The mean power of each 10 ms."""
    return np.asarray((samples[: samples.size // 80 * 80].reshape(-1, 80) ** 2).mean(axis=1))


def _level(samples: Samples, dbfs: float) -> Samples:
    """The same with its active parts at this level: those within 25 dB of the loudest 10 ms."""
    power = _windows(samples)
    active = float(power[power > power.max() / 10**2.5].mean())
    return samples * float(np.sqrt(10 ** (dbfs / 10) / active))


def _clip(name: str, kind: str, language: str, samples: Samples) -> Clip:
    power = _windows(samples)
    if not power.size or not power.max():
        return Clip(name, kind, language, samples[:0])
    loud = np.flatnonzero(power > power.max() / 10 ** (ONSET_DB / 10))
    return Clip(name, kind, language, _level(samples[loud[0] * 80 : (loud[-1] + 1) * 80], SPEECH_DBFS))


# --- noise: `n` samples at the level of speech -----------------------------------------------------------------------


def white(n: int, rng: np.random.Generator) -> Samples:
    return _to_level(_band(rng.standard_normal(n)))


def pink(n: int, rng: np.random.Generator) -> Samples:
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.fft.rfftfreq(n, 1 / RATE)
    return _to_level(_band(np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 20)), n)))


def hum(n: int, rng: np.random.Generator) -> Samples:
    """Mains with its harmonics, and a little noise."""
    seconds = np.arange(RATE) / RATE
    tone = sum(np.sin(2 * np.pi * 50 * k * seconds + rng.uniform(0, 6.28)) / k for k in range(1, 20))
    return _to_level(_band(np.resize(tone, n) + 0.05 * rng.standard_normal(n)))


def babble(n: int, rng: np.random.Generator) -> Samples:
    """Many voices at once: a waiting room."""
    clips = [_level(clip.samples, SPEECH_DBFS) for clip in callers()]
    mixed = np.zeros(n)
    for _ in range(12):
        at = 0
        while at < n:
            clip = clips[rng.integers(len(clips))]
            part = clip[: n - at]
            mixed[at : at + part.size] += part * rng.uniform(0.7, 1.3)
            at += part.size + int(rng.integers(RATE // 2))
    return _to_level(mixed)


def music(n: int, rng: np.random.Generator) -> Samples:
    """Music on hold: recordings, or chords where they are not installed."""
    files = sorted(MUSIC.glob("*.wav"))
    if not files:
        return chords(n, rng)
    pieces = [_to_level(_read(path)) for path in files]
    per = n // len(pieces) + 1
    return np.concatenate([np.resize(piece, per) for piece in pieces])[:n]


def chords(n: int, rng: np.random.Generator) -> Samples:
    beat = RATE // 2
    seconds = np.arange(beat) / RATE
    parts = []
    for _ in range(n // beat + 1):
        root = 220 * 2 ** (rng.integers(12) / 12)
        notes = [root * 2 ** (step / 12) for step in (0, 4, 7, 12)]
        parts.append(
            sum(np.sin(2 * np.pi * f * k * seconds) / k for f in notes for k in range(1, 5)) * np.exp(-2 * seconds)
        )
    return _to_level(_band(np.concatenate(parts)[:n]))


def keyboard(n: int, rng: np.random.Generator) -> Samples:
    """Keys struck four to eight times a second."""
    return _struck(n, rng, every_s=(0.08, 0.25), length_s=(0.004, 0.012), decay_s=0.003)


def coughs(n: int, rng: np.random.Generator) -> Samples:
    """Bursts of noise with the shape of a cough, through a wide formant: one or two every few seconds."""
    bursts = _struck(n, rng, every_s=(0.4, 6.0), length_s=(0.15, 0.35), decay_s=0.08)
    spectrum = np.fft.rfft(bursts)
    hertz = np.fft.rfftfreq(n, 1 / RATE)
    formants = sum(1 / (1 + ((hertz - f) / width) ** 2) for f, width in ((700, 300), (1_500, 400), (2_600, 500)))
    return _to_level(np.fft.irfft(spectrum * formants, n))


def dtmf(n: int, rng: np.random.Generator) -> Samples:
    """Keys of a telephone, 100 ms each, four a second."""
    tones = np.zeros(n)
    seconds = np.arange(RATE // 10) / RATE
    for at in range(0, n - RATE // 10, RATE // 4):
        low, high = rng.choice((697, 770, 852, 941)), rng.choice((1209, 1336, 1477))
        tones[at : at + RATE // 10] = np.sin(2 * np.pi * low * seconds) + np.sin(2 * np.pi * high * seconds)
    return _to_level(tones)


NOISES: Final[dict[str, Callable[[int, np.random.Generator], Samples]]] = {
    "white": white,
    "pink": pink,
    "hum": hum,
    "babble": babble,
    "music": music,
    "keyboard": keyboard,
    "coughs": coughs,
    "dtmf": dtmf,
}


def _struck(
    n: int,
    rng: np.random.Generator,
    *,
    every_s: tuple[float, float],
    length_s: tuple[float, float],
    decay_s: float,
) -> Samples:
    sound = np.zeros(n)
    at = int(rng.uniform(*every_s) * RATE)
    while at < n:
        length = min(int(rng.uniform(*length_s) * RATE), n - at)
        shape = np.exp(-np.arange(length) / (decay_s * RATE)) * np.minimum(1, np.arange(length) / 16)
        sound[at : at + length] += rng.standard_normal(length) * shape * rng.uniform(0.5, 1)
        at += length + int(rng.uniform(*every_s) * RATE)
    return _to_level(_band(sound))


def _band(samples: Samples) -> Samples:
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(samples.size, 1 / RATE)
    spectrum[(hertz < 200) | (hertz > 3_400)] = 0
    return np.fft.irfft(spectrum, samples.size)


def _to_level(samples: Samples) -> Samples:
    return _level(samples, SPEECH_DBFS)


# --- echo ------------------------------------------------------------------------------------------------------------


def echo_path(
    delay_ms: float, loss_db: float, rng: np.random.Generator, *, tail_ms: float = 60.0, direct: float = 0.7
) -> Samples:
    """The response of a speakerphone in a room, `loss_db` in all.

    `direct` is the share of its energy that comes straight from the loudspeaker, after `delay_ms`, within 2 ms. The
    rest is the room: a tail that decays by 60 dB in three times `tail_ms`.
    """
    near = rng.standard_normal(16) * np.exp(-np.arange(16) / 4)
    near[0] = 2.0
    n = int(tail_ms * RATE / 1_000)
    room = rng.standard_normal(n) * np.exp(-np.arange(n) * 2.3 / n)
    tail = room * np.sqrt((1 - direct) / (room**2).sum())
    tail[: near.size] += near * np.sqrt(direct / (near**2).sum())
    response = np.concatenate([np.zeros(int(delay_ms * RATE / 1_000)), tail])
    return response * float(10 ** (-loss_db / 20) / np.sqrt((tail**2).sum()))


# --- mu-law ----------------------------------------------------------------------------------------------------------

_LINEAR: Final = np.array(MULAW_TO_LINEAR)
# Codes by value, and the values half way between two.
_ORDER: Final = np.argsort(_LINEAR, kind="stable")
_BOUNDS: Final = (_LINEAR[_ORDER][1:] + _LINEAR[_ORDER][:-1]) / 2


def encode(samples: Samples) -> bytes:
    return _ORDER[np.searchsorted(_BOUNDS, samples * 32_768)].astype(np.uint8).tobytes()


def decode(audio: bytes) -> Samples:
    return _LINEAR[np.frombuffer(audio, dtype=np.uint8)] / 32_768.0
