"""Make the synthesised recordings of `voices/`: `python -m simulator.speak [NAME ...]`, without names all of them.

Flite speaks the words of voices/manifest.toml (Debian: `apt-get install flite`); nothing else needs it. What comes out
is as on a phone line: 8 kHz, below 3.6 kHz, at one level, in G.711 mu-law, with the silence at both ends trimmed.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
import tomllib
import wave
from array import array
from collections.abc import Sequence
from operator import mul
from pathlib import Path
from typing import Final

from shared.audio import BYTES_PER_MS, linear_to_mulaw

from .voice import VOICES

# Flite's own speed is that of a newsreader; a receptionist speaks 5 % slower.
STRETCH: Final = 1.05
CUT_OFF_HZ: Final = 3_600
RATE_HZ: Final = 8_000
# Half the length of the low pass, samples: 60 dB down at 4.1 kHz for input at 16 kHz.
HALF: Final = 48
# Level of the samples that are speech, dBFS: that of the recordings of people.
LEVEL_DBFS: Final = -20.0
PEAK: Final = 30_000
# Samples below this are not speech. The first word begins at the first sample, as in the recordings of people.
QUIET: Final = 200
ONSET: Final = 600
END_MS: Final = 20


def synthesised(text: str, voice: str) -> tuple[array[int], int]:
    """Flite's samples, and their rate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={STRETCH}", "-t", text, "-o", str(path)]
        subprocess.run(command, check=True)
        with wave.open(str(path), "rb") as file:
            return array("h", file.readframes(file.getnframes())), file.getframerate()


def telephone(samples: Sequence[int], rate_hz: int) -> list[float]:
    """The samples at 8 kHz, low-passed by a windowed sinc. `rate_hz` is a multiple of 8 kHz."""
    cut = CUT_OFF_HZ / rate_hz
    taps = [
        (2 * cut if not n else math.sin(2 * math.pi * cut * n) / (math.pi * n))
        * (0.54 + 0.46 * math.cos(math.pi * n / HALF))
        for n in range(-HALF, HALF + 1)
    ]
    padded = [0] * HALF + list(samples) + [0] * HALF
    step = rate_hz // RATE_HZ
    return [sum(map(mul, taps, padded[at : at + 2 * HALF + 1])) for at in range(0, len(samples), step)]


def levelled(samples: Sequence[float]) -> list[int]:
    speech = [each for each in samples if abs(each) > QUIET]
    level = math.sqrt(sum(each * each for each in speech) / len(speech))
    gain = min(32_768 * 10 ** (LEVEL_DBFS / 20) / level, PEAK / max(map(abs, speech)))
    return [round(each * gain) for each in samples]


def trimmed(samples: Sequence[int]) -> Sequence[int]:
    begin = next(number for number, each in enumerate(samples) if abs(each) > ONSET)
    end = max(number for number, each in enumerate(samples) if abs(each) > QUIET)
    return samples[begin : end + END_MS * BYTES_PER_MS]


def wav(mulaw: bytes) -> bytes:
    """A WAV file of format 7 (mu-law), which Python's own `wave` does not write."""
    form = b"fmt " + (18).to_bytes(4, "little") + bytes.fromhex("0700 0100 401f0000 401f0000 0100 0800 0000")
    fact = b"fact" + (4).to_bytes(4, "little") + len(mulaw).to_bytes(4, "little")
    data = b"data" + len(mulaw).to_bytes(4, "little") + mulaw + b"\0" * (len(mulaw) % 2)
    body = b"WAVE" + form + fact + data
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def main(names: Sequence[str]) -> int:
    if shutil.which("flite") is None:
        print("flite is not installed; on Debian: apt-get install flite", file=sys.stderr)
        return 1
    manifest = tomllib.loads((VOICES / "manifest.toml").read_text())
    for name, entry in manifest.items():
        if "spoken_by" in entry and (not names or name in names):
            samples = trimmed(levelled(telephone(*synthesised(entry["text"], entry["spoken_by"]))))
            (VOICES / f"{name}.wav").write_bytes(wav(bytes(map(linear_to_mulaw, samples))))
            print(f"{name}: {len(samples) / RATE_HZ:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
