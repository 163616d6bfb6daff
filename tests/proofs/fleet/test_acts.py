"""How the fleet's proof measures what a caller heard when a cell was lost."""

from __future__ import annotations

from proofs.fleet.acts import Report, during_call, is_moved, silence_ms
from shared.audio import FRAME_BYTES, FRAME_NS
from simulator.carrier.call import CallRecord, StreamRecord
from simulator.carrier.ear import Ear

MS = 1_000_000
ENDED_NS = 20_000 * MS


def call(*spoken_ms: tuple[int, int], streams: int = 2) -> CallRecord:
    """A call in which the AI is heard from and until these times; it lasts 20 s."""
    ear = Ear()
    for began_ms, ended_ms in spoken_ms:
        for at_ns in range(began_ms * MS, ended_ms * MS, FRAME_NS):
            ear.media(bytes(FRAME_BYTES), at_ns)
    sockets = tuple(StreamRecord(f"MZ{number}", 0, ENDED_NS, "server", {}) for number in range(streams))
    return CallRecord("CA1", 0, ENDED_NS, sockets, ear.record(), (), (), (), outcome="hung-up-by-caller")


def test_the_silence_of_a_lost_cell_begins_after_the_speech_that_was_already_sent():
    assert silence_ms(call((0, 5_120), (7_000, 20_000)), 5_000 * MS) == 1_880


def test_the_silence_of_a_cell_that_is_lost_during_a_pause_begins_with_the_loss():
    assert silence_ms(call((0, 4_000), (7_000, 20_000)), 5_000 * MS) == 2_000


def test_a_pause_before_the_loss_is_not_its_silence():
    assert silence_ms(call((0, 1_000), (3_000, 5_120), (6_120, 20_000)), 5_000 * MS) == 1_000


def test_an_ai_that_is_never_heard_again_is_no_silence_of_zero():
    assert silence_ms(call((0, 5_120)), 5_000 * MS) is None
    assert silence_ms(call(), 5_000 * MS) is None


def test_an_ai_that_speaks_until_the_end_was_never_silent():
    assert silence_ms(call((0, 20_000)), 5_000 * MS) == 0


def test_a_call_moved_when_it_began_a_second_media_socket():
    assert is_moved(call((0, 20_000)))
    assert not is_moved(call((0, 20_000), streams=1))


def test_a_broken_bound_is_among_the_lines_too():
    report = Report([], [])
    report.bound("refused 0", True)
    report.bound("cut off 2", False)
    assert (report.lines, report.broken) == (["refused 0", "cut off 2"], ["cut off 2"])


def test_only_a_session_that_was_opened_after_the_call_is_not_judged():
    sessions = [{"opened_ns": at_ns} for at_ns in (0, ENDED_NS - 1, ENDED_NS, ENDED_NS + 1)]
    assert during_call(call(), sessions) == sessions[:2]
