"""How `twentyms call` judges what a caller heard."""

from __future__ import annotations

from shared.audio import FRAME_BYTES, FRAME_NS
from simulator.carrier.call import CallRecord, CarrierWarning
from simulator.carrier.caller import Said
from simulator.carrier.ear import Ear
from twentyms.heard import verdict

FRAME = bytes(FRAME_BYTES)


def record(ear: Ear, *, said: tuple[Said, ...] = (), **fields) -> CallRecord:
    values = {"outcome": "hung-up-by-caller", "warnings": (), **fields}
    return CallRecord("CA1", 0, 10**10, (), ear.record(), said, (), **values)


def heard(*utterances: list[int]) -> Ear:
    """Each utterance is a list of the frame times, in frames, at which its frames arrive; a mark follows."""
    ear = Ear()
    for arrivals in utterances:
        for at in arrivals:
            ear.media(FRAME, at * FRAME_NS)
        ear.mark("1.1", arrivals[-1] * FRAME_NS)
    return ear


def test_silence_between_two_utterances_is_no_gap():
    lines, problems = verdict(record(heard([0, 0, 0], [50, 50])), lead_ms=120)
    assert not problems
    assert "gaps at the ear    0 (0.0 ms)" in lines


def test_silence_inside_an_utterance_is_a_gap():
    lines, problems = verdict(record(heard([0, 3])), lead_ms=120)
    assert "gaps at the ear    1 (40.0 ms)" in lines
    assert problems == ["1 gaps at the ear, the longest 40 ms; see docs/operations.md, EarGaps"]


def test_a_mark_inside_an_utterance_does_not_end_it():
    ear = Ear()
    ear.media(FRAME, 0)
    ear.mark("0.0.1", 0)
    ear.media(FRAME, 3 * FRAME_NS)
    ear.mark("0.1.2", 3 * FRAME_NS)
    lines, _ = verdict(record(ear), lead_ms=120)
    assert "gaps at the ear    1 (40.0 ms)" in lines


def test_an_ai_that_speaks_on_after_an_interruption_is_a_problem():
    said = (Said(2 * FRAME_NS, "hello", FRAME),)
    assert not verdict(record(heard([0] * 12), said=said), lead_ms=120)[1]
    (problem,) = verdict(record(heard([0] * 60), said=said), lead_ms=120)[1]
    assert problem == "the AI spoke on for 1160 ms after it was interrupted"


def test_a_call_in_which_nothing_was_heard_has_problems_and_no_figures():
    lines, problems = verdict(
        record(Ear(), outcome="failed", warnings=(CarrierWarning(11200, 0, "refused"),)), lead_ms=120
    )
    assert [problem.split(";")[0] for problem in problems] == [
        "the caller did not end the call: failed",
        "refused (as Twilio's debugger would say, 11200)",
        "the caller heard nothing",
    ]
    assert lines == ["call               CA1, 10.0 s, failed"]
