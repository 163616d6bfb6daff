"""Recorded sentences: files to mu-law, at the start of the process and never later."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Final

from shared.audio import linear_to_mulaw

# WAVE_FORMAT_PCM and WAVE_FORMAT_MULAW of Microsoft's mmreg.h. The standard library's `wave` reads the first only.
_PCM: Final = 1
_MULAW: Final = 7
# One minute. A longer greeting is a mistake.
MAX_BYTES: Final = 60 * 8_000


def read_recording(path: Path) -> bytes:
    """mu-law from a WAV file (8 kHz, mono, mu-law or 16-bit PCM) or from a raw .ulaw file.

    Raises OSError, and ValueError that says what is wrong with the file.
    """
    data = path.read_bytes()
    audio = data if path.suffix.lower() in (".ulaw", ".ul", ".mulaw") else _samples(data)
    if not audio:
        raise ValueError("it holds no audio")
    if len(audio) > MAX_BYTES:
        raise ValueError(f"it is {len(audio) / 8_000:.0f} s long; {MAX_BYTES // 8_000} s is the limit")
    return audio


def _samples(data: bytes) -> bytes:
    """The audio of a RIFF file as mu-law."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("it is neither a WAV file nor raw mu-law (.ulaw)")
    encoding: int | None = None
    at = 12
    try:
        while at + 8 <= len(data):
            name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
            if name == b"fmt ":
                encoding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
                if (channels, rate) != (1, 8_000) or (encoding, bits) not in ((_PCM, 16), (_MULAW, 8)):
                    raise ValueError("it is not 8 kHz mono, PCM of 16 bit or mu-law")
            elif name == b"data" and encoding is not None:
                chunk = data[at + 8 : at + 8 + size]
                return chunk if encoding == _MULAW else _to_mulaw(chunk)
            at += 8 + size + (size & 1)
    except struct.error:
        pass
    raise ValueError("it is a WAV file without audio")


def _to_mulaw(pcm: bytes) -> bytes:
    samples = array("h", pcm[: len(pcm) & ~1])  # little-endian, as every machine that this runs on
    return bytes(linear_to_mulaw(sample) for sample in samples)
