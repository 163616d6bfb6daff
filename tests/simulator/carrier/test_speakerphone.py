"""A speakerphone brings back what the caller hears."""

from __future__ import annotations

import math

from shared.audio import FRAME_BYTES, MULAW_TO_LINEAR, SILENCE
from simulator.carrier.call import CarrierCall
from simulator.carrier.caller import AfterAnswer, Caller, Say
from simulator.carrier.ear import Ear
from simulator.carrier.speakerphone import Speakerphone
from simulator.voice import clip

MS = 1_000_000
T0 = 1_000_000 * MS
SPEECH = clip("tt-weasels").audio[4_000:12_000]


def level(audio: bytes) -> float:
    return math.sqrt(sum(MULAW_TO_LINEAR[byte] ** 2 for byte in audio) / len(audio))


def test_the_ear_tells_what_it_played_and_silence_where_it_played_nothing() -> None:
    ear = Ear()
    for at in range(0, 800, 160):
        ear.media(SPEECH[at : at + 160], T0)
    assert ear.heard(T0 - 10 * MS, 160) == SILENCE * 80 + SPEECH[:80]
    assert ear.heard(T0 + 30 * MS, 320) == SPEECH[240:560]
    assert ear.heard(T0 + 90 * MS, 160) == SPEECH[720:800] + SILENCE * 80
    ear.clear(T0 + 50 * MS)
    assert ear.heard(T0 + 40 * MS, 160) == SPEECH[320:400] + SILENCE * 80


def test_the_echo_comes_later_and_quieter_by_what_was_asked() -> None:
    heard = SILENCE * 8_000 + SPEECH + SILENCE * 8_000
    phone = Speakerphone(delay_ms=200, loss_db=12)

    def play(from_ns: int, n_bytes: int) -> bytes:
        at = 8_000 + (from_ns - T0) // 125_000
        return heard[at : at + n_bytes]

    line = b"".join(phone.line(SILENCE * FRAME_BYTES, T0 + n * 20 * MS, play) for n in range(60))
    assert line[:1_600] == SILENCE * 1_600
    assert 9 < 20 * math.log10(level(SPEECH) / level(line[1_600:9_600])) < 13


def test_a_call_records_what_its_speakerphone_sent() -> None:
    caller = Caller([Say("x", AfterAnswer(0), SPEECH[:320])], speakerphone=Speakerphone(delay_ms=60, loss_db=12))
    call = CarrierCall("CA1", "AC1", caller)
    call.open("MZ1", {}, T0)
    call._ear.media(SPEECH, T0)
    for n in range(1, 11):
        call.advance(T0 + n * 20 * MS)
    sent = call.record().sent_audio()
    assert len(sent) == 1_600
    assert sent[:320] == SPEECH[:320]
    assert level(sent[640:]) > 100
