"""Scenarios of the built-in functions: the model ends the call or passes it on, and something comes in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from simulator.carrier.call import STREAM_CLOSED
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, HangUp, Say
from simulator.carrier.dial import Callee
from simulator.model.behaviour import Behaviour

from .cell.cell import Cell
from .scenario import Expected, Scenario, Sessions
from .tool_scenarios import SHORT, answered_once, is_whole, lose_session, lose_worker
from .verdict import Verdict

DESK: Final = "+15550123"
_DESK_AGENT: Final = {"transfer": {"desk": {"to": DESK, "timeout_s": 5}}}
_TRANSFER: Final = Behaviour(preamble=True, tool_call="transfer_call", tool_arguments='{"destination": "desk"}')
_ASK: Final = Say(SHORT, AiSilent(ms=400))
_BYE: Final = HangUp(AfterAnswer(ms=18_000))
# Twilio notes that the server closed the socket: at the end of the call, or to dial.
_CLOSED: Final = Expected("warning", str(STREAM_CLOSED), count=(0, 1))
# What the caller says while the socket closes reaches nobody; neither does it while a worker is away that has given its
# order.
_UNHEARD: Final = Expected("inbound", count=(0, 1), amount=(0, 1_600))
# A caller who is back waits no longer than this for the agent.
BACK_MAX_MS: Final = 2_000


def ending_scenarios() -> Iterator[Scenario]:
    for tool, agent in (("end_call", {}), ("transfer_call", _DESK_AGENT)):
        behaviours = (Behaviour(responses=(Behaviour(), replace(_TRANSFER, tool_call=tool))), Behaviour())
        for after_ms in (400, 1_000, 1_200):
            yield Scenario(
                f"ending: {tool}, the caller speaks {after_ms} ms into the announcement",
                (_ASK, Say(SHORT, AiHeard(ms=after_ms)), _BYE),
                behaviours,
                agent=agent,
                callees={DESK: Callee()},
                also=_keeps_the_call,
            )
        for at_ms in (8_000, 8_500, 9_000):
            for name, happens in (("session", lose_session), ("worker", lose_worker)):
                yield Scenario(
                    f"ending: {tool}, the {name} is lost at {at_ms} ms",
                    (_ASK, _BYE),
                    behaviours,
                    agent=agent,
                    callees={DESK: Callee("busy")},
                    forced=(_CLOSED, _UNHEARD),
                    events=((at_ms, happens),),
                    also=_ends,
                )
    yield from _hand_offs()
    for name, person in {
        "answers": Callee(),
        "is busy": Callee("busy"),
        "does not answer": Callee("no-answer"),
        "has no telephone": Callee("failed"),
        "takes no calls with others' numbers": Callee(refuses_callers_number=True),
        "is too slow for the caller": Callee(after_s=4, caller_leaves_s=2),
    }.items():
        yield Scenario(
            f"ending: transfer_call, the person {name}",
            (_ASK, _BYE),
            (Behaviour(responses=(Behaviour(), _TRANSFER)), Behaviour()),
            agent=_DESK_AGENT,
            callees={DESK: person},
            forced=(_CLOSED, _UNHEARD),
            also=_ends,
        )


def _hand_offs() -> Iterator[Scenario]:
    """The office takes over from the call's agent, and the caller, a session or a worker comes in between."""
    hands_off = Behaviour(preamble=True, tool_call="hand_off", tool_arguments='{"agent": "office"}')
    first = Behaviour(responses=(Behaviour(), hands_off))
    agent = {"hand_off": {"office": "Anything."}}
    for name, script, office in (
        ("nobody speaks", (_ASK, _BYE), Behaviour()),
        ("the caller speaks at its beginning", (_ASK, Say(SHORT, AiHeard(ms=400)), _BYE), Behaviour()),
        ("the caller speaks at its end", (_ASK, Say(SHORT, AiHeard(ms=1_200)), _BYE), Behaviour()),
        ("the caller speaks to the office", (_ASK, Say(SHORT, AiHeard(ms=2_500)), _BYE), Behaviour(answer_ms=3_000)),
        ("the office is slow", (_ASK, Say(SHORT, AiSilent(ms=300)), _BYE), Behaviour(handshake_ms=3_000)),
        ("the office is refused", (_ASK, _BYE), Behaviour(refuse="key")),
    ):
        has_waited = office.handshake_ms or office.refuse
        yield Scenario(
            f"hand-off: {name}",
            script,
            (first, office, Behaviour()),
            agent=agent,
            forced=(Expected("late answer", count=(0, 2), amount=(0, 3_500)),) if has_waited else (),
            also=_speaks_as_one if office.refuse else _changes_the_agent,
        )
    for at_ms in (8_000, 8_300, 9_000):
        for name, happens, also in (
            ("session", _lose_first_session, _changes_the_agent),
            ("model", lose_session, answered_once),
            ("worker", lose_worker, _changes_the_agent),
        ):
            yield Scenario(
                f"hand-off: the {name} is lost at {at_ms} ms",
                (_ASK, _BYE),
                (first, Behaviour(handshake_ms=1_500), Behaviour()),
                agent=agent,
                forced=(Expected("late answer", count=(0, 2), amount=(0, 3_500)),),
                events=((at_ms, happens),),
                also=also,
            )


def _lose_first_session(cell: Cell) -> None:
    """The office's is being dialled."""
    cell.model.drop("CA1", slice(1))


def _changes_the_agent(verdict: Verdict, sessions: Sessions) -> str:
    if not _called(sessions):
        return "The model did not call the function; the scenario shows nothing."
    wrong = answered_once(verdict, sessions)
    return wrong or ("" if sessions[-1]["voice"] == "cedar" else "The office did not take over.")


def _speaks_as_one(verdict: Verdict, sessions: Sessions) -> str:
    if any(each["voice"] == "cedar" for each in sessions):
        return "The office spoke although it was refused."
    return answered_once(verdict, sessions)


def _called(sessions: Sessions) -> int:
    return sum(each["type"] == "function_call" and is_whole(each) for s in sessions for each in s["functions"])


def _keeps_the_call(verdict: Verdict, sessions: Sessions) -> str:
    if not _called(sessions):
        return "The model did not call the function; the scenario shows nothing."
    if verdict.legs:
        return "Somebody was dialled although the caller spoke."
    return (
        "" if verdict.outcome == "hung-up-by-caller" else f"The call ended {verdict.outcome} although the caller spoke."
    )


def _ends(verdict: Verdict, sessions: Sessions) -> str:
    if not _called(sessions):
        return "The model did not call the function; the scenario shows nothing."
    if verdict.outcome == "hung-up-by-caller" and not verdict.legs:
        return "The call was not handed on."
    if any(not leg.ended_ns for leg in verdict.legs):
        return "A leg is left."
    late = [ms for ms in verdict.back_ms if ms > BACK_MAX_MS]
    return f"A caller who was back waited {late[0]:.0f} ms for the agent." if late else ""
