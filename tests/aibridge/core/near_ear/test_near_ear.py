"""What the near ear takes for an interruption: the rows of the table in docs/conversation.md, and their times."""

from __future__ import annotations

import pytest

from aibridge.core.near_ear.detection import Sensitivity
from aibridge.core.near_ear.events import EchoIgnored, Sound, SpeechBegan, SpeechEnded
from aibridge.core.near_ear.near_ear import NearEar
from shared.audio import FRAME_NS

from .line import BEGAN_NS, MS, ByLevel, Line, ai_speech, caller_speech, echo_of, mixed, quiet


def kinds(events) -> list[type]:
    return [type(event) for _, event in events]


def test_speech_over_the_ai_is_known_within_two_frames_and_its_onset_is_its_first_sound() -> None:
    line = Line()
    assert line.hear(quiet(1_000)) == []

    (at_ms, began), *rest = line.hear(caller_speech(400))

    assert rest == []
    assert 1_000 < at_ms <= 1_060
    assert began == SpeechBegan(BEGAN_NS + 1_000 * MS)
    assert line.ear.sound(line.now_ns) is Sound.SPEECH


def test_speech_while_the_ai_is_silent_is_nobodys_interruption_and_costs_no_judgement() -> None:
    line = Line()

    assert line.hear(caller_speech(800), audible=False) == []
    assert line.detector.asked == 0


def test_a_sound_that_the_detector_denies_is_none() -> None:
    line = Line(detector=ByLevel(lambda level: 0.1))

    assert line.hear(quiet(500) + caller_speech(800)) == []
    assert line.ear.sound(line.now_ns) is Sound.NOTHING


def test_one_uncertain_frame_is_no_speech_and_two_of_them_are() -> None:
    likelihoods = iter([0.55, *[0.0] * 4, 0.55, 0.55, *[0.0] * 500])
    line = Line(detector=ByLevel(lambda level: next(likelihoods)))

    assert line.hear(quiet(500) + caller_speech(60) + quiet(20)) == []
    events = line.hear(caller_speech(500))

    assert kinds(events)[0] is SpeechBegan
    assert events[0][0] == 580 + 4 * 20


def test_steady_noise_is_not_shown_to_the_detector() -> None:
    line = Line()
    noise = mixed(quiet(2_000), quiet(2_000, seed=2), gains=(20, 20))
    line.hear(noise)
    asked = line.detector.asked
    line.hear(noise)
    line.hear(noise)

    assert line.detector.asked - asked <= 10


def test_noise_that_comes_and_goes_is_shown_to_the_detector_less_and_less_often() -> None:
    line = Line(detector=ByLevel(lambda level: 0.0))
    burst = mixed(caller_speech(500), gains=(0.3,)) + quiet(300)
    line.hear(burst)
    first = line.detector.asked
    for _ in range(4):
        line.hear(burst)

    assert (line.detector.asked - first) / 4 < first / 2


def test_speech_is_over_some_200_ms_after_its_last_sound() -> None:
    line = Line()
    line.hear(quiet(500) + caller_speech(300))

    ((at_ms, ended),) = line.hear(quiet(600))

    assert at_ms <= 800 + 200
    assert isinstance(ended, SpeechEnded)
    assert ended.onset_ns == BEGAN_NS + 500 * MS
    assert 200 * MS <= ended.lasted_ns <= 320 * MS


@pytest.mark.parametrize(("short_ms", "sound"), [(0, Sound.SPEECH), (500, Sound.SHORT), (200, Sound.SPEECH)])
def test_speech_that_is_over_is_short_below_the_bound_that_was_set(short_ms: int, sound: Sound) -> None:
    line = Line(sensitivity=Sensitivity(short_ns=short_ms * MS))
    line.hear(quiet(500) + caller_speech(300) + quiet(400))

    assert line.ear.sound(line.now_ns) is sound
    assert line.ear.sound(line.now_ns + 2_000 * MS) is Sound.NOTHING


@pytest.mark.parametrize(("delay_ms", "loss_db"), [(60, 12), (200, 12), (350, 12), (200, 24)])
def test_the_ais_own_voice_is_echo_and_no_speech(delay_ms: int, loss_db: float) -> None:
    ai = ai_speech(4_000)
    line = Line(ai=ai)

    events = line.hear(mixed(quiet(4_000), echo_of(ai, delay_ms=delay_ms, loss_db=loss_db)))

    assert set(kinds(events)) == {EchoIgnored}
    assert line.ear.sound(line.now_ns) is Sound.ECHO


def test_reports_of_the_ear_that_come_40_ms_late_do_not_let_the_ai_interrupt_itself() -> None:
    ai = ai_speech(4_000)
    line = Line(ai=ai, reports_late_ms=40)

    events = line.hear(mixed(quiet(4_000), echo_of(ai, delay_ms=60, loss_db=12)))

    assert set(kinds(events)) == {EchoIgnored}


def test_a_guard_alone_judges_nothing_on_a_line_without_echo() -> None:
    line = Line(ai=ai_speech(4_000), sensitivity=Sensitivity(only_guards=True))
    line.hear(quiet(2_500) + caller_speech(500))

    assert line.detector.asked == 0
    assert line.ear.sound(line.now_ns) is Sound.NOTHING


