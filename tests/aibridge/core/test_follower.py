"""The notes for a browser phone that follows a call."""

from __future__ import annotations

import json
from typing import Any

from aibridge.core.follower import Follower
from aibridge.core.history import History, Interruption
from aibridge.core.utterances import Utterance
from aibridge.models.port import CallerSilent, CallerSpeaks, ResponseBegan, ResponseEnded

MS = 1_000_000


def follow() -> tuple[History, Follower, list[dict[str, Any]]]:
    history, notes = History(), list[dict[str, Any]]()
    return history, Follower(history, lambda note: notes.append(json.loads(note))), notes


def test_events_of_the_model_are_noted_in_order() -> None:
    _, follower, notes = follow()
    for event in (CallerSpeaks(1), CallerSilent(1), ResponseBegan(1), ResponseEnded(1, "cancelled")):
        follower.event(event)
    assert notes == [{"speech": "started"}, {"speech": "stopped"}, {"response": "created"}, {"response": "cancelled"}]


def test_a_turn_is_noted_only_when_it_changed() -> None:
    history, follower, notes = follow()
    speech = Utterance(1, 1, received_bytes=16_000, began_ns=500 * MS)
    history.begin_utterance(speech).text = "one two three four"
    follower.look(300 * MS)
    follower.look(400 * MS)
    assert [note["turn"]["beganMs"] for note in notes] == [200]
    speech.heard_bytes, speech.settled_ns = 8_000, 1_500 * MS
    follower.look(1_500 * MS)
    told = notes[-1]["turn"]
    assert (told["text"], told["heard"]) == ("one two three four", "one two")
    assert (told["spokenMs"], told["heardMs"], told["interrupted"]) == (2_000, 1_000, True)
    assert len(notes) == 2


def test_a_turn_whose_audio_grows_is_noted_once_a_second() -> None:
    history, follower, notes = follow()
    speech = Utterance(1, 1)
    history.begin_utterance(speech)
    for _ in range(100):
        speech.received_bytes += 800
        follower.look(0)
    assert len(notes) == 11


def test_an_interruption_is_noted_once_with_its_times() -> None:
    history, follower, notes = follow()
    history.interruptions.append(Interruption(1_000 * MS, 1_120 * MS, False, True))
    follower.look(1_030 * MS)
    follower.look(1_040 * MS)
    times = {"agoMs": 30, "silentMs": 120, "onsetMs": None, "early": False}
    assert notes == [{"interruption": {**times, "protected": False, "cancelled": True}}]


def test_an_early_pause_is_noted_with_the_time_since_the_first_sound() -> None:
    history, follower, notes = follow()
    history.interruptions.append(Interruption(1_000 * MS, 820 * MS, False, True, 640 * MS, 700 * MS))
    follower.look(1_030 * MS)
    times = {"agoMs": 30, "silentMs": 0, "onsetMs": 180, "early": True}
    assert notes == [{"interruption": {**times, "protected": False, "cancelled": True}}]


def test_late_words_of_an_old_turn_are_noted_and_complete_turns_are_not_repeated() -> None:
    history, follower, notes = follow()
    for number in range(50):
        history.begin_utterance(Utterance(number + 1, 1, settled_ns=1))
        follower.look(2)
    notes.clear()
    history.turns[-2].text = "late"
    follower.look(3)
    assert [note["turn"]["number"] for note in notes] == [49]
