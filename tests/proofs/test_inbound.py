"""The comparison of what the sessions heard of the caller with what the caller sent."""

from __future__ import annotations

from array import array

from proofs.inbound import END_NS, Inbound, compare
from shared.audio import FRAME_BYTES
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import Said, line_audio
from simulator.carrier.ear import Ear
from simulator.voice import clip

MS = 1_000_000
FRAMES = 500  # 10 s
HELLO = clip("hello").audio
SAID = (Said(0, "hello", HELLO, 50), Said(0, "hello", HELLO, 250))
SENT = line_audio(3, SAID, FRAMES)


def heard(*inputs: bytes, last_closed_ns: int | None = None) -> Inbound:
    call = CallRecord(
        call_sid="CA1",
        started_ns=0,
        ended_ns=FRAMES * 20 * MS,
        streams=(),
        ear=Ear().record(),
        said=SAID,
        keys=(),
        warnings=(),
        sent_ns=array("q", (n * 20 * MS for n in range(FRAMES))),
        noise_seed=3,
    )
    return compare(call, inputs, last_closed_ns)


def test_a_session_that_heard_everything_misses_nothing() -> None:
    found = heard(SENT)
    assert list(found.problems()) == []
    assert [(each.begin, each.end) for each in found.heard] == [(0, len(SENT))]


def test_audio_in_flight_at_the_end_of_the_call_need_not_be_heard_and_earlier_audio_must() -> None:
    on_its_way = END_NS // MS * 8
    assert heard(SENT[:-on_its_way]).missing == ()
    assert [each.ms for each in heard(SENT[: -on_its_way - FRAME_BYTES]).missing] == [20]


def test_audio_that_no_session_heard_is_reported_with_its_time() -> None:
    (missing,) = heard(SENT[:16_000] + SENT[16_200:]).missing
    assert (missing.at_ns, missing.ms) == (2_000 * MS, 25)


def test_a_successor_may_hear_again_what_its_predecessor_heard_and_must_hear_the_rest() -> None:
    whole = heard(SENT[:40_000], SENT[38_000:])
    assert (whole.missing, whole.repeated_bytes) == ((), 0)
    assert [each.ms for each in heard(SENT[:40_000], SENT[40_160:]).missing] == [20]


def test_a_recording_that_the_caller_says_twice_is_located_by_what_follows_it() -> None:
    again = 250 * FRAME_BYTES + 800
    assert [(each.begin, each.end) for each in heard(SENT[:again], SENT[again:]).heard] == [
        (0, again),
        (again, len(SENT)),
    ]


def test_audio_that_one_session_hears_twice_or_in_another_order_counts_as_repeated() -> None:
    assert heard(SENT[:8_000] + SENT[7_840:]).repeated_bytes == 160
    swapped = SENT[:8_000] + SENT[8_160:8_320] + SENT[8_000:8_160] + SENT[8_320:]
    assert heard(swapped).repeated_bytes == 160


def test_audio_of_another_caller_counts_as_invented() -> None:
    other = line_audio(4, (), 1)
    assert heard(SENT[:8_000] + other + SENT[8_000:]).invented_bytes == FRAME_BYTES


def test_audio_after_the_last_session_of_a_call_need_not_be_heard() -> None:
    assert heard(SENT[:40_000], last_closed_ns=5_000 * MS).missing == ()
    assert heard(SENT[:40_000]).missing != ()
