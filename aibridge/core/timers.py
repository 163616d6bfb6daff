"""The instants at which a conversation acts by itself; one of each kind."""

from __future__ import annotations

from enum import Enum, auto


class Due(Enum):
    """What is due."""

    ANSWER = auto()  # request the response that is owed
    EXPECTED = auto()  # the model should have answered by itself
    CREATED = auto()  # the requested response should have begun
    PROTECTED = auto()  # greeting protection ends while an interruption waits
    STALLED = auto()  # a response should have gone on, or ended
    REPORT = auto()  # the model should have reported the speech that paused the line
    CONFIRM = auto()  # speech that lasted until now is a barge-in
    KEYS = auto()  # no key has followed the last one
    TOOL = auto()  # toolbox should have answered
    FILLER = auto()  # the caller has waited long for a tool
    SILENCE = auto()  # the caller has said nothing for long
    WARNING = auto()  # the call may not last much longer
    LENGTH = auto()  # the call has reached its longest
    WITHDRAWN = auto()  # txpacer should have answered
    DIAL = auto()  # the next attempt to reach the model
    GIVE_UP = auto()  # no further attempt
    RENEW = auto()  # dial a new session before this one expires


class Timers:
    """Times are ns, monotonic. With a dozen kinds, a dictionary and `min` suffice."""

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
        """Return what is due, earliest first, and forget it."""
        ready = sorted((at_ns, due.value, due) for due, at_ns in self._at.items() if at_ns <= now_ns)
        for _, _, due in ready:
            del self._at[due]
        return [due for _, _, due in ready]