def test_without_the_guard_the_ai_interrupts_itself() -> None:
    ai = ai_speech(4_000)
    line = Line(ai=ai, sensitivity=Sensitivity(guards_echo=False))

    events = line.hear(mixed(quiet(4_000), echo_of(ai, delay_ms=200, loss_db=12)))

    assert SpeechBegan in kinds(events)


@pytest.mark.parametrize("delay_ms", [60, 200, 350])
def test_a_caller_who_speaks_over_the_echo_is_heard_soon(delay_ms: int) -> None:
    ai = ai_speech(4_000)
    line = Line(ai=ai)
    caller = quiet(3_000) + caller_speech(900)

    events = line.hear(mixed(caller, echo_of(ai, delay_ms=delay_ms, loss_db=12)))

    ((at_ms, began),) = [each for each in events if isinstance(each[1], SpeechBegan)]
    assert 3_000 < at_ms <= 3_160
    # Not the first sound of the echo, which began long before.
    assert BEGAN_NS + 2_900 * MS < began.onset_ns <= BEGAN_NS + 3_160 * MS
    assert line.ear.sound(line.now_ns) is Sound.SPEECH


def test_an_echo_that_comes_when_none_was_expected_is_taken_back_when_it_is_known() -> None:
    ai = ai_speech(6_000)
    line = Line(ai=ai)
    events = line.hear(quiet(2_500))
    # The caller switches to the loudspeaker.
    echo = echo_of(ai, delay_ms=200, loss_db=12)[2_500 * 8 :]

    events = line.hear(mixed(quiet(3_500), echo))

    assert kinds(events)[:2] == [SpeechBegan, SpeechEnded]
    assert kinds(events).count(SpeechBegan) <= 2
    assert kinds(events)[-1] is EchoIgnored


def test_a_short_word_does_not_make_the_next_one_inaudible() -> None:
    line = Line()
    line.hear(quiet(500) + caller_speech(120) + quiet(800))

    assert SpeechBegan in kinds(line.hear(caller_speech(300)))


def test_chunks_of_any_length_are_heard_alike() -> None:
    audio = quiet(500) + caller_speech(300) + quiet(500)
    found = [[event for _, event in Line().hear(audio, chunk=chunk)] for chunk in (160, 70, 480, 1_000)]

    assert found[1] == found[2] == found[3] == found[0] != []


def test_audio_that_arrives_late_was_spoken_when_it_would_have_arrived() -> None:
    line = Line()
    line.hear(quiet(500))
    speech = caller_speech(100)

    # The network stalls for 90 ms, and then all comes at once.
    late_ns = line.now_ns + 100 * MS
    events = [
        event
        for at in range(0, len(speech), 160)
        for event in line.ear.hear(speech[at : at + 160], late_ns, is_ai_audible=True)
    ]

    assert events == [SpeechBegan(BEGAN_NS + 500 * MS)]


def test_audio_that_stays_late_has_lost_something_and_is_placed_anew() -> None:
    line = Line()
    line.hear(quiet(1_000))
    line.now_ns += 300 * MS
    line.hear(quiet(3_000))

    events = line.hear(caller_speech(100))

    assert [event.onset_ns for _, event in events] == [BEGAN_NS + 4_300 * MS]


def test_the_ais_last_words_are_echo_after_the_ai_fell_silent() -> None:
    ai = ai_speech(2_500)
    line = Line(ai=ai)
    audio = mixed(quiet(3_200), echo_of(ai + b"\xff" * 8 * 700, delay_ms=350, loss_db=12))

    line.hear(audio[: 2_500 * 8])
    events = line.hear(audio[2_500 * 8 :], audible=False)

    assert SpeechBegan not in kinds(events)
    assert line.ear.sound(BEGAN_NS + 2_900 * MS) is Sound.ECHO


def test_real_detectors_know_recorded_speech_and_deny_noise() -> None:
    detectors = pytest.importorskip("aibridge.detectors").load()
    if detectors is None:
        pytest.skip("twentyms[near-ear] is not installed")
    ear = NearEar(detectors, Sensitivity(), lambda from_ns, n: ai_speech(3_000)[:n])
    noise = mixed(quiet(1_500), quiet(1_500, seed=3), gains=(25, 25))
    audio = noise + caller_speech(600)
    began = [
        (number * 20, event.onset_ns)
        for number in range(1, len(audio) // 160 + 1)
        for event in ear.hear(audio[number * 160 - 160 : number * 160], number * FRAME_NS, is_ai_audible=True)
        if isinstance(event, SpeechBegan)
    ]

    assert len(began) == 1
    assert 1_500 < began[0][0] <= 1_640


def test_a_word_whose_beginning_was_denied_makes_no_later_word_inaudible() -> None:
    likelihoods = iter([*[0.0] * 9, *[0.9] * 500])
    line = Line(detector=ByLevel(lambda level: next(likelihoods)))
    line.hear(quiet(500))
    assert SpeechBegan in kinds(line.hear(caller_speech(400) + quiet(600)))

    assert SpeechBegan in kinds(line.hear(mixed(caller_speech(400), gains=(0.3,))))


def test_a_sound_that_may_be_the_first_echo_of_a_call_is_echo_to_a_model_that_reports_it_early() -> None:
    ai = quiet(500) + ai_speech(2_000)
    line = Line(ai=ai)
    heard = echo_of(ai, delay_ms=200, loss_db=12)

    line.hear(mixed(quiet(960), heard[: 8 * 960]))

    assert line.ear.sound(line.now_ns) is Sound.ECHO
