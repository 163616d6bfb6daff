"""Pings among the frames: how often, and which answers count; and the samples that go to callbook."""

from __future__ import annotations

from gateway.core.metrics import DEFINITIONS, Metrics
from gateway.core.path import (
    CALM_NS,
    EXACT_NS,
    KEPT_NS,
    LONGER_NS,
    PENDING_MAX,
    SAMPLES_MAX,
    SECOND_NS,
    UNANSWERED_NS,
    UNKNOWN_NS,
    WATCH_NS,
    WATCHFUL_NS,
    PathLog,
    PathProbe,
)
from shared.facts import StreamPath
from shared.metrics import Page

MS = 1_000_000
T0 = 1_000_000 * MS


def metrics() -> Metrics:
    return Metrics(Page.in_memory(DEFINITIONS))


def test_the_first_ping_follows_the_first_frame_and_paths_that_proved_calm_are_pinged_more_seldom():
    probe = PathProbe(metrics())
    assert probe.next_ns <= T0
    payload = probe.ping(T0)
    assert probe.next_ns == T0 + WATCHFUL_NS
    probe.ping(T0 + UNKNOWN_NS)
    assert probe.next_ns == T0 + UNKNOWN_NS + CALM_NS
    assert probe.answered(payload, T0 + 60 * MS) == 60 * MS


def test_a_delayed_answer_makes_the_probe_watchful_for_a_while():
    probe = PathProbe(metrics())
    probe.answered(probe.ping(T0), T0 + 60 * MS)
    late_ns = T0 + UNKNOWN_NS
    probe.answered(probe.ping(late_ns), late_ns + 260 * MS)
    now_ns = late_ns + 2 * CALM_NS
    probe.ping(now_ns)
    assert probe.next_ns == now_ns + WATCHFUL_NS
    later_ns = now_ns + WATCH_NS
    probe.ping(later_ns)
    assert probe.next_ns == later_ns + CALM_NS


def test_a_path_that_became_longer_is_calm_again():
    probe = PathProbe(metrics())
    probe.answered(probe.ping(T0), T0 + 60 * MS)
    for now_ns in range(T0 + UNKNOWN_NS, T0 + UNKNOWN_NS + LONGER_NS + WATCH_NS + 4 * WATCHFUL_NS, WATCHFUL_NS):
        probe.answered(probe.ping(now_ns), now_ns + 160 * MS)
    probe.ping(now_ns)
    assert probe.next_ns == now_ns + CALM_NS


def test_where_interruptions_send_clear_every_third_frame_is_pinged():
    by_setting, by_agent = PathProbe(metrics(), exact=True), PathProbe(metrics())
    by_agent.cleared()
    for probe in (by_setting, by_agent):
        for now_ns in (T0, T0 + UNKNOWN_NS, T0 + 2 * UNKNOWN_NS):
            probe.ping(now_ns)
            assert probe.next_ns == now_ns + EXACT_NS


def test_what_answers_none_of_our_pings_is_ignored():
    probe = PathProbe(metrics())
    payload = probe.ping(T0)
    assert probe.answered(b"", T0) is None
    assert probe.answered(b"hello", T0) is None
    assert probe.answered(b"%d" % (T0 - 1), T0) is None
    assert probe.answered(b"9" * 125, T0) is None
    assert probe.answered(payload, T0 + MS) == MS
    assert probe.answered(payload, T0 + 2 * MS) is None, "the same answer counts once"


def test_an_answer_settles_the_pings_before_it():
    probe = PathProbe(metrics())
    first, second = probe.ping(T0), probe.ping(T0 + CALM_NS)
    assert probe.answered(second, T0 + CALM_NS + MS) == MS
    assert probe.answered(first, T0 + CALM_NS + MS) is None


def test_a_peer_that_answers_no_ping_costs_no_memory():
    probe = PathProbe(metrics())
    payloads = [probe.ping(T0 + n) for n in range(10 * PENDING_MAX)]
    assert probe.answered(payloads[0], T0 + MS) is None
    assert probe.answered(payloads[-1], T0 + MS) is not None


def test_round_trips_are_observed_and_pings_without_an_answer_are_counted():
    counts = metrics()
    probe = PathProbe(counts)
    payloads = [probe.ping(T0 + n * CALM_NS) for n in range(4)]
    probe.answered(payloads[2], T0 + 2 * CALM_NS + 60 * MS)
    assert (counts.ping.count, counts.pings_unanswered.value) == (1, 2)
    probe.ended(T0 + 3 * CALM_NS + UNANSWERED_NS)
    assert counts.pings_unanswered.value == 2, "the last one may still be answered"
    probe.ended(T0 + 4 * CALM_NS + UNANSWERED_NS)
    assert counts.pings_unanswered.value == 3


def test_all_pings_of_a_peer_that_answers_none_are_counted():
    counts = metrics()
    probe = PathProbe(counts)
    for n in range(3 * PENDING_MAX):
        probe.ping(T0 + n * CALM_NS)
    probe.ended(T0 + 4 * PENDING_MAX * CALM_NS)
    assert counts.pings_unanswered.value == 3 * PENDING_MAX


def test_samples_go_to_callbook_when_there_are_many_or_the_first_is_old():
    log = PathLog("CA1", "MZ1")
    assert not log.is_due(T0)
    log.add(120, 40, 0, 0, T0 + SECOND_NS)
    log.add(140, 40, 95, 20, T0 + 2 * SECOND_NS)
    assert not log.is_due(T0 + KEPT_NS - 1)
    assert log.is_due(T0 + KEPT_NS)
    (fact,) = log.take(lambda at_ns: at_ns // MS)
    assert fact == StreamPath("CA1", "MZ1", T0 // MS, ((0, 120, 40, 0, 0), (1_000, 140, 40, 95, 20)))
    assert log.take(lambda at_ns: at_ns // MS) == []
    for n in range(SAMPLES_MAX):
        assert not log.is_due(T0 + KEPT_NS)
        log.add(n, 40, 0, 0, T0 + KEPT_NS)
    assert log.is_due(T0 + KEPT_NS)
