"""What a conversation tells the echo guard of the ear, though the ledger has dropped the speech."""

from __future__ import annotations

import random

import pytest

from aibridge.core.conversation import Conversation
from aibridge.core.metrics import ConversationMetrics
from aibridge.core.near_ear.detection import Detectors, Sensitivity
from aibridge.core.near_ear.echo import EchoGuard
from aibridge.core.rules import Rules, Script
from aibridge.metrics import DEFINITIONS
from shared.audio import FRAME_NS
from shared.metrics import Page
from tests.aibridge.bench import MS, Bench

from .line import ByLevel, quiet


class Recorder(EchoGuard):
    """An echo guard that keeps all that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.reference = b""

    def heard(self, audio: bytes) -> None:
        super().heard(audio)
        self.reference += audio


@pytest.fixture
def bench() -> Bench:
    rules = Rules(sensitivity=Sensitivity(guards_echo=True))
    bench = Bench(rules=rules, start=False)
    detectors = Detectors(lambda: ByLevel(), ByLevel())
    bench.talk = Conversation(
        script=Script(),
        rules=rules,
        metrics=ConversationMetrics(Page.in_memory(DEFINITIONS)),
        rng=random.Random(1),
        detectors=detectors,
    )
    bench.done += bench.talk.start(bench.ns)
    bench.ready()
    bench.take()
    return bench


def hear(bench: Bench, frames: int) -> None:
    for _ in range(frames):
        bench.now += FRAME_NS / MS
        bench.talk.near_events(quiet(20), bench.ns)


def test_the_guard_knows_what_drains_after_a_withdrawal(bench: Bench) -> None:
    bench.answers()
    assert bench.talk.near_ear is not None
    bench.talk.near_ear.guard = guard = Recorder()
    hear(bench, 5)
    bench.speaks()  # at 1,100 ms of the answer; the lead lasts until 1,220
    hear(bench, 3)
    bench.withdrawn(1, (1, 1_220))
    hear(bench, 12)

    # From 40 ms before the first frame on.
    assert guard.reference.count(0) == (1_220 - 960) * 8


def test_the_guard_knows_an_utterance_to_its_end(bench: Bench) -> None:
    bench.began()
    bench.speech(200)
    bench.speech_ended()
    bench.ended()
    bench.ear()
    assert bench.talk.near_ear is not None
    bench.talk.near_ear.guard = guard = Recorder()
    hear(bench, 10)
    bench.heard()
    hear(bench, 10)

    assert guard.reference.count(0) == 200 * 8
