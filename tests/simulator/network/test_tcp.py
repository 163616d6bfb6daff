"""TCP over a bad path: in order, whole, and late by what the repair of a loss takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.network.path import Path, PathBehaviour
from simulator.network.tcp import TcpStream

MS = 1_000_000


class Losing(Path):
    """A path that loses the packets of these numbers."""

    def __init__(self, delay_ms: float, lost: set[int]) -> None:
        super().__init__(PathBehaviour(delay_ms=delay_ms), seed=1)
        self._lost = lost
        self._number = -1

    def carry(self, now_ns: int) -> int | None:
        self._number += 1
        return None if self._number in self._lost else super().carry(now_ns)


def arrivals(stream: TcpStream, segments: int, *, every_ms: int = 20) -> list[float]:
    """When each segment was read, ms after it was sent."""
    read: dict[int, int] = {}
    now_ns, sent = 0, 0
    while len(read) < segments:
        due_ns = stream.next_due_ns()
        next_ns = sent * every_ms * MS if sent < segments else None
        now_ns = max(now_ns, min(each for each in (due_ns, next_ns) if each is not None))
        if next_ns is not None and now_ns >= next_ns:
            stream.send(sent.to_bytes(4, "big"), now_ns)
            sent += 1
        for data in stream.advance(now_ns):
            read[int.from_bytes(data, "big")] = now_ns
    assert list(read) == sorted(read)
    return [(read[n] - n * every_ms * MS) / MS for n in range(segments)]


def test_without_loss_each_segment_takes_the_delay():
    assert arrivals(TcpStream(Losing(60, set()), return_ns=60 * MS), 5) == [60] * 5


def test_a_lost_segment_takes_one_round_trip_and_some_more_and_holds_up_its_followers():
    times = arrivals(TcpStream(Losing(60, {3}), return_ns=60 * MS), 20)
    assert times[2] == 60
    # 20 ms to the next segment, its way there and back, an eighth of the round trip, and the way of the repair.
    assert times[3] == 20 + 120 + 15 + 60
    assert times[4:] == [max(60, times[3] - 20 * n) for n in range(1, 17)]


def test_a_repair_that_is_lost_costs_another_round_trip():
    # Segments 0 to 7 are packets 0 to 7 until the first repair, which is the packet after the one sent at 140 ms.
    once = arrivals(TcpStream(Losing(60, {0}), return_ns=60 * MS), 30)[0]
    twice = arrivals(TcpStream(Losing(60, {0, 8}), return_ns=60 * MS), 30)[0]
    assert once == 215
    assert once + 120 <= twice <= once + 160


def test_the_last_segment_is_repaired_by_a_probe():
    assert arrivals(TcpStream(Losing(60, {0}), return_ns=60 * MS), 1) == [2 * 120 + 60]


@pytest.mark.parametrize("lost", [{0, 1}, {0, 1, 2}])
def test_a_probe_that_is_lost_is_followed_by_the_retransmission_timer(lost):
    (taken,) = arrivals(TcpStream(Losing(60, lost), return_ns=60 * MS), 1)
    assert taken >= 2 * 120 + 120 + 200 + 60


@given(loss=st.floats(0, 0.4), seed=st.integers(0, 99), segments=st.integers(1, 60))
def test_every_segment_arrives_once_and_in_order(loss, seed, segments):
    path = Path(PathBehaviour(delay_ms=40, jitter_ms=20, loss=loss), seed=seed)
    assert all(taken >= 40 for taken in arrivals(TcpStream(path, return_ns=40 * MS), segments))
