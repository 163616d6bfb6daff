"""The tones of send_dtmf: exact, after what is being said, whole, and answered when they were heard."""

from __future__ import annotations

import json
import math
import random

import pytest

from aibridge.core.commands import CallTool, Speak, WithdrawSpeech
from aibridge.core.keypad import KeypadRules
from aibridge.core.rules import Line, Rules, Script
from aibridge.core.successor import successor, tell
from aibridge.core.tones import (
    HIGH_DBM0,
    HIGH_HZ,
    KEYS,
    LOW_DBM0,
    LOW_HZ,
    PAUSE_MS,
    SEND_DTMF,
    TONE_MS,
    WAIT_MS,
    WRONG,
    audio_of,
    digits_of,
    sent,
)
from aibridge.models.port import AnswerTool, Ask, Tell, TellAnswer, TellCall
from shared.audio import BYTES_PER_MS, FRAME_BYTES, MULAW_TO_LINEAR, SILENCE
from simulator.carrier import dtmf
from tests.aibridge.bench import Bench

RULES = Rules(sends_dtmf=True, keypad=KeypadRules(interrupts=True))


def bench(script: Script | None = None) -> Bench:
    return Bench(rules=RULES, script=script)


def calling(digits: str, *, speech_ms: int = 0, script: Script | None = None) -> Bench:
    """The caller has asked something, and the model says something and sends tones."""
    own = bench(script)
    own.speaks()
    own.stops()
    response = own.talk.numbers.response + 1  # a recording has a number, too
    own.began(response)
    if speech_ms:
        own.speech(speech_ms, response=response)
        own.speech_ended()
    own.calls(SEND_DTMF, response, arguments=json.dumps({"digits": digits}))
    own.ended(response)
    return own


def spoken(own: Bench, utterance: int) -> bytes:
    return b"".join(each.data for each in own.all(Speak) if each.utterance == utterance)


def answers(own: Bench) -> list[str]:
    return [each.output for each in own.all(AnswerTool)]


# --- the audio ---


@pytest.mark.parametrize("key", "".join(KEYS))
def test_a_tone_has_its_exact_length_levels_and_frequencies(key: str) -> None:
    audio = audio_of(key)
    assert len(audio) == (TONE_MS + PAUSE_MS) * BYTES_PER_MS
    assert len(audio) % FRAME_BYTES == 0
    assert audio[TONE_MS * BYTES_PER_MS :] == SILENCE * (PAUSE_MS * BYTES_PER_MS)
    assert TONE_MS >= 80 <= PAUSE_MS
    samples = [MULAW_TO_LINEAR[code] for code in audio[: TONE_MS * BYTES_PER_MS]]
    row = next(at for at, keys in enumerate(KEYS) if key in keys)
    pair = {LOW_HZ[row]: LOW_DBM0, HIGH_HZ[KEYS[row].index(key)]: HIGH_DBM0}
    for hz in (*LOW_HZ, *HIGH_HZ):
        turning = [
            complex(math.cos(angle), -math.sin(angle)) for at in range(800) for angle in [math.tau * hz * at / 8_000]
        ]
        level = dtmf.dbm0(abs(sum(map(complex.__mul__, map(complex, samples), turning))) * 2 / 800)
        if hz in pair:
            assert level == pytest.approx(pair[hz], abs=0.3)
        else:
            assert level < LOW_DBM0 - 20
    (found,) = dtmf.tones(SILENCE * 800 + audio)
    assert abs(found.low_off) < 0.002
    assert abs(found.high_off) < 0.002


def test_a_pause_is_half_a_second() -> None:
    assert audio_of("w") == SILENCE * (WAIT_MS * BYTES_PER_MS)


def test_a_thousand_random_sequences_are_received_as_they_were_sent() -> None:
    rng = random.Random(1)
    for _ in range(1_000):
        digits = "".join(rng.choices("".join(KEYS) + "w", k=rng.randint(1, 16)))
        heard = SILENCE * rng.randrange(0, FRAME_BYTES, 20) + audio_of(digits)
        assert dtmf.decode(heard) == digits.replace("w", "")


@pytest.mark.parametrize(
    "arguments", ["", "{}", '{"digits": ""}', '{"digits": "12x"}', '{"digits": 5}', "[", f'{{"digits": "{"1" * 65}"}}']
)
def test_other_digits_are_none(arguments: str) -> None:
    assert digits_of(arguments) == ""


