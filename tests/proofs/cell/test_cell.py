"""A whole cell in virtual time: calls, and what becomes of them when something fails."""

from __future__ import annotations

import pytest

from proofs.acts import Act
from proofs.cell.cell import RESTART_MS, Cell, default_agent
from proofs.cell.harm import harm
from proofs.cell.phone import Phone
from proofs.judge import judge
from proofs.verdict import Verdict
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, HangUp, Say
from simulator.model.behaviour import Behaviour

SCRIPT = (Say("hello", AiSilent(ms=400)), Say("vm-sorry", AiHeard(ms=2_000)), HangUp(AiSilent(ms=1_200)))
LISTENS = (HangUp(AfterAnswer(ms=20_000)),)
LONG = (Behaviour(answer_ms=15_000),)
# During the first sentence, of 15 s.
HARM_MS = 6_000


def verdict(cell: Cell, phone: Phone) -> Verdict:
    result = cell.result(phone)
    return judge(result.record, result.sessions)


def harmed(kind: str, target: str, seconds: float = 0.0) -> tuple[Cell, Phone]:
    """A call of a cell of two gateways and two workers, whose own process or socket is harmed in mid-sentence."""
    cell = Cell(gateways=2, workers=2)
    phone = cell.call(LISTENS, LONG)
    cell.run(HARM_MS)
    assert phone.socket is not None
    owner = {
        "gateway": cell.gateways.index(phone.socket.gateway),
        "aibridge": next(int(worker.name[-1]) for worker in cell.workers if worker.calls.by_number),
    }
    deed = harm(cell, Act(HARM_MS / 1e3, kind, target, owner.get(target, 0), seconds))
    assert deed.victims == (phone.call_sid,)
    cell.run_out()
    return cell, phone


def test_a_call_without_harm_keeps_every_promise() -> None:
    cell = Cell(gateways=2, workers=2)
    phones = [cell.call(SCRIPT) for _ in range(4)]
    cell.run_out()
    for phone in phones:
        assert verdict(cell, phone).problems(tolerance_ms=10) == []
        assert phone.outcome == "hung-up-by-caller"


def test_the_same_seed_gives_the_same_call_and_another_seed_another() -> None:
    def ear(seed: int) -> bytes:
        cell = Cell(seed=seed)
        phone = cell.call(SCRIPT)
        cell.run_out()
        return cell.result(phone).record.ear.audio

    assert ear(1) == ear(1)
    assert ear(1) != ear(2)


def test_a_call_goes_on_in_mid_sentence_at_another_gateway_when_its_own_is_killed() -> None:
    cell, phone = harmed("kill", "gateway")
    found = verdict(cell, phone)
    assert len(cell.result(phone).record.streams) == 2
    assert len(cell.result(phone).sessions) == 1
    assert found.cuts == ()
    assert found.damaged_bytes("lost") == 0
    assert found.damaged_bytes("twice") <= 1_600
    assert found.history_error_ms == 0


def test_a_call_comes_back_when_its_media_socket_is_lost() -> None:
    cell, phone = harmed("lose", "media")
    found = verdict(cell, phone)
    assert [stream.ended_by for stream in cell.result(phone).record.streams] == ["lost", "caller"]
    assert (found.cuts, found.damaged_bytes("lost")) == ((), 0)


def test_another_worker_goes_on_with_the_call_of_a_killed_one() -> None:
    cell = Cell(gateways=1, workers=2)
    phone = cell.call((Say("hello", AfterAnswer(ms=14_000)), HangUp(AiHeard(ms=2_000))), (Behaviour(answer_ms=6_000),))
    cell.run(HARM_MS)
    (busy,) = [worker for worker in cell.workers if worker.calls.by_number]
    busy.kill()
    cell.run_out()
    found = verdict(cell, phone)
    assert len(cell.result(phone).sessions) == 2
    assert found.problems(tolerance_ms=10) == []


def test_a_line_that_is_lost_with_its_pacer_goes_on_after_the_last_frame() -> None:
    cell, phone = harmed("kill", "txpacer")
    found = verdict(cell, phone)
    assert [round(gap.ms, -1) for gap in found.gaps] == [pytest.approx(140, abs=60)]
    assert (found.cuts, found.damages, found.history_error_ms) == ((), (), 0)


def test_a_gateway_that_stands_still_costs_its_time_less_the_lead_and_no_byte() -> None:
    cell, phone = harmed("stop", "gateway", 1.0)
    found = verdict(cell, phone)
    assert found.gap_ms == pytest.approx(1_000 - 120, abs=40)
    assert (found.cuts, found.damages, found.history_error_ms) == ((), (), 0)


