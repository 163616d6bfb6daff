from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from gateway.core.commands import AnswerWebhook, CloseSocket, Recall, ToWorker
from gateway.core.rules import Rules
from shared.messages import (
    CallConfigured,
    CallEnded,
    CallOffered,
    CallOver,
    CallRecalled,
    CallStarted,
    CallTaken,
    WorkerState,
)
from shared.plan import CallPlan, Dial, Fallback, HangUp, Reject

from .bench import ACCOUNT_SID, RULES, Bench


def test_a_socket_at_another_gateway_brings_the_plan_and_the_offer():
    webhook, other = Bench(), Bench(name="gw2", epoch=2)
    call = other.open("CA1", webhook.offer("CA1", resumed=True))
    assert call is not None
    assert call.plan == CallPlan("inbound", ACCOUNT_SID, "+1", "+2")
    (offered,) = webhook.taken(CallOffered)
    assert call.token_id == offered.token_id


def test_how_an_order_ended_reaches_the_worker_whichever_gateway_gets_the_socket():
    webhook, other = Bench(), Bench(name="gw2", epoch=2)
    call = other.open("CA1", webhook.offer("CA1", resumed=True, returned="no-answer"))
    assert call is not None
    assert webhook.taken(CallOffered)[0].returned == "no-answer"
    assert other.taken(CallStarted)[0].returned == "no-answer"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"token": "x"}, "malformed"),
        ({"plan0": "x"}, "forged"),
        ({"plan1": "x"}, "forged"),
    ],
)
def test_a_socket_with_changed_parameters_begins_no_call(change, reason):
    bench = Bench()
    assert bench.open("CA1", bench.offer("CA1") | change) is None
    assert bench.metrics.starts_refused[reason].value == 1


def test_a_socket_without_a_token_begins_no_call():
    bench = Bench()
    assert bench.open("CA1", {}) is None
    assert bench.metrics.starts_refused["no_token"].value == 1


def test_a_socket_finds_another_worker_when_its_own_is_gone_and_none_without_any():
    bench = Bench()
    parameters, late = bench.offer("CA1"), bench.offer("CA2")
    dials = int(parameters["token"].split(".")[1])
    del bench.workers[dials]
    bench.wait(4)
    call = bench.open("CA1", parameters)
    assert call is not None
    assert call.worker == 1 - dials
    bench.workers.clear()
    bench.wait(4)
    assert bench.open("CA2", late) is None
    assert bench.metrics.starts_refused["no_worker"].value == 1


def test_a_repeated_webhook_asks_the_worker_that_dials_already_and_holds_one_place():
    bench = Bench(Rules(workers=2, max_calls=2, max_calls_per_source=2, late_ns=1, unserved_s=1))
    for _ in range(3):
        bench.offer("CA1")
    assert sorted(len(bench.to_worker(worker)) for worker in (0, 1)) == [0, 3]
    assert bench.calls.neighbours.calls(bench.now_ns) == 1
    bench.offer("CA2")


def test_a_repeated_webhook_whose_worker_is_not_ready_any_more_moves_to_another_and_tells_the_first():
    bench = Bench()
    dials = int(bench.offer("CA1")["token"].split(".")[1])
    bench.says(dials, WorkerState(dials, False, 1, 1))
    bench.commands.clear()
    assert int(bench.offer("CA1")["token"].split(".")[1]) == 1 - dials
    assert bench.to_worker(dials) == [CallTaken("CA1")]


def test_a_draining_gateway_offers_nothing_new_and_takes_back_what_was_lost():
    bench = Bench()
    bench.calls.offers.draining = True
    answer = bench.calls.offers.take("CAnew", CallPlan(account_sid=ACCOUNT_SID), bench.now_ns)
    assert answer.order == Fallback()
    assert bench.offer("CAback", resumed=True)


def ask(bench, call_sid="CA1"):
    plan = CallPlan("inbound", ACCOUNT_SID, "+1", "+2")
    answer = bench.calls.offers.take(call_sid, plan, bench.now_ns, asks=True)
    bench.commands += answer.commands
    assert answer.is_asked
    return answer


def connected(bench):
    return bench.metrics.voice_answers[type(None)].value


def test_a_call_gets_the_plan_that_its_worker_was_told_by_call_config_url():
    bench = Bench()
    answer = ask(bench)
    (offered,) = bench.taken(CallOffered)
    assert offered.asks
    plan = structs.replace(offered.plan, agent="sales", variables={"name": "Ada"})
    bench.says(answer.worker, CallConfigured("CA1", plan))
    assert bench.taken(AnswerWebhook) == [AnswerWebhook("CA1")]
    final = bench.calls.offers.configured("CA1", answer, bench.now_ns)
    assert bench.open("CA1", dict(final.parameters)).plan == plan
    assert connected(bench) == 1
    # Twilio returns with the call.
    assert bench.open("CA1", bench.offer("CA1", resumed=True)).plan == plan


