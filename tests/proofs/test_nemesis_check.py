"""The checker: the damage that an act explains, and the damage that no act explains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proofs.acts import Deed
from proofs.nemesis_check import lived, problems_of
from shared.audio import FRAME_BYTES
from simulator.carrier.call import CallRecord, CarrierWarning, Lag, VerbRecord
from simulator.carrier.ear import Ear

from .harmed_call import END_MS, MS, START, HarmedCall, deed, gap


def test_a_gap_needs_an_act_nearby_that_can_cause_it() -> None:
    assert HarmedCall().problems() != []
    assert gap(0).problems() == []
    assert len(gap(20).problems()) == 1
    assert gap(500).problems(deed("kill", "txpacer", 1_100)) == []
    assert len(gap(700).problems(deed("kill", "txpacer", 1_100))) == 1
    assert len(gap(20).problems(deed("kill", "txpacer", 100))) == 1
    assert len(gap(20).problems(deed("kill", "callbook", 1_100))) == 1
    assert len(gap(20).problems(deed("kill", "txpacer", 1_100, failure="(there was none)"))) == 1


def test_an_act_on_another_calls_gateway_or_socket_explains_nothing() -> None:
    for kind, target, seconds in (("kill", "gateway", 0.0), ("stop", "gateway", 0.5), ("slow", "media", 0.5)):
        assert gap(100).problems(deed(kind, target, 1_100, seconds)) == []
        assert len(gap(100).problems(deed(kind, target, 1_100, seconds, hits="CA2"))) == 1


def test_a_stopped_process_explains_no_more_than_its_time() -> None:
    assert gap(700).problems(deed("stop", "gateway", 1_100, 0.5)) == []
    assert len(gap(900).problems(deed("stop", "gateway", 1_100, 0.5))) == 1


def test_the_carriers_own_lateness_explains_as_much_as_it_was_late_and_no_more() -> None:
    for ms, at_ms, left in ((90, 1_250, 0), (110, 1_250, 1), (90, 3_000, 1)):
        call = gap(ms)
        call.lags = [Lag(START + at_ms * MS, 100 * MS)]
        assert len(call.problems()) == left
    call = gap(400)
    call.lags = [Lag(START + 1_600 * MS, 500 * MS)]
    assert len(call.problems()) == 1


def test_speech_that_a_lost_socket_cut_off_has_to_be_heard_later() -> None:
    lost = deed("lose", "media", 1_200)

    def call(*, goes_on: bool) -> HarmedCall:
        made = HarmedCall()
        made.hear(0, 1_000, 200)
        made.lose(1_200)
        if goes_on:
            made.hear(1_000, 3_000, 1_400)
        return made

    assert any("never came" in each for each in call(goes_on=False).problems(lost))
    assert call(goes_on=True).problems(lost) == []
    assert any("a socket was lost" in each for each in call(goes_on=True).problems())


def test_a_lost_socket_explains_200_ms_heard_twice_and_no_lost_byte() -> None:
    def call(from_ms: int) -> HarmedCall:
        made = HarmedCall()
        made.hear(0, 1_000, 200)
        made.lose(1_200)
        made.hear(from_ms, 3_000, 1_400)
        return made

    lost = deed("kill", "gateway", 1_200)
    assert call(800).problems(lost) == []
    assert [each.partition(",")[0] for each in call(780).problems(lost)] == ["160 bytes of speech were heard twice"]
    assert any("lost" in each for each in call(1_020).problems(lost))
    assert any("twice" in each for each in call(980).problems(deed("kill", "txpacer", 1_200)))


def test_words_that_were_lost_with_their_session_need_not_be_heard() -> None:
    def problems(
        kind: str, target: str, seconds: float = 0.0, *, heard_ms: int = 1_000, done_ms: int = 1_600
    ) -> list[str]:
        """The session is closed 1 s into the call; the item was made, and would have been whole, at `done_ms`."""
        call = HarmedCall()
        call.hear(0, heard_ms, 200)
        call.closed_ms = 1_000
        call.done_ms = done_ms
        return [each for each in call.problems(deed(kind, target, 1_000, seconds)) if "never came" in each]

    assert problems("kill", "gateway") != []
    assert problems("stop", "aibridge", 2.0) != []
    assert problems("kill", "aibridge", heard_ms=1_320) == []
    # 300 ms before the end 1,312 ms of it had been made: they were due.
    assert problems("kill", "aibridge", heard_ms=1_300) != []
    # All of it had been made long before.
    assert problems("kill", "aibridge", heard_ms=2_900, done_ms=600) != []


def test_no_act_explains_a_conversation_that_does_not_come_back() -> None:
    call = gap(0)
    call.turn(5_000, 6_000)
    call.outcome = "time-limit"
    found = call.problems(deed("kill", "aibridge", 5_500))
    assert any("time-limit" in each for each in found)
    assert any("no answer" in each for each in found)


def test_an_error_of_the_history_needs_a_lost_socket_and_is_bounded() -> None:
    for held_ms, kind, target, broken in (
        (2_700, "lose", "media", 0),
        (2_690, "lose", "media", 1),
        (2_990, "kill", "aibridge", 1),
    ):
        call = gap(0)
        call.held_ms = held_ms
        assert sum("the model holds" in each for each in call.problems(deed(kind, target, 1_100))) == broken


def test_the_history_of_a_session_is_excused_by_its_end_only_within_half_a_second() -> None:
    for closed_ms, broken in ((3_600, 0), (3_800, 1)):
        call = gap(0)
        call.held_ms, call.closed_ms = 2_000, closed_ms
        found = call.problems(deed("kill", "aibridge", closed_ms - 10))
        assert sum("the model holds" in each for each in found) == broken


def test_a_session_that_ends_before_its_call_needs_an_act() -> None:
    for act, broken in ((("kill", "aibridge"), 0), (("lose", "model"), 0), (("kill", "gateway"), 1)):
        call = gap(0)
        call.closed_ms = 10_000
        found = call.problems(deed(*act, 9_990))
        assert sum("a session ended" in each for each in found) == broken


def test_all_audio_of_the_caller_has_to_reach_a_session_unless_a_socket_was_lost() -> None:
    sent = HarmedCall().sent
    at = 5_000 * 8

    def problems(received: bytes, kind: str = "kill", target: str = "gateway", at_ms: int = 5_000) -> list[str]:
        call = gap(0)
        call.input = received
        return call.problems(deed(kind, target, at_ms))

    assert problems(sent) == []
    assert problems(sent[:-2_000]) == []
    assert problems(sent[:at] + sent[at + 300 * 8 :]) == []
    assert len(problems(sent[:at] + sent[at + 320 * 8 :])) == 1
    assert len(problems(sent[:at] + sent[at + FRAME_BYTES :], at_ms=3_000)) == 1
    assert len(problems(sent[:at] + sent[at + FRAME_BYTES :], "kill", "aibridge")) == 1
    assert len(problems(sent[:at] + sent[at - FRAME_BYTES :])) == 1
    assert len(problems(sent[:at] + b"\1" * FRAME_BYTES + sent[at:])) == 1


def test_double_cancels_clears_errors_and_warnings_are_broken_promises() -> None:
    call = gap(0)
    call.cancels = 2
    call.ear.clear(START + 10_000 * MS)
    call.errors = [
        {"code": code, "at_ns": START + 5_000 * MS} for code in ("invalid_value", "response_cancel_not_active")
    ]
    call.warnings = [CarrierWarning(31951, START + 1_100 * MS, "a field")]
    found = "\n".join(call.problems(deed("kill", "gateway", 1_100)))
    for part in ("cancelled 2 times", "clear", "invalid_value", "cancels hit nothing", "31951"):
        assert part in found


def test_only_a_standstill_during_the_protected_greeting_explains_its_interruption_and_no_more_than_it_lasted() -> None:
    def problems(*deeds: Deed) -> list[str]:
        call = HarmedCall()
        call.hear(0, 300, 200)
        call.held_ms = 300
        call.turn(300, 1_500)
        return [each for each in call.problems(*deeds) if "greeting" in each]

    assert len(problems()) == 1
    assert problems(deed("stop", "gateway", 400, 1.0)) == []
    assert "50 too early" in problems(deed("stop", "gateway", 400, 0.05))[0]
    assert len(problems(deed("stop", "gateway", 800, 1.0))) == 1
    assert len(problems(deed("stop", "gateway", 400, 1.0, hits="CA2"))) == 1
    assert len(problems(deed("kill", "aibridge", 400))) == 1


def test_a_caller_may_hang_up_while_an_item_that_was_due_in_a_standstill_is_not_heard() -> None:
    def problems(*deeds: Deed) -> list[str]:
        """An item asked for 1.5 s before the call's end, whose first audio came 1 s later."""
        call = HarmedCall()
        call.created_ms, call.first_ms, call.done_ms = END_MS - 1_500, END_MS - 500, END_MS
        return [each for each in call.problems(*deeds) if "never came" in each]

    assert len(problems()) == 1
    assert problems(deed("stop", "txpacer", END_MS - 1_000, 1.5)) == []
    assert len(problems(deed("stop", "txpacer", END_MS - 4_000, 1.0))) == 1