def test_a_worker_that_stands_still_for_two_seconds_is_inaudible_when_its_speech_is_made() -> None:
    cell, phone = harmed("stop", "aibridge", 2.0)
    assert verdict(cell, phone).problems(tolerance_ms=10) == []


def test_callers_get_the_fallback_when_no_worker_comes_back() -> None:
    cell = Cell(gateways=1, workers=2, fallback_say="Sorry.")
    phone = cell.call(LISTENS, LONG)
    cell.run(HARM_MS)
    for worker in cell.workers:
        worker.kill()
    cell.run_out()
    assert phone.outcome == "hung-up-by-server"
    assert [verb.name for verb in phone.verbs] == ["Connect", "Redirect", "Say", "Hangup"]


def test_callers_get_the_fallback_when_txpacer_is_gone_for_good() -> None:
    cell = Cell(fallback_say="Sorry.")
    phone = cell.call((HangUp(AfterAnswer(ms=40_000)),), (Behaviour(answer_ms=30_000),))
    cell.run(HARM_MS)
    cell.pacer.kill()
    cell.run_out()
    assert [verb.name for verb in phone.verbs][-2:] == ["Say", "Hangup"]
    assert phone.ended_ns - cell.clock.now_ns < 0


def test_a_goodbye_is_heard_to_its_end_before_the_call_is_hung_up() -> None:
    cell = Cell(agent=default_agent({}))
    goodbye = Behaviour(preamble=True, tool_call="end_call")
    phone = cell.call(
        (Say("hello", AiSilent(ms=400)), HangUp(AfterAnswer(ms=60_000))),
        (Behaviour(responses=(Behaviour(), goodbye)),),
    )
    cell.run_out()
    found = verdict(cell, phone)
    assert phone.outcome == "hung-up-by-server"
    assert (found.cuts, found.history_error_ms) == ((), 0)
    assert cell.result(phone).talk is not None


def test_a_call_ends_with_its_order_at_another_gateway_although_the_worker_died_after_it_gave_the_order() -> None:
    cell = Cell(gateways=2, workers=2, agent=default_agent({}))
    goodbye = Behaviour(preamble=True, tool_call="end_call")
    phone = cell.call(
        (Say("hello", AiSilent(ms=400)), HangUp(AfterAnswer(ms=60_000))),
        (Behaviour(responses=(Behaviour(), goodbye)),),
    )
    cell.run(5_000)
    while any(gateway.core.by_number for gateway in cell.gateways):
        cell.run(1)
    next(worker for worker in cell.workers if worker.calls.by_number).kill(RESTART_MS)
    cell.run_out()
    assert phone.outcome == "hung-up-by-server"
    # At once, or from the socket of a gateway that had not heard of the order when it answered the webhook.
    names = [verb.name for verb in phone.verbs]
    assert names in (["Connect", "Redirect", "Hangup"], ["Connect", "Redirect"] * 2 + ["Hangup"])
    assert len(cell.result(phone).sessions) <= 2
    assert not any(each["responses"] for each in cell.result(phone).sessions[1:])


def test_a_socket_that_is_not_read_harms_no_other_call() -> None:
    cell = Cell()
    deaf, other = cell.call(LISTENS, LONG), cell.call(LISTENS, LONG)
    cell.run(HARM_MS)
    assert deaf.socket is not None
    deaf.socket.leave_unread(2_000)
    cell.run_out()
    assert verdict(cell, other).problems(tolerance_ms=10) == []
    assert verdict(cell, deaf).gap_ms == pytest.approx(2_000 - 120, abs=40)
    assert verdict(cell, deaf).damages == ()


def test_an_act_hits_the_calls_that_its_process_holds_and_no_other() -> None:
    cell = Cell(gateways=2, workers=2)
    phones = [cell.call(LISTENS, LONG) for _ in range(6)]
    cell.run(HARM_MS)
    for target in ("gateway", "aibridge"):
        victims = [harm(cell, Act(0, "stop", target, which, 0.01)).victims for which in range(2)]
        assert all(victims)
        assert sorted(call_sid for each in victims for call_sid in each) == sorted(phone.call_sid for phone in phones)


def test_calls_whose_worker_dies_in_their_first_second_go_on_with_the_truth() -> None:
    """Some of ten calls have told their story by then, and some have not."""
    cell = Cell()
    script = (
        Say("vm-sorry", AfterAnswer(ms=1_800)),
        Say("vm-sorry", AfterAnswer(ms=7_280)),
        HangUp(AiSilent(ms=2_500)),
    )
    phones = [cell.call(script) for _ in range(10)]
    cell.run(700)
    cell.workers[0].kill(RESTART_MS)
    cell.run_out()
    for phone in phones:
        assert len(cell.result(phone).sessions) == 2
        assert verdict(cell, phone).problems(tolerance_ms=10) == []
