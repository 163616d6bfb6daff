"""The audio format of a call: G.711 mu-law, 8 kHz, mono, in frames of 20 ms."""

from __future__ import annotations

from typing import Final

FRAME_MS: Final = 20
FRAME_NS: Final = 20_000_000
# 8,000 samples a second at one byte each. Twilio sends and plays no other format.
FRAME_BYTES: Final = 160
BYTES_PER_MS: Final = 8
# One byte is 125 us of sound.
BYTE_NS: Final = 125_000
# mu-law code of amplitude zero (positive zero of G.711).
SILENCE: Final = b"\xff"


def ms_of(n_bytes: int) -> int:
    """Milliseconds in `n_bytes` of audio, rounded down.

    `conversation.item.truncate` refuses an `audio_end_ms` beyond the item's audio, so rounding up could fail.
    """
    return n_bytes // BYTES_PER_MS


def _decode_table() -> tuple[int, ...]:
    """16-bit linear value of each mu-law code (ITU-T G.711, table 2a)."""
    table = []
    for code in range(256):
        inverted = ~code & 0xFF
        magnitude = (((inverted & 0x0F) << 3) + 0x84) << ((inverted & 0x70) >> 4)
        value = magnitude - 0x84
        table.append(-value if inverted & 0x80 else value)
    return tuple(table)


MULAW_TO_LINEAR: Final = _decode_table()


def linear_to_mulaw(sample: int) -> int:
    """mu-law code of one 16-bit sample. For preparing files: too slow for the path of a frame."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32_635) + 0x84
    exponent = max(magnitude.bit_length() - 8, 0)
    return ~(sign | (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0F)) & 0xFF