def test_what_was_sent_is_told_by_what_was_heard() -> None:
    assert json.loads(sent("1w2", len(audio_of("1w2")) - 800)) == {"sent": "1w2"}
    assert json.loads(sent("1w2", len(audio_of("1w")))) == {"sent": "1w", "not_sent": "2"}
    assert json.loads(sent("12", 799)) == {"sent": "", "not_sent": "12"}


# --- the conversation ---


def test_tones_play_when_the_line_is_silent_and_are_answered_when_they_were_heard() -> None:
    own = calling("12", speech_ms=500)
    own.ear()
    assert not spoken(own, 2)
    own.heard()
    assert spoken(own, 2) == audio_of("12")
    assert not own.all(CallTool)
    own.ear(2)
    assert answers(own) == []
    own.heard(2)
    assert answers(own) == ['{"sent":"12"}']
    own.wait(150)
    assert [each.purpose for each in own.all(Ask)] == ["answer"]
    assert [turn.role for turn in own.talk.history.turns] == ["caller", "ai", "tool", "tones"]


def test_sequences_play_one_after_the_other() -> None:
    own = bench()
    own.speaks()
    own.stops()
    own.began()
    for number in (1, 2):
        own.calls(SEND_DTMF, tool_call=number, arguments=json.dumps({"digits": str(number)}))
    own.ended()
    assert spoken(own, 1) == audio_of("1")
    assert not spoken(own, 2)
    own.ear(1)
    own.heard(1)
    assert spoken(own, 2) == audio_of("2")
    own.ear(2)
    own.heard(2)
    assert answers(own) == ['{"sent":"1"}', '{"sent":"2"}']


def test_an_interruption_takes_back_the_words_before_the_tones_and_not_the_tones() -> None:
    own = calling("12", speech_ms=2_000)
    own.ear()
    own.speaks(2)
    own.withdrawn(1, (1, 300))
    assert spoken(own, 2) == audio_of("12"), "they play while the caller speaks: a machine may be speaking"
    own.ear(2)
    own.heard(2)
    assert answers(own) == ['{"sent":"12"}']


def test_tones_are_not_interrupted_by_speech_or_keys() -> None:
    own = calling("12")
    own.ear()
    own.speaks(2)
    own.done += own.talk.key("5", own.ns, own.ns)
    assert not own.all(WithdrawSpeech)
    own.heard()
    assert not own.all(WithdrawSpeech)
    assert answers(own) == ['{"sent":"12"}']


def test_tones_wait_for_the_recording_notice() -> None:
    own = calling("1", script=Script(notice=Line("Recorded.", bytes(8_000))))
    assert spoken(own, 1) == bytes(8_000)
    assert not spoken(own, 2)
    own.ear(1)
    own.heard(1)
    assert spoken(own, 2) == audio_of("1")


def test_wrong_digits_are_answered_at_once() -> None:
    own = calling("hello")
    assert answers(own) == [json.dumps({"error": WRONG}, separators=(",", ":"))]
    assert not own.all(Speak)


def test_an_agent_without_the_function_does_not_have_it() -> None:
    own = Bench()
    own.speaks()
    own.stops()
    own.began()
    own.calls(SEND_DTMF, arguments='{"digits": "1"}')
    assert answers(own) == ['{"error":"no such function"}']


@pytest.mark.parametrize("is_in_line", [True, False])
def test_a_successor_sends_nothing_twice_and_answers_when_the_tones_were_heard(is_in_line: bool) -> None:
    own = calling("12")
    story, line = tell(own.talk, 0)
    audio = audio_of("12")
    in_line = [((1, len(audio), 800, True, own.ns), audio[800:])] if is_in_line else []
    heir = Bench(rules=RULES, start=False)
    heir.done += successor(heir.talk, story, line, in_line, heir.ns, 0)
    heir.ready()
    if is_in_line:
        assert not heir.all(TellAnswer)
        heir.heard()
    assert not heir.all(Speak)
    assert [each.output for each in heir.all(TellAnswer)] == ['{"sent":"12"}']
    assert [each.name for each in heir.all(TellCall)] == [SEND_DTMF]
    assert [each.role for each in heir.all(Tell)] == ["caller"], "the tones are not words of the AI"


def test_a_successor_sends_the_tones_that_its_predecessor_did_not_send() -> None:
    own = calling("12", speech_ms=2_000)
    story, line = tell(own.talk, 0)
    heir = Bench(rules=RULES, start=False)
    heir.done += successor(heir.talk, story, line, [((1, 16_000, 16_000, True, own.ns), b"")], heir.ns, 0)
    heir.ready()
    assert not heir.all(Speak)
    heir.heard()
    (speak,) = heir.all(Speak)
    assert speak.data == audio_of("12")
