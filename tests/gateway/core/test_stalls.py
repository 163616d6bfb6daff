from __future__ import annotations

import pytest

from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.core.pulse import Pulse
from gateway.core.stalls import SLOW_SEND_NS, STALL_NS, UNREAD_NS, FrameLog
from shared.metrics import Page

FRAME_NS = 20_000_000


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Page.in_memory(DEFINITIONS))


@pytest.fixture
def frames(metrics: Metrics) -> FrameLog:
    return FrameLog(metrics, Pulse())


def test_the_first_frame_is_told_once(frames):
    assert frames.written(0, 1, 5, 5)
    assert not frames.written(1, 1, 5 + FRAME_NS, 5 + FRAME_NS)
    assert (frames.frames, frames.seq, frames.last_wire_ns) == (2, 2, 5 + FRAME_NS)


def test_a_gap_inside_an_utterance_is_a_stall(frames, metrics):
    frames.written(0, 2, 1, 1)
    frames.written(2, 1, 1, 1 + STALL_NS)
    assert (frames.stalls, frames.largest_gap_ns) == (0, STALL_NS)
    frames.written(3, 1, 1, 2 + 2 * STALL_NS)
    assert (frames.stalls, frames.largest_gap_ns) == (1, STALL_NS + 1)
    assert (metrics.tx_stall.value, metrics.wire_gap.count) == (1, 2)


def test_silence_after_an_utterance_or_in_a_pause_is_no_stall(frames, metrics):
    frames.written(0, 1, 1, 1)
    frames.utterance_ended()
    frames.written(1, 1, 1, 1 + 2 * STALL_NS)
    frames.written(3, 1, 1, 1 + 4 * STALL_NS)  # a number was left out: a pause
    assert (frames.stalls, metrics.wire_gap.count) == (0, 0)


def test_a_socket_is_slow_and_then_unread_until_its_peer_takes_everything(frames):
    frames.backlog(100, 1)
    frames.backlog(50, SLOW_SEND_NS)  # it took a part: it is still stuck
    assert not frames.is_slow(1 + SLOW_SEND_NS)
    assert frames.is_slow(2 + SLOW_SEND_NS)
    assert not frames.is_unread(1 + UNREAD_NS)
    assert frames.is_unread(2 + UNREAD_NS)
    frames.backlog(0, 2 + UNREAD_NS)
    assert not frames.is_slow(1 << 62)
    assert not frames.is_unread(1 << 62)
