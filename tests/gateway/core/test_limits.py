from __future__ import annotations

from gateway.core import limits
from gateway.core.limits import AUDIO_AT_ONCE_NS, MESSAGES_AT_ONCE, MESSAGES_PER_S, AudioRate, Lateness, MessageRate
from shared.audio import BYTE_NS

SECOND = 1_000_000_000
NOW = 1_000 * SECOND
LATE = 60_000_000


def test_a_backlog_of_messages_is_accepted_at_once_up_to_its_bound():
    rate = MessageRate()
    assert all(rate.allows(NOW) for _ in range(MESSAGES_AT_ONCE))
    assert not rate.allows(NOW)


def test_twilios_rate_is_allowed_for_any_time_and_six_times_it_is_not():
    steady, flood = MessageRate(), MessageRate()
    assert all(steady.allows(NOW + n * SECOND // 50) for n in range(50 * 3_600))
    allowed = sum(flood.allows(NOW + n * SECOND // (6 * 50)) for n in range(6 * 50 * 60))
    assert allowed < MESSAGES_PER_S * 60 + MESSAGES_AT_ONCE + 1


def test_audio_is_real_time_except_for_a_backlog():
    rate = AudioRate()
    assert rate.allows(AUDIO_AT_ONCE_NS // BYTE_NS, NOW)
    assert not rate.allows(1, NOW)
    rate = AudioRate()
    assert all(rate.allows(160, NOW + n * SECOND // 50) for n in range(50 * 3_600))


def test_a_machine_is_full_when_more_than_a_few_frames_are_late():
    lateness = Lateness(LATE)
    for n in range(1_000):
        late_ns = 2 * LATE if n % 10 == 0 else 0
        lateness.observe(1, late_ns, NOW + n * SECOND // 500)
    now = NOW + 2 * SECOND
    assert lateness.is_full(now)
    assert not lateness.is_full(now + limits.LATENESS_WINDOW_NS + SECOND)


def test_a_few_late_frames_or_a_few_frames_do_not_make_a_machine_full():
    lateness = Lateness(LATE)
    for n in range(1_000):
        lateness.observe(1, 2 * LATE if n % 100 == 0 else LATE, NOW + n * SECOND // 500)
    assert not lateness.is_full(NOW + 2 * SECOND)
    lateness = Lateness(LATE)
    for n in range(limits.LATENESS_FRAMES - 1):
        lateness.observe(1, 10 * LATE, NOW + n * SECOND // 100)
    assert not lateness.is_full(NOW + SECOND)


def test_a_single_stall_does_not_make_a_machine_full():
    lateness = Lateness(LATE)
    for n in range(200):
        lateness.observe(1, 0, NOW + n * SECOND // 200)
    lateness.observe(200, 10 * LATE, NOW + 2 * SECOND)  # the backlog after it
    assert not lateness.is_full(NOW + 2 * SECOND)