def test_a_call_whose_worker_does_not_answer_in_time_keeps_its_agent_and_is_counted():
    bench = Bench()
    answer = ask(bench)
    final = bench.calls.offers.configured("CA1", answer, bench.now_ns)
    assert bench.open("CA1", dict(final.parameters)).plan.agent == ""
    assert (bench.metrics.config_unanswered.value, connected(bench)) == (1, 1)


def test_a_call_that_call_config_url_rejects_frees_its_place_and_its_session():
    bench = Bench(rules=replace(RULES, max_calls=1))
    answer = ask(bench)
    bench.says(answer.worker, CallConfigured("CA1", CallPlan(), Reject()))
    final = bench.calls.offers.configured("CA1", answer, bench.now_ns)
    assert final.order == Reject()
    assert final.commands == [ToWorker(answer.worker, CallTaken("CA1"))]
    assert (bench.metrics.voice_answers[Reject].value, connected(bench)) == (1, 0)
    bench.wait(1)
    assert ask(bench, "CA2")


def test_a_call_that_returns_is_not_asked_about_again():
    bench = Bench()
    answer = bench.calls.offers.take("CA1", CallPlan(account_sid=ACCOUNT_SID), bench.now_ns, resumed=True, asks=True)
    assert not answer.is_asked
    assert [message.asks for message in (each.message for each in answer.commands)] == [False]


def test_an_answer_for_a_call_that_nobody_asked_about_is_dropped():
    bench = Bench()
    bench.says(0, CallConfigured("CA1", CallPlan(agent="sales")))
    assert not bench.calls.offers.is_configured("CA1")


def returned(bench: Bench, outcome: str, **how: bool) -> object:
    plan = CallPlan("inbound", ACCOUNT_SID, "+1", "+2")
    return bench.calls.offers.take("CA1", plan, bench.now_ns, resumed=True, returned=outcome, **how).order


def test_a_dial_that_failed_is_carried_out_once_more_with_the_other_number_and_then_the_agent_goes_on():
    bench = Bench()
    bench.says(0, CallOver("CA1", Dial("+15550123", "+1", 20, "+2")))
    assert returned(bench, "failed") == Dial("+15550123", "+2", 20)
    assert returned(bench, "failed") is None


@pytest.mark.parametrize("outcome", ["busy", "no-answer", "completed"])
def test_a_dial_that_reached_a_telephone_is_not_carried_out_again(outcome):
    bench = Bench()
    bench.says(0, CallOver("CA1", Dial("+15550123", "+1", 20, "+2")))
    assert returned(bench, outcome) is None


def test_nobody_is_connected_to_a_caller_who_has_hung_up():
    bench = Bench()
    bench.says(0, CallOver("CA1", Dial("+15550123", "+1", 20, "+2")))
    assert returned(bench, "failed", is_over=True) == HangUp()
    assert bench.taken(CallOffered) == []


PLAN = CallPlan("inbound", ACCOUNT_SID, "+1", "+2")
CELL = replace(RULES, cell="here", fleet=True, recalls=True)


def resume(bench, cell="there", worker=1, **how):
    """The webhook of a call that comes back to `worker` of `cell`."""
    answer = bench.calls.offers.take("CA1", PLAN, bench.now_ns, resumed=True, cell=cell, worker=worker, **how)
    bench.commands += answer.commands
    return answer


def recall(bench, answer, *, ended=False, story=b"", order=None):
    """callbook answers, and the webhook's wait is over."""
    bench.commands += bench.calls.from_callbook(CallRecalled("CA1", ended, story, order or HangUp()))
    assert AnswerWebhook("CA1") in bench.taken(AnswerWebhook)
    return bench.calls.offers.recalled("CA1", answer)


def test_the_worker_in_a_redirect_of_another_cell_means_nothing_here():
    bench = Bench(CELL)
    bench.says(1, WorkerState(1, True, 5, 1))
    answer = resume(bench)
    (offered,) = bench.taken(CallOffered)
    assert (answer.order, answer.worker, offered.resumed) == (None, 0, True)
    assert bench.metrics.from_other_cells["webhook"].value == 1
    assert resume(bench).worker == 0  # Twilio, or a proxy, repeats the request
    assert bench.taken(CallTaken) == []


@pytest.mark.parametrize("cell", ["here", ""])
def test_a_call_that_comes_back_to_its_own_cell_goes_to_its_worker(cell):
    bench = Bench(CELL)
    bench.says(1, WorkerState(1, True, 5, 1))
    assert resume(bench, cell=cell).worker == 1
    assert bench.metrics.from_other_cells["webhook"].value == 0


def test_a_cell_alone_takes_no_notice_of_a_cell_in_a_redirect():
    bench = Bench()
    bench.says(1, WorkerState(1, True, 5, 1))
    answer = resume(bench)
    assert (answer.worker, answer.is_recalled) == (1, False)


