"""Compares what the model's sessions heard of the caller with what the caller sent: byte by byte, in order.

A caller whose line has noise (see `simulator.carrier.caller`) sends no frame twice. The audio that a session was given
therefore maps back to what was sent, without any help from the system under test.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from shared.audio import BYTES_PER_MS, FRAME_BYTES
from simulator.carrier.call import CallRecord

_MS: Final = 1_000_000
# Audio in flight when the call, or its last session, ended: three hops, each with its batching.
END_NS: Final = 300 * _MS


@dataclass(frozen=True)
class Heard:
    """A stretch of the sent audio that one session was given: bytes `begin` to `end` of all sent audio."""

    session: int
    begin: int
    end: int


@dataclass(frozen=True)
class Missing:
    """A stretch of the sent audio that no session was given; its first byte was sent at `at_ns`."""

    at_ns: int
    begin: int
    end: int

    @property
    def ms(self) -> float:
        return (self.end - self.begin) / BYTES_PER_MS


@dataclass(frozen=True)
class Inbound:
    """The comparison for one call."""

    sent_bytes: int
    heard: tuple[Heard, ...]
    missing: tuple[Missing, ...]
    # Bytes that the same session was given twice, or out of order.
    repeated_bytes: int
    # Bytes that this call's caller never sent.
    invented_bytes: int

    @property
    def missing_ms(self) -> float:
        return sum(each.ms for each in self.missing)

    def problems(self) -> Iterator[tuple[str, float]]:
        """The problems, a sentence each, with the ms of audio."""
        for each in self.missing:
            yield (
                f"{each.ms:.0f} ms of the caller, from {each.begin // BYTES_PER_MS} ms on, reached no session.",
                each.ms,
            )
        for size, what in (
            (self.repeated_bytes, "reached one session twice or out of order"),
            (self.invented_bytes, "are not of this caller"),
        ):
            if size:
                yield f"{size / BYTES_PER_MS:.0f} ms that the model heard {what}.", size / BYTES_PER_MS


def compare(call: CallRecord, inputs: Sequence[bytes], last_closed_ns: int | None) -> Inbound:
    """`inputs` is the audio that each session was given, in order; `last_closed_ns` is when the last session ended."""
    sent = call.sent_audio()
    heard: list[Heard] = []
    repeated = invented = expected = 0
    for number, received in enumerate(inputs):
        reach = 0
        for size, begin in _stretches(sent, received, expected):
            if begin < 0:
                invented += size
                continue
            repeated += max(0, min(begin + size, reach) - begin)
            reach = max(reach, begin + size)
            heard.append(Heard(number, begin, begin + size))
        expected = max(expected, reach)
    end_ns = min(call.ended_ns, last_closed_ns or call.ended_ns) - END_NS
    due = sum(at_ns < end_ns for at_ns in call.sent_ns) * FRAME_BYTES
    missing = tuple(
        Missing(call.sent_ns[begin // FRAME_BYTES], begin, end) for begin, end in _holes(heard, due) if begin < due
    )
    return Inbound(len(sent), tuple(heard), missing, repeated, invented)


def _stretches(sent: bytes, received: bytes, expected: int) -> Iterator[tuple[int, int]]:
    """`received` as stretches of `sent`: (size, where it begins, or -1 for what was never sent).

    `expected` is where it begins if nothing went wrong.
    """
    at = unknown = 0
    while at < len(received):
        size = _equal_bytes(received, at, sent, expected)
        if size < min(FRAME_BYTES, len(received) - at):
            size, expected = _longest(received, at, sent, expected)
        if size:
            if unknown:
                yield unknown, -1
            unknown = 0
            yield size, expected
            expected += size
        unknown += not size
        at += size or 1
    if unknown:
        yield unknown, -1


def _longest(received: bytes, at: int, sent: bytes, expected: int) -> tuple[int, int]:
    """The longest stretch of sent audio at `at`, and its place there: a caller may say a recording several times.

    Of two equally long stretches, the one nearer to `expected`. (0, `expected`): this audio was never sent.
    """
    found = []
    probe = received[at : at + FRAME_BYTES]
    begin = sent.find(probe)
    while begin >= 0:
        found.append((_equal_bytes(received, at, sent, begin), -abs(begin - expected), begin))
        begin = sent.find(probe, begin + 1)
    if not found:
        return 0, expected
    size, _, begin = max(found)
    return size, begin


def _equal_bytes(received: bytes, at: int, sent: bytes, begin: int) -> int:
    """The number of equal bytes from these two places on."""
    size = step = 0
    for step in (8_000, FRAME_BYTES, 1):
        while (
            at + size + step <= len(received)
            and received[at + size : at + size + step] == sent[begin + size : begin + size + step]
        ):
            size += step
    return size


def _union(heard: Sequence[Heard]) -> list[tuple[int, int]]:
    """The stretches that any session was given, joined, in order."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted((each.begin, each.end) for each in heard):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _holes(heard: Sequence[Heard], due: int) -> list[tuple[int, int]]:
    """The stretches of the first `due` bytes that no session was given."""
    bounds = [(0, 0), *_union(heard), (due, due)]
    return [(before[1], min(after[0], due)) for before, after in pairwise(bounds) if before[1] < min(after[0], due)]
