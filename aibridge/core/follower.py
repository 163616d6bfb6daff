"""Tells a browser phone what happens in its call, as notes of JSON.

Each note is one object with one key:

    turn          a turn that is new or changed: `number`, `role` ("caller", "ai", "tool"), `text`, `heard` (the words
                  of it that were heard), `spokenMs`, `heardMs` (null while it is being heard), `interrupted`, and
                  `beganMs`: when the ear began to play it, against now (null: not yet)
    speech        "started" or "stopped": what the model noticed of the caller
    response      "created", or what became of it: "completed", "cancelled", "failed", "incomplete"
    interruption  the caller stopped the AI: `agoMs` since speech_started, `silentMs` from then until the ear fell
                  silent, `onsetMs` from the caller's first sound until then (null: unknown), `early` when the line was
                  paused before the model noticed, `protected` when it waited for greeting protection, `cancelled` when
                  the model had to be told
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

import msgspec

from shared.audio import ms_of

from ..models.port import CallerSilent, CallerSpeaks, ModelEvent, ResponseBegan, ResponseEnded
from .history import History, Turn


class Follower:
    """The notes of one call; `send` takes a note and never waits. Times are ns, monotonic."""

    def __init__(self, history: History, send: Callable[[bytes], None]) -> None:
        self._history = history
        self._send = send
        # The last note of each turn, and the turn up to which no turn can change.
        self._told: dict[int, tuple[Any, ...]] = {}
        self._settled = 0
        self._interruptions = 0

    def event(self, event: ModelEvent) -> None:
        """Note an event of the model."""
        match event:
            case CallerSpeaks():
                self._note({"speech": "started"})
            case CallerSilent():
                self._note({"speech": "stopped"})
            case ResponseBegan():
                self._note({"response": "created"})
            case ResponseEnded(_, outcome):
                self._note({"response": outcome})
            case _:
                pass

    def look(self, now_ns: int) -> None:
        """Note what changed since the last look."""
        last_turns = reversed(self._history.turns)
        open_turns = list(takewhile(lambda turn: turn.number > self._settled, last_turns))[::-1]
        for turn in open_turns:
            # The bytes in steps of a second: they come with every delta.
            seconds = turn.received_bytes // 8_000
            state = (turn.text, turn.started_ns, turn.ended_ns, seconds, turn.heard_bytes, turn.interrupted)
            if self._told.get(turn.number) != state:
                self._told[turn.number] = state
                self._note({"turn": _turn(turn, now_ns)})
        # Late words can still come for the last few turns; earlier turns are complete.
        for turn in open_turns[:-4]:
            if turn.ended_ns is None:
                break
            self._told.pop(turn.number, None)
            self._settled = turn.number
        for each in self._history.interruptions[self._interruptions :]:
            self._interruptions += 1
            note = {
                "agoMs": (now_ns - each.at_ns) // 1_000_000,
                "silentMs": max(0, each.silent_ns - each.at_ns) // 1_000_000,
                "onsetMs": (each.silent_ns - each.onset_ns) // 1_000_000 if each.onset_ns else None,
                "early": bool(each.paused_ns),
                "protected": each.protected,
                "cancelled": each.cancelled,
            }
            self._note({"interruption": note})

    def _note(self, note: dict[str, Any]) -> None:
        self._send(msgspec.json.encode(note))


def _turn(turn: Turn, now_ns: int) -> dict[str, Any]:
    return {
        "number": turn.number,
        "role": turn.role,
        "text": turn.shown_text,
        "heard": turn.heard_text,
        "spokenMs": ms_of(turn.received_bytes),
        "heardMs": None if turn.heard_bytes is None else ms_of(turn.heard_bytes),
        "interrupted": turn.interrupted,
        "beganMs": (turn.started_ns - now_ns) // 1_000_000 if turn.started_ns else None,
    }