def test_a_call_of_another_cell_is_looked_up_beside_the_dial_and_its_worker_gets_the_story():
    bench = Bench(CELL)
    answer = resume(bench)
    assert answer.is_recalled
    assert bench.taken(Recall) == [Recall("CA1")]
    assert [type(message) for message in bench.to_worker(answer.worker)] == [CallOffered]
    final = recall(bench, answer, story=b"story")
    assert (final.order, dict(final.parameters)) == (None, dict(answer.parameters))
    assert bench.taken(CallRecalled) == [CallRecalled("CA1", False, b"story")]
    assert bench.metrics.recalls["story"].value == 1
    assert bench.open("CA1", dict(final.parameters)) is not None


def test_a_call_that_ended_on_purpose_in_another_cell_gets_its_order_and_its_session_is_withdrawn():
    bench = Bench(replace(CELL, max_calls=1))
    answer = resume(bench)
    final = recall(bench, answer, ended=True, order=Dial("+15550123", "+1", 20))
    assert final.order == Dial("+15550123", "+1", 20)
    assert bench.taken(CallTaken) == [CallTaken("CA1")]
    assert bench.answer("CA1") == Dial("+15550123", "+1", 20)
    bench.wait(1)
    assert bench.offer("CA2")  # its place is free


def test_a_call_that_comes_back_from_a_dial_is_not_over():
    bench = Bench(CELL)
    answer = resume(bench, returned="completed")
    assert recall(bench, answer, ended=True).order is None


def test_a_call_goes_on_when_callbook_knows_nothing_and_when_it_answers_too_late():
    bench = Bench(CELL)
    assert recall(bench, resume(bench)).order is None
    assert bench.metrics.recalls["unknown"].value == 1
    late = resume(bench)
    assert bench.calls.offers.recalled("CA1", late).order is None
    assert bench.metrics.recalls["late"].value == 1
    # The word of its end came before the media socket: the call is not connected again.
    bench.commands += bench.calls.from_callbook(CallRecalled("CA1", True, b""))
    assert bench.open("CA1", dict(late.parameters)).number not in bench.calls.by_number


def test_an_answer_of_callbook_that_nobody_asked_for_is_dropped():
    bench = Bench(CELL)
    assert bench.calls.from_callbook(CallRecalled("CA1", True, b"")) == []
    assert bench.answer("CA1") is None


def test_callbook_is_not_asked_about_a_call_that_this_gateway_knows_and_never_without_a_store():
    bench = Bench(CELL)
    bench.call("CA1")
    assert not resume(bench, cell="here").is_recalled
    assert resume(bench, cell="there").is_recalled  # it went there, and came back
    assert not resume(Bench(replace(CELL, recalls=False))).is_recalled


def test_a_cell_that_was_started_again_under_its_name_looks_up_its_calls():
    assert resume(Bench(CELL), cell="here").is_recalled


def test_a_socket_whose_cell_died_after_the_webhook_begins_a_call_with_its_plan():
    gone, here = Bench(replace(CELL, cell="there")), Bench(CELL)
    here.says(0, WorkerState(0, True, 5, 1))
    call = here.open("CA1", gone.offer("CA1"))
    assert (call.plan, call.worker) == (PLAN, 1)
    assert here.metrics.from_other_cells["socket"].value == 1


def test_what_another_cell_may_have_room_for_is_told_apart_from_what_is_the_calls_own():
    bench = Bench(replace(CELL, max_calls=2, max_calls_per_source=1))
    bench.offer("CA1")
    of_one_source = bench.calls.offers.take("CA2", PLAN, bench.now_ns)
    assert (of_one_source.order, of_one_source.is_for_another_cell) == (Fallback(), False)
    bench.calls.offers.take("CA3", structs.replace(PLAN, from_number="+3"), bench.now_ns)
    full = bench.calls.offers.take("CA4", structs.replace(PLAN, from_number="+4"), bench.now_ns)
    assert (full.order, full.is_for_another_cell) == (Fallback(), True)
    alone = Bench(replace(RULES, max_calls=1))
    alone.offer("CA1")
    assert not alone.calls.offers.take("CA2", PLAN, alone.now_ns).is_for_another_cell


def test_a_cell_that_leaves_gives_returning_calls_to_another_cell_but_carries_out_its_orders():
    bench = Bench(CELL)
    bench.calls.offers.draining = True
    assert resume(bench, cell="here").order is None
    bench.calls.offers.leaving = True
    assert resume(bench, cell="here").is_for_another_cell
    bench.says(0, CallOver("CA1", HangUp()))
    answer = resume(bench, cell="here")
    assert (answer.order, answer.is_for_another_cell) == (HangUp(), False)


def test_at_the_end_of_a_drain_a_fleets_calls_are_closed_some_at_a_time_and_keep_no_order():
    bench = Bench(CELL)
    calls = [bench.call(f"CA{number}") for number in range(3)]
    bench.commands = bench.calls.drained(bench.now_ns, at_most=1)
    assert [command.call for command in bench.taken(CloseSocket)] == [calls[0].number]
    bench.commands = bench.calls.drained(bench.now_ns, at_most=1)
    assert [message.reason for message in bench.taken(CallEnded)] == ["lost"]
    assert list(bench.calls.by_number) == [calls[2].number]
    assert bench.answer("CA0") is None