def test_an_answer_may_be_late_by_the_cost_of_an_act_and_no_more() -> None:
    def problems(at_ms: int, *deeds: Any) -> list[str]:
        """A turn that ends 1 s into the call, and the answer at the ear at `at_ms`."""
        call = HarmedCall()
        call.turn(200, 1_000)
        call.hear(0, 3_000, at_ms)
        call.created_ms = 1_000
        return [each for each in call.problems(*deeds) if "an answer took" in each]

    assert problems(1_250) == []
    assert len(problems(1_300)) == 1
    assert problems(2_000, deed("stop", "gateway", 1_000, 0.5)) == []
    assert len(problems(2_100, deed("stop", "gateway", 1_000, 0.5))) == 1


def test_the_fallback_needs_an_act_shortly_before() -> None:
    verbs = (VerbRecord(START, "Say", "Sorry"),)
    record = CallRecord("CA1", 0, 0, (), Ear().record(), (), (), (), outcome="hung-up-by-server", verbs=verbs)
    late = deed("kill", "aibridge", -6_000, hits="CA2")
    assert len(problems_of(record, [], [late])[0]) == 1
    soon = replace(late, ended_ns=START - 4_000 * MS)
    assert problems_of(record, [], [soon])[0] == []
    assert len(problems_of(record, [], [replace(soon, act=replace(soon.act, target="media"))])[0]) == 1


