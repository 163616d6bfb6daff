"""The spool's bytes: records that a crash in mid-write cannot turn into other records.

A segment is a file of records. Each is a MessagePack array of a CRC-32 and the payload that it protects. A torn write
leaves a last record that is too short or does not match its checksum; reading stops there. Nothing is appended after a
torn record, because each start of callbook, and each failed write, begins another segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import msgpack


class TornError(ValueError):
    """The next record is not whole: its write was cut off, or the disk changed it."""


def frame(payload: bytes) -> bytes:
    packed: bytes = msgpack.packb((crc32(payload), payload))
    return packed


def records(data: bytes, at: int = 0) -> Iterator[tuple[bytes, int]]:
    """Each payload from offset `at` on, and the offset after it. Raises TornError where a record is not whole."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(memoryview(data)[at:])
    end = at
    while end < len(data):
        try:
            checksum, payload = unpacker.unpack()
            torn = not isinstance(payload, bytes) or crc32(payload) != checksum
        except (msgpack.UnpackException, ValueError, TypeError):
            torn = True
        if torn:
            raise TornError(f"the record at {end} is cut off or changed")
        end = at + unpacker.tell()
        yield payload, end
