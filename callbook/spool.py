"""The facts that are not in the database yet: a bounded log on disk.

Every fact passes through the spool, not only while the database is down: one path, and one path to test. `append`
returns when the records are on the disk; only then are they acknowledged to their sender. A segment is deleted when all
of it is in the database. The spool does not store the reader's position: the database has it (`Source.through`),
written in the same transaction as the facts.

Segments are used instead of a SQLite file. Both take the same CPU and as many syncs, but on a full disk SQLite cannot
delete what was read, because its log has no room, while a segment is deleted by one unlink.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .core.segments import TornError, frame, records

# After a crash, at most this much is read again.
SEGMENT_BYTES: Final = 262_144


@dataclass(frozen=True)
class Position:
    """The end of a record, and the reader's position after the record is written."""

    segment: int
    offset: int


class Spool:
    """Used by one thread that appends and another one that reads. Either may go on after an OSError of the disk.

    Bound: `max_bytes` on disk; then `append` refuses.
    """

    def __init__(self, directory: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        # Segments whose last write was cut off.
        self._torn: set[int] = set()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Size of each segment, oldest first.
        self._sizes = {int(path.stem): path.stat().st_size for path in sorted(directory.glob("*.spool"))}
        self._read = Position(min(self._sizes, default=1), 0)
        # The segment that is written, and its descriptor; below 0: the next append begins another one.
        self._writing = max(self._sizes, default=0)
        self._fd = -1

    @property
    def held_bytes(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    @property
    def torn(self) -> int:
        """The number of segments that ended in a torn record."""
        return len(self._torn)

    @property
    def unread(self) -> bool:
        with self._lock:
            return any(
                size > (self._read.offset if number == self._read.segment else 0)
                for number, size in self._sizes.items()
                if number >= self._read.segment
            )

    def append(self, payloads: Iterable[bytes]) -> bool:
        """Put `payloads` at the end, durably; False, and nothing is put, when the spool is full. Raises OSError."""
        data = b"".join(map(frame, payloads))
        with self._lock:
            if self.held_bytes + len(data) > self._max_bytes:
                return False
            if self._fd >= 0 and self._sizes[self._writing] + len(data) > self._segment_bytes:
                self._end_segment()
            if self._fd < 0:
                self._begin_segment()
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
                os.fdatasync(self._fd)
            except OSError:
                # The part that reached the disk is torn: nothing may follow it in this segment.
                self._sizes[self._writing] = os.fstat(self._fd).st_size
                self._end_segment()
                raise
            self._sizes[self._writing] += len(data)
        return True

    def read(self, limit: int) -> tuple[list[bytes], Position]:
        """Up to `limit` records after the last `done`, and the end of the last. Reads the same again until `done`.

        A torn record ends its segment. It was never acknowledged, so its sender repeats it. Raises OSError.
        """
        found: list[bytes] = []
        position = self._read
        while True:
            with self._lock:
                size = self._sizes.get(position.segment, 0)
                following = min((number for number in self._sizes if number > position.segment), default=None)
            if position.offset < size:
                data = self._path(position.segment).read_bytes()[:size]
                try:
                    for payload, offset in records(data, position.offset):
                        found.append(payload)
                        position = Position(position.segment, offset)
                        if len(found) == limit:
                            return found, position
                except TornError:
                    self._torn.add(position.segment)
                    position = Position(position.segment, size)
            if following is None:
                return found, position
            position = Position(following, 0)

    def done(self, position: Position) -> None:
        """Everything before `position` is in the database: delete segments without anything else. Raises OSError."""
        with self._lock:
            self._read = position
            if position.segment == self._writing and self._sizes.get(self._writing, 0) <= position.offset:
                # The reader has caught up: nothing has to be kept.
                self._end_segment()
                self._read = Position(self._writing + 1, 0)
            for number in [number for number in self._sizes if number < self._read.segment]:
                self._path(number).unlink(missing_ok=True)
                del self._sizes[number]

    def close(self) -> None:
        """Close the files. The next start reads the remaining records."""
        self._end_segment()

    def _begin_segment(self) -> None:
        # A number is used once, even by a segment that could not be made.
        self._writing += 1
        fd = os.open(self._path(self._writing), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            # The file's name has to survive a power cut as well as its bytes.
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            os.close(fd)
            raise
        self._sizes[self._writing] = 0
        self._fd = fd

    def _end_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:012d}.spool"
