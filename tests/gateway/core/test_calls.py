"""The life of calls in virtual time: what happens, and what the gateway then does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.commands import (
    CloseSocket,
    CloseStory,
    EarEcho,
    KeepStory,
    MoveAudio,
    Note,
    Release,
    ShowNote,
    ToPacer,
)
from gateway.core.fallback import FallbackCause
from gateway.core.hangup import Close, Event, Stage
from gateway.core.media_streams import Dtmf, DtmfFields, Stop
from shared.facts import StreamBegan, StreamEnded, StreamPath
from shared.liveness import IDLE_S, MARK_S, PACER_GONE_S, PEER_SILENT_S, UNREAD_S
from shared.messages import (
    CallAdopted,
    CallElsewhere,
    CallEnded,
    CallerDtmf,
    CallMemory,
    CallNote,
    CallOffered,
    CallOver,
    CallStarted,
    CallTaken,
    CloseLine,
    EndCall,
    FirstFrameSent,
    FollowCall,
    LineLost,
    MarkHeard,
    PathSamples,
    RefuseCall,
    WorkerState,
)
from shared.plan import Conference, Dial, Fallback, HangUp

from .bench import RULES, SECOND_NS, Bench


def test_a_call_begins_at_the_worker_that_dialled_ahead_and_is_told_to_everybody_when_it_ends():
    bench = Bench()
    call = bench.call()
    (offered,) = bench.taken(CallOffered)
    (started,) = bench.to_worker(call.worker)[-1:]
    assert isinstance(started, CallStarted)
    assert (started.call, started.gateway, started.token_id) == (call.number, "gw", offered.token_id)
    assert started.plan == offered.plan
    bench.commands += bench.calls.received(call, Stop("MZ1"), bench.now_ns)
    assert bench.taken(CallEnded) == [CallEnded(call.number, "stop")]
    assert bench.taken(ToPacer) == [ToPacer(CloseLine(call.number))]
    assert bench.taken(Release) == [Release(call.number, call.worker)]
    assert bench.taken(CloseSocket) == []  # the peer closes
    assert bench.calls.is_idle


def test_the_first_frame_and_the_end_are_told_to_callbook_and_nothing_is_before():
    bench = Bench()
    call = bench.call()
    assert bench.taken(Note) == []
    bench.speaks(call, 3)
    assert [type(note.fact) for note in bench.taken(Note)] == [StreamBegan]
    assert bench.taken(FirstFrameSent) == [FirstFrameSent(call.number, 1_000 * SECOND_NS)]
    bench.commands += bench.calls.received(call, Stop("MZ1"), bench.now_ns)
    (note,) = bench.taken(Note)
    assert isinstance(note.fact, StreamEnded)
    assert (note.fact.frames, note.fact.wire_gap_max_us) == (3, 20_000)


def test_keys_and_marks_go_to_the_worker_and_notes_to_the_page():
    bench = Bench()
    call = bench.call()
    bench.commands += bench.calls.received(call, Dtmf("MZ1", DtmfFields("5")), bench.now_ns)
    assert bench.taken(CallerDtmf) == [CallerDtmf(call.number, "5", bench.now_ns)]
    bench.echo(call, "0.3.10")
    assert bench.taken(MarkHeard) == [MarkHeard(call.number, 0, 3, bench.now_ns)]
    (echo,) = bench.taken(EarEcho)
    assert (echo.seq, echo.at_ns) == (10, bench.now_ns)
    call.way_back.media, call.way_back.media_ns = b'"timestamp":"20"', bench.now_ns - 100_000_000
    bench.echo(call, "0.0.11")
    (echo,) = bench.taken(EarEcho)
    assert (echo.seq, echo.at_ns) == (11, bench.now_ns - 80_000_000)
    bench.echo(call, "not ours")
    assert (bench.taken(MarkHeard), bench.metrics.marks_unknown.value) == ([], 1)
    bench.says(call.worker, CallNote(call.number, b"{}"))
    assert bench.taken(ShowNote) == [ShowNote(call.number, b"{}")]


def test_what_txpacer_sees_of_a_path_reaches_callbook_within_a_minute_and_at_the_end_and_never_before_a_frame():
    bench = Bench()
    call = bench.call()
    bench.calls.path_seen(PathSamples(((call.number, 120, 0, 0, 0), (99, 60, 0, 0, 0))), bench.now_ns)
    bench.speaks(call)
    bench.taken(Note)
    began_ms = bench.now_ns // 1_000_000 - 1_000
    bench.calls.path_seen(PathSamples(((call.number, 110, 40, 15, 0),)), bench.now_ns)
    bench.wait(58)
    assert bench.taken(Note) == []
    bench.wait(1.5)
    assert bench.taken(Note) == [Note(StreamPath("CA1", "MZ1", began_ms, ((0, 110, 40, 15, 0),)))]
    bench.calls.path_seen(PathSamples(((call.number, 180, 40, 260, 80),)), bench.now_ns)
    bench.commands += bench.calls.received(call, Stop("MZ1"), bench.now_ns)
    last, ended = (note.fact for note in bench.taken(Note))
    assert last.samples == ((0, 180, 40, 260, 80),)
    assert isinstance(ended, StreamEnded)


# --- the end that aibridge orders ---


def test_an_order_is_carried_out_when_its_utterance_was_heard():
    bench = Bench()
    call = bench.call()
    bench.speaks(call, 10, mark=1)
    bench.says(call.worker, EndCall(call.number, HangUp(), 1))
    assert (call.stage, bench.taken(CloseSocket)) == (Stage.LEAVING, [])
    bench.echo(call, "0.1.10")
    assert bench.taken(CloseSocket) == [CloseSocket(call.number, Close.NORMAL)]
    assert bench.taken(CallEnded) == [CallEnded(call.number, "hung-up")]
    assert bench.answer("CA1") == HangUp()


@pytest.mark.parametrize("order", [HangUp(), Dial("+3"), Conference("room"), Fallback()])
def test_an_order_without_an_utterance_is_carried_out_at_once_and_answers_twilio(order):
    bench = Bench()
    call = bench.call()
    bench.says(call.worker, EndCall(call.number, order, 0))
    assert bench.taken(CloseSocket) == [CloseSocket(call.number, Close.NORMAL)]
    assert bench.answer("CA1") == order


def test_marks_from_before_a_clear_do_not_confirm_a_goodbye():
    bench = Bench()
    call = bench.call()
    call.heard.clear_sent()
    bench.says(call.worker, EndCall(call.number, HangUp(), 2))
    bench.echo(call, "0.2.10")
    bench.echo(call, "1.1.10")
    assert call.stage is Stage.LEAVING
    bench.echo(call, "1.2.10")
    assert call.stage is Stage.OVER


def test_a_goodbye_without_its_mark_ends_after_silence_and_not_while_it_is_spoken():
    bench = Bench()
    call = bench.call()
    bench.says(call.worker, EndCall(call.number, HangUp(), 1))
    for _ in range(int(MARK_S) + 5):
        bench.speaks(call, 50)
        bench.wait(1)
    assert call.stage is Stage.LEAVING
    bench.wait(MARK_S - 2)
    assert call.stage is Stage.LEAVING
    bench.wait(2)
    assert call.stage is Stage.OVER
    assert bench.answer("CA1") == HangUp()


def test_a_worker_that_dies_during_the_goodbye_changes_nothing():
    bench = Bench()
    call = bench.call()
    bench.speaks(call, 10, mark=1)
    bench.says(call.worker, EndCall(call.number, HangUp(), 1))
    bench.taken(CallStarted)
    del bench.workers[call.worker]
    bench.wait(PEER_SILENT_S + 2)
    # Another worker is ready. It would begin to talk again, and it would not know how the call ends.
    assert bench.taken(CallStarted) == []
    bench.echo(call, "0.1.10")
    assert bench.taken(CallEnded) == [CallEnded(call.number, "hung-up")]
    assert bench.answer("CA1") == HangUp()


def test_the_order_of_a_call_reaches_the_other_gateways_through_another_worker_too():
    bench = Bench()
    call = bench.call()
    bench.says(call.worker, EndCall(call.number, HangUp(), 0))
    assert CallOver(call.call_sid, HangUp()) in bench.to_worker(1 - call.worker)


@pytest.mark.parametrize("order", [HangUp(), Dial("+3")])
def test_a_socket_of_a_call_whose_order_has_become_known_carries_the_order_out(order):
    bench = Bench()
    parameters = bench.offer("CA1", resumed=True)
    bench.says(0, CallOver("CA1", order))
    call = bench.open("CA1", parameters)
    assert call is not None
    assert bench.taken(CallStarted) == []
    assert bench.taken(CallTaken) == [CallTaken("CA1")]  # the session dialled ahead is not needed
    assert bench.taken(CloseSocket) == [CloseSocket(call.number, Close.NORMAL)]
    assert bench.answer("CA1") == order


def test_a_call_that_is_back_from_its_order_begins_again():
    bench = Bench()
    bench.says(0, CallOver("CA1", Dial("+3")))
    call = bench.open("CA1", bench.offer("CA1", resumed=True, returned="busy"))
    assert call is not None
    assert [started.returned for started in bench.taken(CallStarted)] == ["busy"]
    assert bench.taken(CloseSocket) == []


def test_a_worker_that_restarts_during_the_goodbye_does_not_get_the_call_again():
    bench = Bench()
    call = bench.call()
    bench.says(call.worker, EndCall(call.number, HangUp(), 1))
    bench.taken(CallStarted)
    bench.workers[call.worker] = 2
    bench.hello()
    assert bench.taken(CallStarted) == []
    bench.wait(MARK_S + 1)
    assert bench.taken(CallEnded) == [CallEnded(call.number, "hung-up")]


def test_an_order_survives_the_loss_of_the_socket():
    bench = Bench()
    call = bench.call()
    bench.says(call.worker, EndCall(call.number, HangUp(), 1))
    bench.heard_ns[call.number] = bench.now_ns
    bench.wait(IDLE_S + 1)
    assert call.stage is Stage.OVER
    assert bench.answer("CA1") == HangUp()


def test_a_refused_token_ends_the_socket_and_says_nothing_about_the_call():
    bench = Bench()
    call = bench.call()
    bench.says(call.worker, RefuseCall(call.number))
    assert bench.taken(CloseSocket) == [CloseSocket(call.number, Close.VIOLATION)]
    assert bench.metrics.starts_refused["used"].value == 1
    assert bench.answer("CA1") is None


def test_another_gateways_order_answers_twilio_here():
    bench = Bench()
    bench.says(0, CallOver("CA1", Dial("+3")))
    assert bench.answer("CA1") == Dial("+3")


# --- workers ---


@pytest.mark.parametrize("followed", [False, True])
def test_a_call_whose_worker_is_gone_is_handed_over_with_all_that_is_kept_of_it(followed):
    bench = Bench()
    call = bench.call(followed=followed)
    bench.says(call.worker, CallMemory(call.number, b"what was said"))
    bench.commands += bench.calls.received(call, Dtmf("MZ1", DtmfFields("5")), bench.now_ns)
    pressed = bench.taken(CallerDtmf)
    before = call.worker
    (first,) = bench.taken(CallStarted)
    assert len(bench.taken(FollowCall)) == followed
    del bench.workers[before]
    bench.wait(PEER_SILENT_S)
    (again,) = bench.taken(CallStarted)
    assert (again.call, again.handover, again.memory, again.plan) == (call.number, 1, b"what was said", first.plan)
    assert bench.taken(CallerDtmf) == pressed, "the worker that is gone may not have read it"
    assert CallEnded(call.number, "moved") in bench.to_worker(before)
    assert bench.taken(MoveAudio) == [MoveAudio(call.number, before, call.worker)]
    # The page goes on showing what is said.
    assert len(bench.taken(FollowCall)) == followed
    assert bench.metrics.calls_given_again.value == 1


@pytest.mark.parametrize("followed", [False, True])
def test_a_restarted_worker_gets_its_calls_again(followed):
    bench = Bench()
    mine, other = bench.call("CA1", followed=followed), bench.call("CA2")
    assert mine.worker != other.worker
    bench.taken(CallStarted)
    bench.taken(FollowCall)
    bench.workers[mine.worker] = 2
    bench.hello()
    (again,) = bench.taken(CallStarted)
    assert (again.call, again.handover) == (mine.number, 1)
    assert len(bench.taken(FollowCall)) == followed
    bench.hello()
    assert bench.taken(CallStarted) == []


def test_a_stalled_worker_has_no_say_in_a_call_that_was_handed_over():
    bench = Bench()
    call = bench.call()
    before = call.worker
    del bench.workers[before]
    bench.wait(PEER_SILENT_S)
    for message in (EndCall(call.number, HangUp(), 0), CallMemory(call.number, b"x"), CallNote(call.number, b"{}")):
        bench.says(before, message)
    assert bench.metrics.bus_foreign.value == 3
    assert (call.stage, call.memory, bench.taken(ShowNote)) == (Stage.TALKING, b"", [])


def test_calls_that_nobody_serves_get_the_fallback():
    bench = Bench()
    call = bench.call()
    bench.workers.clear()
    bench.wait(PEER_SILENT_S + 9)
    assert call.stage is Stage.TALKING
    bench.wait(2)
    assert bench.taken(CallEnded) == [CallEnded(call.number, "hung-up")]
    assert bench.taken(CloseSocket) == [CloseSocket(call.number, Close.NORMAL)]
    assert bench.answer("CA1") == Fallback()
    assert bench.metrics.fallbacks[FallbackCause.UNSERVED].value == 1


def test_time_that_a_gateway_was_suspended_does_not_count_against_its_calls():
    bench = Bench()
    call = bench.call()
    bench.now_ns += 3_600 * SECOND_NS
    bench.sweep()  # before anybody's answer is read
    bench.wait(5)
    assert call.stage is Stage.TALKING


# --- txpacer ---


def test_another_txpacer_is_told_by_each_worker_how_far_the_frames_came():
    bench = Bench()
    call = bench.call()
    bench.speaks(call, 10, mark=1)
    bench.speaks(call, 4)
    bench.pacer = 2
    bench.hello()
    wire_ns = bench.now_ns - 20_000_000
    assert bench.taken(LineLost) == [LineLost(call.number, 2, ((1, 10),), 4, 14, wire_ns)]


def test_calls_get_the_fallback_when_txpacer_is_gone_for_good():
    bench = Bench()
    call = bench.call()
    bench.pacer = None
    bench.wait(PACER_GONE_S - 1)
    assert call.stage is Stage.TALKING
    bench.wait(2)
    assert bench.taken(CallEnded) == [CallEnded(call.number, "hung-up")]
    assert bench.answer("CA1") == Fallback()
    assert bench.metrics.fallbacks[FallbackCause.SILENT].value == 1


def test_a_txpacer_that_comes_back_in_time_keeps_its_calls():
    bench = Bench()
    call = bench.call()
    bench.pacer = None
    bench.wait(PACER_GONE_S - 1)
    bench.pacer = 2
    bench.wait(60)
    assert call.stage is Stage.TALKING


# --- sockets ---


def test_a_second_socket_of_a_call_replaces_the_first():
    bench = Bench()
    first = bench.call()
    second = bench.open("CA1", bench.offer("CA1", resumed=True))
    assert second is not None
    assert bench.taken(CloseSocket) == [CloseSocket(first.number, Close.NORMAL)]
    assert bench.taken(CallEnded) == [CallEnded(first.number, "lost")]
    assert list(bench.calls.by_number) == [second.number] == [first.number + 1]
    assert bench.metrics.calls.value == 1


def test_a_socket_of_which_nothing_comes_is_given_up():
    bench = Bench()
    call = bench.call()
    bench.heard_ns[call.number] = bench.now_ns
    bench.wait(IDLE_S)
    assert call.stage is Stage.TALKING
    bench.wait(1)
    assert bench.taken(CloseSocket) == [CloseSocket(call.number, Close.ABORT)]
    assert bench.metrics.calls_cut["idle"].value == 1


def test_a_socket_that_takes_no_frame_is_given_up_and_one_that_took_all_is_not():
    bench = Bench()
    deaf, slow = bench.call("CA1"), bench.call("CA2")
    bench.unsent_bytes = {deaf.number: 9_000, slow.number: 9_000}
    bench.wait(UNREAD_S)
    bench.unsent_bytes[slow.number] = 0
    bench.wait(2)
    assert bench.taken(CloseSocket) == [CloseSocket(deaf.number, Close.ABORT)]
    assert bench.metrics.calls_cut["unread"].value == 1
    bench.wait(60)
    assert slow.stage is Stage.TALKING


@pytest.mark.parametrize(("others", "reason"), [(0, "hung-up"), (1, "lost")])
def test_when_draining_is_over_calls_end_or_are_left_to_another_gateway(others, reason):
    bench = Bench()
    call = bench.call()
    bench.says(0, WorkerState(0, True, 0, 1, others))
    bench.commands += bench.calls.drained(bench.now_ns)
    assert bench.taken(CallEnded) == [CallEnded(call.number, reason)]
    assert bench.calls.is_idle
    # Twilio asks this gateway what follows, as long as it answers.
    assert bench.calls.offers.admission.order("CA1") == (None if others else HangUp())


def test_sockets_between_handshake_and_start_are_bounded_and_keep_a_gateway_from_ending():
    bench = Bench()
    for _ in range(10):
        assert bench.calls.is_accepting
        bench.calls.accepted()
    assert not bench.calls.is_accepting
    assert not bench.calls.is_idle
    bench.calls.unstarted_over()
    assert bench.calls.is_accepting


# --- other gateways ---


def test_a_call_comes_back_to_the_worker_that_took_it_over():
    bench = Bench()
    bench.says(1, CallAdopted("CA1"))
    answer = bench.offer("CA1", resumed=True, worker=0)
    assert answer["token"].split(".")[1] == "1"


def test_a_worker_whose_offer_was_used_elsewhere_is_told():
    bench = Bench()
    bench.offer("CA1")
    (dials,) = [worker for worker in (0, 1) if bench.to_worker(worker)]
    bench.says(dials, CallTaken("CA1"))  # at another gateway, and the same worker
    assert bench.taken(CallTaken) == []
    bench.offer("CA2")
    (dials,) = [worker for worker in (0, 1) if any(m.call_sid == "CA2" for m in bench.to_worker(worker))]
    bench.says(1 - dials, CallTaken("CA2"))
    assert bench.to_worker(dials)[-1] == CallTaken("CA2")


# --- stories that leave the machine ---

KEEPING = replace(RULES, cell="here", fleet=True, recalls=True)


def test_without_state_url_no_story_leaves_the_gateway():
    bench = Bench()
    call = bench.call()
    bench.says(call.worker, CallMemory(call.number, b"story"))
    bench.commands += bench.calls.received(call, Stop("MZ1"), bench.now_ns)
    assert bench.taken(KeepStory) + bench.taken(CloseStory) == []


def test_a_story_is_kept_when_it_changes_and_once_a_minute():
    bench = Bench(KEEPING)
    call = bench.call()
    bench.says(call.worker, CallMemory(call.number, b"story"))
    assert bench.taken(KeepStory) == [KeepStory("CA1", b"story", call.since_ms)]
    bench.wait(59)
    assert bench.taken(KeepStory) == []
    bench.wait(3)
    assert bench.taken(KeepStory) == [KeepStory("CA1", b"story", call.since_ms)]
    assert list(bench.calls.stories()) == [KeepStory("CA1", b"story", call.since_ms)]


def test_a_caller_who_hung_up_closes_the_story_and_a_lost_socket_does_not():
    for event, closed in ((Event.STOPPED, True), (Event.SOCKET_LOST, False), (Event.TOKEN_REFUSED, False)):
        bench = Bench(KEEPING)
        call = bench.call()
        bench.says(call.worker, CallMemory(call.number, b"story"))
        bench.commands += bench.calls.happened(call, event, bench.now_ns)
        assert bench.taken(CloseStory) == ([CloseStory("CA1", HangUp(), b"story", call.since_ms)] if closed else [])


def test_an_order_that_was_carried_out_is_told_before_the_socket_closes():
    bench = Bench(KEEPING)
    call = bench.call()
    dial = Dial("+15550123")
    bench.says(call.worker, EndCall(call.number, dial, 0))
    kinds = [type(command) for command in bench.commands]
    assert kinds.index(CloseStory) < kinds.index(CloseSocket)
    assert bench.taken(CloseStory) == [CloseStory("CA1", dial, b"", call.since_ms)]


def test_a_call_that_went_on_in_another_cell_ends_here_without_an_end_for_others_when_its_caller_is_not_heard():
    bench = Bench(KEEPING)
    call = bench.call()
    bench.says(call.worker, CallMemory(call.number, b"story"))
    bench.heard_ns[call.number] = bench.now_ns
    bench.commands += bench.calls.from_callbook(CallElsewhere("CA1", call.since_ms))
    bench.wait(1)
    assert call.stage is Stage.TALKING
    bench.wait(1)
    assert CallEnded(call.number, "moved") in bench.to_worker(call.worker)
    assert bench.taken(CloseStory) == []
    assert [command.fact.reason for command in bench.taken(Note) if isinstance(command.fact, StreamEnded)] == ["lost"]
    assert bench.calls.is_idle


def test_a_call_whose_caller_is_heard_goes_on_whatever_the_store_has_and_so_does_one_that_has_come_back():
    bench = Bench(KEEPING)
    heard, back = bench.call("CA1"), bench.call("CA2")
    bench.heard_ns[back.number] = bench.now_ns
    bench.calls.from_callbook(CallElsewhere("CA1", heard.since_ms))
    bench.calls.from_callbook(CallElsewhere("CA2", back.since_ms - 1))  # of the media socket before
    bench.wait(3)
    assert heard.stage is back.stage is Stage.TALKING


def test_a_drain_to_another_cell_leaves_the_story_open():
    bench = Bench(KEEPING)
    bench.call()
    bench.commands += bench.calls.drained(bench.now_ns)
    assert bench.taken(CloseStory) == []
    assert bench.calls.is_idle
