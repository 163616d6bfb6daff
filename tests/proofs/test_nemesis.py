"""The schedule of harm, a function of its seed; and the checker: what an act nearby explains, and what none does."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

from proofs.judge import judge
from proofs.nemesis import DECK, LONG_S, PAUSE_S, QUIET_S, schedule
from proofs.nemesis_check import Act, Deed, lived, problems_of
from shared.audio import FRAME_BYTES
from simulator.carrier.call import CallRecord, StreamRecord, VerbRecord
from simulator.carrier.ear import Ear

MS = 1_000_000
START = 1_000_000 * MS


def test_a_seed_gives_the_same_harm_every_time_and_another_seed_another() -> None:
    assert schedule(1, 300) == schedule(1, 300)
    assert schedule(1, 300) != schedule(2, 300)


def test_every_kind_of_harm_comes_and_none_before_the_last_is_survived() -> None:
    for seed in range(10):
        acts = schedule(seed, 300)
        done = {(act.kind, act.target, act.seconds >= LONG_S[0]) for act in acts}
        assert done == {(kind, target, length == LONG_S) for kind, target, length in DECK}
        assert acts[0].at_s >= QUIET_S
        assert acts[-1].at_s <= 300 - QUIET_S
        assert all(after.at_s - before.at_s - before.seconds >= PAUSE_S[0] - 0.02 for before, after in pairwise(acts))


class Call:
    """A call of one item of 3 s, from 200 ms on, that ends after 20 s. Times in ms since its start."""

    def __init__(self) -> None:
        self.audio = random.Random(1).randbytes(24_000)
        self.ear = Ear()
        self.streams: list[StreamRecord] = []
        self.speech: list[dict[str, int]] = []
        self.outcome = "hung-up-by-caller"

    def hear(self, from_ms: int, to_ms: int, at_ms: float) -> None:
        """That much of the item, as it comes without a lead."""
        for ms in range(from_ms, to_ms, 20):
            self.ear.media(self.audio[ms * 8 : ms * 8 + FRAME_BYTES], START + int((at_ms + ms - from_ms) * MS))

    def lose(self, at_ms: int) -> None:
        self.ear.close(START + at_ms * MS)
        self.streams.append(StreamRecord("MZ0", START, START + at_ms * MS, "lost", {}))

    def problems(self, *deeds: Deed) -> list[str]:
        end_ns = START + 20_000 * MS
        self.ear.close(end_ns)
        record = CallRecord(
            call_sid="CA1",
            started_ns=START,
            ended_ns=end_ns,
            streams=(*self.streams, StreamRecord("MZ1", START, end_ns, "caller", {})),
            ear=self.ear.record(),
            said=(),
            keys=(),
            warnings=(),
            outcome=self.outcome,
        )
        session: dict[str, Any] = {
            "items": [
                {
                    "item_id": "item_1",
                    "response_id": "r",
                    "role": "assistant",
                    "audio_b64": self.audio,
                    "held_ms": 3_000,
                }
            ],
            "responses": [{"id": "r", "created_ns": START}],
            "speech": self.speech,
        }
        return problems_of(record, [session], judge(record, [session]), deeds)


def deed(kind: str, target: str, at_ms: int, seconds: float = 0.0, **more: str) -> Deed:
    at_ns = START + at_ms * MS
    return Deed(Act(at_ms / 1_000, kind, target, 0, seconds), at_ns, at_ns + int(seconds * 1e9), **more)


def gap(ms: int) -> Call:
    call = Call()
    call.hear(0, 1_000, 200)
    call.hear(1_000, 3_000, 1_200 + ms)
    return call


def test_a_gap_needs_an_act_nearby_that_can_cause_it() -> None:
    assert Call().problems() != []
    assert gap(0).problems() == []
    assert len(gap(20).problems()) == 1
    assert gap(900).problems(deed("kill", "txpacer", 1_100)) == []
    assert len(gap(1_100).problems(deed("kill", "txpacer", 1_100))) == 1
    assert len(gap(20).problems(deed("kill", "txpacer", 100))) == 1
    assert len(gap(20).problems(deed("kill", "callbook", 1_100))) == 1
    assert len(gap(20).problems(deed("kill", "txpacer", 1_100, failure="(there was none)"))) == 1


def test_what_was_stopped_explains_no_more_than_its_time() -> None:
    assert gap(700).problems(deed("stop", "gateway", 1_100, 0.5)) == []
    assert len(gap(900).problems(deed("stop", "gateway", 1_100, 0.5))) == 1


def test_another_calls_socket_explains_nothing() -> None:
    assert gap(100).problems(deed("slow", "media", 1_100, 0.5, call_sid="CA1")) == []
    assert len(gap(100).problems(deed("slow", "media", 1_100, 0.5, call_sid="CA2"))) == 1


def test_what_a_lost_socket_cut_off_has_to_come_back() -> None:
    lost = deed("lose", "media", 1_200, call_sid="CA1")
    call = Call()
    call.hear(0, 1_000, 200)
    call.lose(1_200)
    found = call.problems(lost)
    assert any("never came" in each for each in found)
    call = Call()
    call.hear(0, 1_000, 200)
    call.lose(1_200)
    call.hear(1_000, 3_000, 1_400)
    assert call.problems(lost) == []
    call = Call()
    call.hear(0, 1_000, 200)
    call.lose(1_200)
    call.hear(1_000, 3_000, 1_400)
    assert any("a socket was lost" in each for each in call.problems())


def test_words_that_died_with_their_session_need_not_come() -> None:
    def call() -> Call:
        made = Call()
        made.hear(0, 1_000, 200)
        return made

    assert any("never came" in each for each in call().problems(deed("kill", "gateway", 1_000)))
    assert not any("never came" in each for each in call().problems(deed("kill", "aibridge", 1_000)))
    assert any("never came" in each for each in call().problems(deed("stop", "aibridge", 1_000, 2.0)))


def test_a_conversation_that_never_comes_back_is_broken_whatever_was_done() -> None:
    call = gap(0)
    call.speech = [{"started_ns": START + 5_000 * MS, "stopped_ns": START + 6_000 * MS}]
    call.outcome = "time-limit"
    found = call.problems(deed("kill", "aibridge", 5_500))
    assert any("time-limit" in each for each in found)
    assert any("no answer" in each for each in found)


def test_the_fallback_needs_an_act_shortly_before() -> None:
    verbs = (VerbRecord(START, "Say", "Sorry"),)
    record = CallRecord("CA1", 0, 0, (), Ear().record(), (), (), (), outcome="hung-up-by-server", verbs=verbs)
    verdict = judge(record, [])
    late = deed("kill", "aibridge", -6_000)
    assert len(problems_of(record, [], verdict, [late])) == 1
    assert problems_of(record, [], verdict, [replace(late, ended_ns=START - 4_000 * MS)]) == []


def test_a_session_ends_with_its_worker_that_was_stopped_until_another_took_over() -> None:
    stop = deed("stop", "aibridge", 5_000, 5.9)
    woke_ns = stop.ended_ns + 100 * MS
    before = {"opened_ns": stop.began_ns - 4_000 * MS, "closed_ns": woke_ns}
    successor = {"opened_ns": stop.began_ns + 3_200 * MS, "closed_ns": None}
    assert lived([before, successor], [stop]) == [before | {"closed_ns": stop.began_ns}, successor]
    assert lived([before], [stop]) == [before]
    later = successor | {"opened_ns": woke_ns + MS}
    assert lived([before, later], [stop]) == [before, later]
    assert lived([before, successor], [deed("stop", "aibridge", 5_000, 2.0)]) == [before, successor]
    assert lived([before, successor], [deed("stop", "gateway", 5_000, 5.9)]) == [before, successor]
