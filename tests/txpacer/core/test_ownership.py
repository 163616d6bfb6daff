"""Who owns a line, and what a line tells its owner."""

from __future__ import annotations

from shared.messages import LineState, RestoreLine
from shared.metrics import Page
from txpacer.core.metrics import DEFINITIONS, PacerMetrics
from txpacer.core.pacer import Pacer

MS = 1_000_000
T0 = 1_000_000 * MS
LEAD_NS = 120 * MS
FRAME_NS = 20 * MS
SPEECH = bytes(range(256)) * 40


def make() -> Pacer:
    return Pacer(lead_ns=LEAD_NS, metrics=PacerMetrics(Page.in_memory(DEFINITIONS)))


def restore(pacer: Pacer, bridge: str, handover: int, ask: int = 1) -> None:
    pacer.restore(RestoreLine(1, "gateway", 1, 50, 3, 800, T0 - 1, handover, ask), bridge, T0)


def states(pacer: Pacer) -> list[tuple[str, LineState]]:
    return [(bridge, report) for bridge, reports in pacer.take_reports() for report in reports]  # type: ignore[misc]


def test_a_line_tells_its_worker_what_it_was_given_and_a_successor_the_unpaced_speech_too() -> None:
    pacer = make()
    pacer.open(1, "gateway", "one", T0, ask=1)
    pacer.speech(1, 1, SPEECH, T0)
    pacer.tick(T0)
    pacer.take_reports()
    pacer.open(1, "gateway", "one", T0, ask=2)
    pacer.open(1, "gateway", "two", T0, handover=1, ask=1)
    unheard = ((1, len(SPEECH), 960, False, T0),)
    assert states(pacer) == [
        ("one", LineState(1, unheard, 2)),
        ("two", LineState(1, unheard, 1, (SPEECH[960:],))),
    ]


def test_a_line_has_the_lead_of_its_agent_which_says_nothing_about_other_lines() -> None:
    pacer = make()
    paced: dict[int, int] = {}
    for call, lead_ms in ((1, (200, 200, 200)), (2, None), (3, (60, 60, 180))):
        pacer.open(call, "gateway", "one", T0, lead_ms=lead_ms)
        pacer.speech(call, 1, SPEECH, T0)
        ((_, frames),) = pacer.tick(T0)
        paced |= {each: len(audio) // 8 for each, _, audio, _ in frames.entries}
    assert paced == {1: 200, 2: 120, 3: 120}  # the third starts where the second one is


def test_a_line_that_exists_is_not_restored_again() -> None:
    pacer = make()
    for ask in (1, 2):
        restore(pacer, "one", 0, ask)
        pacer.speech(1, 3, SPEECH, T0)
    pacer.speech(1, 3, SPEECH, T0)
    assert [state.unheard for _, state in states(pacer)] == [
        ((3, 800, 800, False, T0 - 1 - 100 * MS),),
        ((3, 800 + len(SPEECH), 800, False, T0 - 1 - 100 * MS),),
    ]


def test_a_worker_that_was_stalled_during_a_handover_neither_takes_nor_keeps_a_line() -> None:
    pacer = make()
    pacer.open(1, "gateway", "sleeper", T0)
    restore(pacer, "successor", 1)
    pacer.open(1, "gateway", "sleeper", T0)
    restore(pacer, "sleeper", 0)
    told = [(bridge, [number for number, *_ in state.unheard]) for bridge, state in states(pacer)]
    assert told == [("sleeper", []), ("successor", [3])]


def frames_at(pacer: Pacer, now_ns: int) -> list[tuple[str, int]]:
    """The gateways that get frames at `now_ns`, with the number of the first."""
    return [(name, entry[1]) for name, batch in pacer.tick(now_ns) for entry in batch.entries]


def test_a_successor_ends_the_pause_of_the_failed_worker() -> None:
    pacer = make()
    pacer.open(1, "gateway", "failed", T0)
    pacer.speech(1, 1, SPEECH, T0)
    assert frames_at(pacer, T0) == [("gateway", 0)]
    pacer.pause(1)
    pacer.open(1, "gateway", "failed", T0 + 5 * MS)
    assert frames_at(pacer, T0 + FRAME_NS) == []
    pacer.open(1, "gateway", "successor", T0 + FRAME_NS, handover=1)
    assert frames_at(pacer, T0 + FRAME_NS) == [("gateway", 7)]  # a pause leaves out number 6
    pacer.pause(1)
    pacer.open(1, "gateway", "successor", T0 + FRAME_NS, handover=1)
    assert pacer.next_due_ns() is None or frames_at(pacer, T0 + 2 * FRAME_NS) == []


def test_a_line_that_a_dead_gateway_holds_continues_at_another_gateway() -> None:
    pacer = make()
    pacer.open(1, "dead", "bridge", T0)
    pacer.speech(1, 1, SPEECH, T0)
    now_ns = T0
    while pacer.next_due_ns() is not None:
        pacer.tick(now_ns)
        now_ns += FRAME_NS
    pacer.open(1, "alive", "bridge", now_ns, handover=1)
    assert [name for name, _ in frames_at(pacer, now_ns)] == ["alive"]
