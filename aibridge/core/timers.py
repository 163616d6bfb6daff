"""The instants at which a conversation has something to do by itself; one of each kind."""

from __future__ import annotations

from enum import Enum, auto


class Due(Enum):
    """What is due."""

    ANSWER = auto()  # ask for the response that is owed
    EXPECTED = auto()  # the server ought to have answered by itself
    CREATED = auto()  # response.created ought to have come
    PROTECTED = auto()  # greeting protection ends while an interruption waits
    STALLED = auto()  # a response ought to have gone on, or ended
    CONFIRM = auto()  # speech that lasted until now is a barge-in
    WITHDRAWN = auto()  # txpacer ought to have answered
    DIAL = auto()  # the next try to reach the model
    GIVE_UP = auto()  # no further try
    RENEW = auto()  # dial a fresh session before this one expires


class Timers:
    """Times are ns, monotonic. There are ten kinds, so a dictionary and `min` do."""

    def __init__(self) -> None:
        self._at: dict[Due, int] = {}

    def set(self, due: Due, at_ns: int) -> None:
        self._at[due] = at_ns

    def cancel(self, due: Due) -> None:
        self._at.pop(due, None)

    def is_set(self, due: Due) -> bool:
        return due in self._at

    def next_due_ns(self) -> int | None:
        return min(self._at.values(), default=None)

    def take(self, now_ns: int) -> list[Due]:
        """What is due by now, earliest first; each is given out once."""
        ready = sorted((at_ns, due.value, due) for due, at_ns in self._at.items() if at_ns <= now_ns)
        for _, _, due in ready:
            del self._at[due]
        return [due for _, _, due in ready]
