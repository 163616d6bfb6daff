"""What the model hears of a caller whose telephone returns the AI's voice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aibridge import canceller
from aibridge.core.near_ear.detection import Detectors, Sensitivity
from aibridge.core.near_ear.near_ear import NearEar
from aibridge.core.near_ear.removal import Canceller, EchoRemoval
from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS, SILENCE
from simulator.model.vad import Vad

from .line import MS, ByLevel, ai_speech, caller_speech, echo_of, mixed, quiet


class Recorder:
    """A canceller that keeps what it is given and returns silence."""

    def __init__(self) -> None:
        self.heard = b""

    def remove(self, caller: bytes, heard: bytes) -> bytes:
        self.heard += heard
        return SILENCE * len(caller)


def model_hears(caller: bytes, ai: bytes, make: Callable[[], Canceller], sensitivity: Sensitivity) -> bytes:
    """Both begin at once."""

    def heard(from_ns: int, n_bytes: int) -> bytes:
        at = from_ns // BYTE_NS
        speech = SILENCE * min(n_bytes, max(0, -at)) + ai[max(0, at) : max(0, at + n_bytes)]
        return speech + SILENCE * (n_bytes - len(speech))

    detector = ByLevel()
    ear = NearEar(Detectors(lambda: detector, detector, make), sensitivity, heard)
    found = b""
    for at in range(0, len(caller), FRAME_BYTES):
        frame = caller[at : at + FRAME_BYTES]
        ear.hear(frame, (at + len(frame)) * BYTE_NS, is_ai_audible=True)
        found += ear.without_echo(frame)
    return found


REMOVES = Sensitivity(removes_echo=True)


def test_a_line_without_echo_is_never_given_to_a_canceller() -> None:
    caller = quiet(2_000) + caller_speech(400)

    assert model_hears(caller, ai_speech(2_400), Recorder, REMOVES) == caller


def test_an_echo_is_removed_once_it_is_known_and_only_where_that_is_wanted() -> None:
    ai = ai_speech(2_000)
    caller = mixed(quiet(2_000), echo_of(ai, delay_ms=200, loss_db=12))

    assert model_hears(caller, ai, Recorder, Sensitivity()) == caller
    found = model_hears(caller, ai, Recorder, REMOVES)
    assert found[: 300 * 8] == caller[: 300 * 8]
    assert found[1_000 * 8 :] == SILENCE * (1_000 * 8)


@pytest.mark.parametrize(("delay_ms", "late_ms"), [(60, 40), (200, 140), (600, 540)])
def test_the_source_is_read_shortly_before_its_echo_returns(delay_ms: int, late_ms: int) -> None:
    asked: list[tuple[int, int]] = []

    def heard(from_ns: int, n_bytes: int) -> bytes:
        asked.append((from_ns, n_bytes))
        return SILENCE * n_bytes

    removal = EchoRemoval(Recorder, heard)
    removal.clean(SILENCE * FRAME_BYTES, 1_000 * MS, delay_ms * MS)
    removal.clean(SILENCE * FRAME_BYTES, 1_020 * MS, (delay_ms + 5) * MS)

    assert asked == [((980 - late_ms) * MS, FRAME_BYTES), ((1_000 - late_ms) * MS, FRAME_BYTES)]


def test_an_echo_that_stays_out_of_reach_gets_another_canceller() -> None:
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    removal = EchoRemoval(make, lambda from_ns, n_bytes: SILENCE * n_bytes)
    for delay_ms in (200, 210, 600, 205, *[600] * 60):
        removal.clean(SILENCE * FRAME_BYTES, FRAME_NS, delay_ms * MS)

    assert [len(each.heard) // FRAME_BYTES for each in made] == [54, 10]


def test_audio_that_is_no_whole_frame_passes_unchanged() -> None:
    removal = EchoRemoval(Recorder, lambda from_ns, n_bytes: SILENCE * n_bytes)

    assert removal.clean(b"\x01" * 70, FRAME_NS, 200 * MS) == b"\x01" * 70


def test_the_model_notices_a_caller_over_an_echo_that_hid_them() -> None:
    make = canceller.load()
    if make is None:
        pytest.skip("twentyms[echo-removal] is not installed")
    ai = ai_speech(5_000)
    own = quiet(4_000) + caller_speech(900) + quiet(100)
    line = mixed(own, echo_of(ai, delay_ms=200, loss_db=12))

    def noticed(audio: bytes) -> list[int]:
        return [edge.at_ms for edge in Vad(needed_ms=300).feed(audio) if edge.kind == "started"]

    assert not [at_ms for at_ms in noticed(line) if at_ms >= 4_000]
    assert [at_ms for at_ms in noticed(model_hears(line, ai, make, REMOVES)) if 4_000 <= at_ms <= 4_600]
