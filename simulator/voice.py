"""Recorded human speech for both ends of a simulated call, and the choice of what the model speaks.

`voices/` holds the recordings and their words, in 8 kHz G.711 mu-law as on the line.

Each utterance of the model is unique: a mask drawn from the utterance's seed flips the lowest bit of the recording's
bytes. The mask moves a sample by one quantisation step at most, which is inaudible. Any 20 ms frame (160 random bits)
therefore identifies its utterance and its position there; the judge of a call relies on it.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from shared.audio import BYTES_PER_MS, SILENCE

Role = Literal["ai", "caller"]
Kind = Literal["greeting", "line", "answer", "preamble", "goodbye", "utterance"]

VOICES: Final = Path(__file__).parent / "voices"
# To recognise a recording in a caller's audio, this many bytes from this offset are compared.
_PROBE_FROM_BYTES: Final = 800
_PROBE_BYTES: Final = 400


@dataclass(frozen=True)
class Clip:
    """One recording: `audio` is mu-law, `text` the words spoken in it."""

    name: str
    text: str
    audio: bytes
    role: Role
    kind: Kind = "utterance"

    @property
    def duration_ms(self) -> int:
        return len(self.audio) // BYTES_PER_MS


@cache
def _all() -> dict[str, Clip]:
    manifest = tomllib.loads((VOICES / "manifest.toml").read_text())
    return {
        name: Clip(name, entry["text"], _samples(VOICES / f"{name}.wav"), entry["role"], entry.get("kind", "utterance"))
        for name, entry in manifest.items()
    }


def _samples(path: Path) -> bytes:
    """The sample bytes of a mu-law WAV file; the standard library's `wave` reads PCM only."""
    data = path.read_bytes()
    at = 12  # after "RIFF", size, "WAVE"
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"data":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + (size & 1)
    raise ValueError(f"{path.name} has no data chunk")


def clip(name: str) -> Clip:
    """The recording called `name`. Raises KeyError when there is none."""
    return _all()[name]


def clips(role: Role, kind: Kind | None = None) -> tuple[Clip, ...]:
    """All recordings of one end of the call, in the manifest's order."""
    return tuple(c for c in _all().values() if c.role == role and kind in (None, c.kind))


@dataclass(frozen=True)
class Speech:
    """The speech of one audio item, as a recipe: the bytes of an hour would not fit into memory."""

    text: str
    audio: bytes  # the recording's, shared by all utterances of it
    seed: int
    length_bytes: int

    def render(self) -> bytes:
        """The item's unique mu-law bytes; a recording that is too short is repeated."""
        length = self.length_bytes
        audio = (self.audio * (length // max(len(self.audio), 1) + 1))[:length]
        mask = random.Random(self.seed).getrandbits(8 * length) & int.from_bytes(b"\x01" * length) if length else 0
        return (int.from_bytes(audio) ^ mask).to_bytes(length)


class Voice:
    """Chooses what the model says. Holds no state of a call: all sessions share one."""

    def __init__(self) -> None:
        self._greeting = clips("ai", "greeting")[0]
        self._answers = clips("ai", "answer")
        self._preamble = clips("ai", "preamble")[0]
        self._goodbye = clips("ai", "goodbye")[0]

    def answer(
        self, turn: int, *, seed: int, instructions: str = "", name: str = "", length_ms: int = 0, times: int = 1
    ) -> Speech:
        """The speech of a session's response number `turn`: the greeting for 0, then the answers in turn.

        Instructions that mention a goodbye get a goodbye. `name` asks for one recording. `length_ms` cuts or repeats
        the recording to that length, `times` multiplies it. `seed` makes the audio unique.
        """
        if name:
            chosen = clip(name)
        elif turn == 0:
            chosen = self._greeting
        elif "goodbye" in instructions.lower():
            chosen = self._goodbye
        else:
            chosen = self._answers[(turn - 1) % len(self._answers)]
        length = (length_ms * BYTES_PER_MS or len(chosen.audio)) * times
        return Speech(chosen.text, chosen.audio, seed, length)

    def preamble(self, *, seed: int) -> Speech:
        """The short remark that a reasoning model makes before it thinks."""
        return Speech(self._preamble.text, self._preamble.audio, seed, len(self._preamble.audio))

    def parrot(self, audio: bytes, *, seed: int) -> Speech:
        """What the caller said, in the caller's own voice."""
        return Speech(self.transcribe(audio), audio or SILENCE * 160, seed, len(audio) or 160)

    def transcribe(self, audio: bytes) -> str:
        """The words in a caller's utterance that holds known recordings; for any other, a note that somebody spoke."""
        found = []
        for known in clips("caller"):
            at = audio.find(known.audio[_PROBE_FROM_BYTES : _PROBE_FROM_BYTES + _PROBE_BYTES])
            if at >= 0:
                found.append((at, known.text))
        return " ".join(text for _, text in sorted(found)) or "(speech)"
