"""Twilio's timestamps tell by how much the way back delayed an echo."""

from __future__ import annotations

import pytest

from gateway.core.way_back import WINDOW_NS, WayBack

MS = 1_000_000
T0 = 1_000_000 * MS


def heard(way: WayBack, stamp_ms: int, late_ms: int = 0) -> int:
    """The caller's audio of that time in the stream arrives, usually 30 ms later. Returns when."""
    way.media = b'{"event":"media","media":{"timestamp":"%d","payload":"/w=="}}' % stamp_ms
    way.media_ns = T0 + (stamp_ms + 30 + late_ms) * MS
    return way.media_ns


def known() -> WayBack:
    way = WayBack()
    now_ns = heard(way, 1_000)
    assert way.punctual_ns(now_ns) == now_ns
    return way


def test_an_echo_after_delayed_audio_was_delayed_as_long() -> None:
    way = known()
    now_ns = heard(way, 2_000, late_ms=160)
    # It was sent within 20 ms after that audio.
    assert way.punctual_ns(now_ns + MS) == now_ns - 140 * MS


@pytest.mark.parametrize("late_ms", [0, 5, 39])
def test_jitter_is_no_delay(late_ms: int) -> None:
    way = known()
    now_ns = heard(way, 2_000, late_ms) + 10 * MS
    assert way.punctual_ns(now_ns) == now_ns


def test_an_echo_that_is_missing_after_punctual_audio_was_delayed_itself() -> None:
    way = known()
    now_ns = heard(way, 2_000)
    assert way.punctual_ns(now_ns + 160 * MS) == now_ns + 20 * MS


def test_before_any_audio_an_echo_counts_as_punctual() -> None:
    assert WayBack().punctual_ns(T0) == T0


def test_clocks_that_drift_apart_look_like_no_delay() -> None:
    way = known()
    for minute in range(1, 30):
        now_ns = heard(way, 1_000 + minute * 60_000, late_ms=10 * minute)
        assert way.punctual_ns(now_ns) == now_ns
    assert WINDOW_NS == 60_000 * MS
