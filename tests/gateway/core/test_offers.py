from __future__ import annotations

import pytest

from gateway.core.rules import Rules
from shared.messages import CallOffered, CallStarted, CallTaken, WorkerState
from shared.plan import CallPlan, Fallback

from .bench import ACCOUNT_SID, Bench


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
