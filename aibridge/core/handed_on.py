"""Calls that were handed on with an order, and the conversation of a caller who comes back from one.

After a Dial or a Conference, Twilio returns with the call and says how it went. The conversation continues with the
story that was kept here, and the model is told why the caller is back. Another worker has no story of the call: there
the conversation begins again, without notice and greeting.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, TypeVar

from msgspec import structs

from shared.plan import CallOrder, CallPlan, Conference, Dial, HangUp

from . import story
from .greeting_protection import Opening
from .owed_and_retry import Owed
from .story import LineMemory, Story

# Tokens and orders that stay known: minutes of a busy cell.
REMEMBERED_MAX: Final = 10_000
# Stories of callers who are with somebody else: more than a worker has calls, some 10 kB each.
STORIES_MAX: Final = 1_000
# What the model is told, by Twilio's DialCallStatus.
_WHY: Final[Mapping[str, str]] = {
    "completed": "They spoke, and that conversation is over.",
    "answered": "They spoke, and that conversation is over.",
    "busy": "The line was busy.",
    "no-answer": "Nobody answered.",
    "failed": "The connection failed.",
    "canceled": "The attempt was cancelled before anybody answered.",
}

Value = TypeVar("Value")


def remember(table: OrderedDict[str, Value], key: str, value: Value, limit: int = REMEMBERED_MAX) -> Value:
    """Enter `value` unless `key` has one, and drop the oldest entry beyond `limit`. Returns the key's value."""
    known = table.setdefault(key, value)
    if len(table) > limit:
        table.popitem(last=False)
    return known


def why_back(outcome: str) -> str:
    """What the model is told about a caller who is back; "" when the caller is not."""
    if not outcome:
        return ""
    why = _WHY.get(outcome, "")
    return f"The call was passed on to somebody else, and the caller is back with you now. {why}".rstrip()


class HandedOn:
    """By CallSid: the order, and the story of a call that may come back."""

    def __init__(self) -> None:
        self._orders: OrderedDict[str, CallOrder] = OrderedDict()
        self._stories: OrderedDict[str, bytes] = OrderedDict()

    def note(self, call_sid: str, order: CallOrder, memory: bytes = b"") -> None:
        """A call was handed on; `memory` is its last CallMemory."""
        self._orders.pop(call_sid, None)
        remember(self._orders, call_sid, order)
        if memory and isinstance(order, Dial | Conference):
            remember(self._stories, call_sid, memory, STORIES_MAX)

    def order(self, call_sid: str) -> CallOrder | None:
        """The order of a call that was not carried out yet, as far as is known."""
        return self._orders.get(call_sid)

    def story(self, call_sid: str) -> Story:
        """The story with which the call goes on if the caller comes back."""
        return story.decode(self._stories.get(call_sid, b""))[0]

    def take_back(self, call_sid: str, plan: CallPlan, outcome: str, recalled: bytes = b"") -> bytes:
        """The caller is back: the memory with which the conversation continues. `recalled`: another cell's."""
        self._orders.pop(call_sid, None)
        told, line = story.decode(self._stories.pop(call_sid, recalled))
        told = structs.replace(
            told,
            plan=plan,
            states={"notice": Opening.OVER.name, "greeting": Opening.OVER.name, "owed": Owed.ANSWER.name},
            purpose="",
            has_spoken=False,
            order=HangUp(),
            returned=outcome,
        )
        # The line is a new one. Its numbers continue, because the story names utterances by them.
        return story.encode(told, LineMemory({}, line.last_utterance, line.last_turn))