def test_a_session_counts_as_ended_when_its_worker_was_stopped_until_another_took_over() -> None:
    stop = deed("stop", "aibridge", 5_000, 5.9)
    woke_ns = stop.ended_ns + 100 * MS
    before = {"opened_ns": stop.began_ns - 4_000 * MS, "closed_ns": woke_ns}
    successor = {"opened_ns": stop.began_ns + 3_200 * MS, "closed_ns": None}
    assert lived([before, successor], [stop])[0]["closed_ns"] == stop.began_ns
    assert lived([before], [stop]) == [before]
    later = successor | {"opened_ns": woke_ns + MS}
    assert lived([before, later], [stop]) == [before, later]
    # The other worker was still dialling when this one woke, found itself replaced and closed.
    at_once = before | {"closed_ns": stop.ended_ns + 8 * MS}
    dialled = successor | {"opened_ns": stop.ended_ns + 20 * MS}
    assert lived([at_once, dialled], [stop])[0]["closed_ns"] == stop.began_ns
    assert lived([at_once, later], [stop]) == [at_once, later]
    assert lived([before, successor], [deed("stop", "aibridge", 5_000, 2.0)]) == [before, successor]
    # The call ends before the worker wakes: its last session was the stopped one's, or the successor's.
    end_ns = stop.ended_ns - MS
    assert lived([before], [stop], end_ns)[0]["closed_ns"] == stop.began_ns
    assert lived([before, successor], [stop], end_ns)[1] == successor
    assert lived([before, successor], [deed("stop", "gateway", 5_000, 5.9)]) == [before, successor]


def test_the_events_of_a_stalled_workers_session_after_the_takeover_do_not_count() -> None:
    stop = deed("stop", "aibridge", 5_000, 5.9)
    soon_ns, late_ns = stop.began_ns - MS, stop.ended_ns + 50 * MS
    before = {
        "opened_ns": START,
        "closed_ns": late_ns + MS,
        "speech": [
            {"started_ns": soon_ns, "stopped_ns": late_ns},
            {"started_ns": late_ns, "stopped_ns": late_ns + 1},
        ],
        "responses": [{"id": "a", "created_ns": soon_ns}, {"id": "b", "created_ns": late_ns}],
        "items": [{"response_id": "a"}, {"response_id": "b"}, {"response_id": None}],
        "errors": [{"at_ns": late_ns}],
        "input_at": [(soon_ns, 5), (late_ns, 12)],
        "input_b64": "AAAAAAAA" * 2,
    }
    session = lived([before, {"opened_ns": stop.began_ns + 3_200 * MS, "closed_ns": None}], [stop])[0]
    assert session["speech"] == [{"started_ns": soon_ns, "stopped_ns": None}]
    assert session["responses"] == [{"id": "a", "created_ns": soon_ns}]
    assert session["items"] == [{"response_id": "a"}]
    assert session["errors"] == []
    assert session["input_b64"] == "AAAAAAA="
