"""One utterance of a line: the speech in the reservoir, and what of it was paced."""

from __future__ import annotations

from collections import deque

from shared.audio import BYTE_NS


class Utterance:
    """Speech that is not paced yet: `size` bytes, in the chunks that came, from byte `at` of `chunk`.

    One bytearray instead of chunks would copy the whole reservoir each time it grows.
    """

    __slots__ = ("at", "chunk", "ended", "first_seq", "later", "number", "pushed_bytes", "size")

    def __init__(self, number: int, *, paced_bytes: int = 0, first_seq: int = 0) -> None:
        self.number = number
        self.chunk = b""
        self.at = 0
        self.later: deque[bytes] = deque()
        self.size = 0
        # All speech that came, paced or not.
        self.pushed_bytes = paced_bytes
        self.ended = False
        # The number of its first frame, once that is paced.
        self.first_seq = first_seq

    @property
    def paced_bytes(self) -> int:
        """Without the padding of a short last frame."""
        return self.pushed_bytes - self.size

    def push(self, data: bytes) -> None:
        self.later.append(data)
        self.size += len(data)
        self.pushed_bytes += len(data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes, which must be there; they are paced now."""
        end = self.at + size
        data = self.chunk[self.at : end]
        while len(data) < size:
            end -= len(self.chunk)
            self.chunk = self.later.popleft()
            data += self.chunk[:end]
        self.at = end
        self.size -= size
        return data

    def unpaced(self) -> bytes:
        return b"".join((self.chunk[self.at :], *self.later))


class Playing:
    """An utterance whose last frame was paced, and which the ear plays until `ear_ns`."""

    __slots__ = ("ear_ns", "first_seq", "number", "paced_bytes")

    def __init__(self, paced: Utterance, ear_ns: int) -> None:
        self.number = paced.number
        self.paced_bytes = paced.paced_bytes
        self.first_seq = paced.first_seq
        self.ear_ns = ear_ns

    @property
    def began_ns(self) -> int:
        return self.ear_ns - self.paced_bytes * BYTE_NS
