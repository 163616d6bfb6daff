"""Pings among the frames: how often, and which answers count."""

from __future__ import annotations

from gateway.core.path import CALM_NS, PENDING_MAX, WATCH_NS, WATCHFUL_NS, PathProbe

MS = 1_000_000
T0 = 1_000_000 * MS


def test_the_first_ping_follows_the_first_frame_and_calm_paths_are_pinged_seldom():
    probe = PathProbe()
    assert probe.next_ns <= T0
    payload = probe.ping(T0)
    assert probe.next_ns == T0 + CALM_NS
    assert probe.answered(payload, T0 + 60 * MS) == 60 * MS


def test_a_delayed_answer_makes_the_probe_watchful_for_a_while():
    probe = PathProbe()
    probe.answered(probe.ping(T0), T0 + 60 * MS)
    probe.answered(probe.ping(T0 + CALM_NS), T0 + CALM_NS + 260 * MS)
    now_ns = T0 + 2 * CALM_NS
    probe.ping(now_ns)
    assert probe.next_ns == now_ns + WATCHFUL_NS
    later_ns = now_ns + WATCH_NS
    probe.ping(later_ns)
    assert probe.next_ns == later_ns + CALM_NS


def test_what_answers_none_of_our_pings_is_ignored():
    probe = PathProbe()
    payload = probe.ping(T0)
    assert probe.answered(b"", T0) is None
    assert probe.answered(b"hello", T0) is None
    assert probe.answered(b"%d" % (T0 - 1), T0) is None
    assert probe.answered(b"9" * 125, T0) is None
    assert probe.answered(payload, T0 + MS) == MS
    assert probe.answered(payload, T0 + 2 * MS) is None, "the same answer counts once"


def test_an_answer_settles_the_pings_before_it():
    probe = PathProbe()
    first, second = probe.ping(T0), probe.ping(T0 + CALM_NS)
    assert probe.answered(second, T0 + CALM_NS + MS) == MS
    assert probe.answered(first, T0 + CALM_NS + MS) is None


def test_a_peer_that_answers_no_ping_costs_no_memory():
    probe = PathProbe()
    payloads = [probe.ping(T0 + n) for n in range(10 * PENDING_MAX)]
    assert probe.answered(payloads[0], T0 + MS) is None
    assert probe.answered(payloads[-1], T0 + MS) is not None
