"""What the model is told about a call of a tool, and the memory of what was told."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

from shared.messages import ToolAnswered

# `(call_sid, call_id)`: names one call of a tool.
Key: TypeAlias = tuple[str, str]

# About 2,000 tokens. A longer answer takes the caller's time and the room of the conversation (32k tokens).
ANSWER_CHARS_MAX: Final = 8_000
# Answers that stay known, for a worker that takes over and asks again within seconds: ten minutes of 150 calls with a
# tool every ten seconds. The text of all of them is bounded, too.
ANSWERS_MAX: Final = 10_000
ANSWER_CHARS_KEPT: Final = 8_000_000
# Keys that stay known after their answers were forgotten, so that nothing is carried out twice: an hour.
KEYS_MAX: Final = 50_000

_NOT_DONE: Final = "It was not carried out."
_PERHAPS: Final = "It is not known whether it was carried out. Do not repeat it before you have found out."
# For the outcomes whose text does not come from the tool.
TEXTS: Final = {
    "busy": f"The tool is too busy. {_NOT_DONE}",
    "unavailable": f"The tool is not available at the moment. {_NOT_DONE}",
    "timeout": f"The tool took too long and was stopped. {_PERHAPS}",
    "cancelled": f"The tool was stopped on the way. {_PERHAPS}",
    "crashed": f"The tool crashed. {_PERHAPS}",
    "unknown": f"The tool's answer was lost. {_PERHAPS}",
}
# The same for a tool without side effects.
HARMLESS_TEXTS: Final = {
    "timeout": "The tool took too long and was stopped.",
    "cancelled": "The tool was stopped on the way.",
    "crashed": "The tool crashed.",
}
CANCELLED_UNBEGUN: Final = f"The tool was not needed any more. {_NOT_DONE}"
NO_SUCH_TOOL: Final = f"There is no tool of this name. {_NOT_DONE}"
TOO_LONG: Final = f"The arguments are too long. {_NOT_DONE}"
TOO_MANY: Final = f"Too many tools are running for this caller. Wait for their answers first. {_NOT_DONE}"


def cut(text: str, limit: int = ANSWER_CHARS_MAX) -> str:
    """`text`, or its beginning and a note that tells how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut: the answer has {len(text)} characters, and {limit} are shown]"


class Answers:
    """The answers of the last calls, by key. Bounds: ANSWERS_MAX, ANSWER_CHARS_KEPT and KEYS_MAX; the oldest go first.

    `find` gives an answer with outcome "unknown" for a key whose answer is forgotten.
    """

    def __init__(
        self, *, answers_max: int = ANSWERS_MAX, chars_max: int = ANSWER_CHARS_KEPT, keys_max: int = KEYS_MAX
    ) -> None:
        self._answers: OrderedDict[Key, ToolAnswered] = OrderedDict()
        self._old_keys: OrderedDict[Key, None] = OrderedDict()
        self._chars = 0
        self._answers_max = answers_max
        self._chars_max = chars_max
        self._keys_max = keys_max

    def keep(self, answer: ToolAnswered) -> None:
        self._answers[answer.call_sid, answer.call_id] = answer
        self._chars += len(answer.output)
        while len(self._answers) > self._answers_max or self._chars > self._chars_max:
            key, old = self._answers.popitem(last=False)
            self._chars -= len(old.output)
            self._old_keys[key] = None
        while len(self._old_keys) > self._keys_max:
            self._old_keys.popitem(last=False)

    def find(self, key: Key) -> ToolAnswered | None:
        found = self._answers.get(key)
        if found is None and key in self._old_keys:
            return ToolAnswered(*key, "unknown", TEXTS["unknown"])
        return found
