"""The spool's bytes: records that a crash in mid-write cannot make into other records.

A segment is a file of records, each `length, CRC-32, payload`. A write that was torn leaves a last record that is too
short or does not match its checksum: reading stops there. Nothing is ever appended behind it, because every start of
callbook begins a new segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

_HEAD: Final = struct.Struct(">II")
HEAD_BYTES: Final = _HEAD.size
# Far above any fact (a turn's text is cut at TEXT_MAX of aibridge); a length beyond it is no length.
PAYLOAD_MAX: Final = 1_048_576


class TornError(ValueError):
    """What follows is no whole record: the write of it was cut off, or the disk changed it."""


def frame(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), crc32(payload)) + payload


def records(data: bytes, at: int = 0) -> Iterator[tuple[bytes, int]]:
    """Each payload from offset `at` on, and the offset behind it. Raises TornError where a record is not whole."""
    while at < len(data):
        if len(data) - at < HEAD_BYTES:
            raise TornError(f"{len(data) - at} bytes are left at {at}, a head takes {HEAD_BYTES}")
        length, checksum = _HEAD.unpack_from(data, at)
        end = at + HEAD_BYTES + length
        if length > PAYLOAD_MAX or end > len(data):
            raise TornError(f"the record at {at} is cut off")
        payload = data[at + HEAD_BYTES : end]
        if crc32(payload) != checksum:
            raise TornError(f"the record at {at} does not match its checksum")
        yield payload, end
        at = end
