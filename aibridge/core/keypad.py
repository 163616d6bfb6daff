"""The keys that the caller presses: gathered to an entry, which the model is told in words.

An entry is complete when its terminator comes, when it is long enough, or when no key has followed for a while. While
keys come in, the caller has the floor: nothing is requested of the model. A key interrupts the AI only if the agent
says so, and then by the rules of speech: over protected words the interruption waits, and happens at their end if the
entry is not complete by then.

Secret keys are gathered in the same way. The model learns their number, and the agent's tools get them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from shared.metrics import Counter

from .chart import Chart, Table, becomes, stays

# The keys of one entry, whatever its length should be: three times an IBAN's digits.
ENTRY_MAX: Final = 64
# What the model is told of an entry begins so.
IN_WORDS: Final = "(The caller pressed on the phone's keypad: "


@dataclass(frozen=True)
class KeypadRules:
    """The agent's `[keypad]`."""

    timeout_ns: int = 2_000_000_000
    # Ends an entry and is not part of it; "": no key does.
    terminator: str = "#"
    # The entry is complete with so many keys; 0: any number.
    length: int = 0
    interrupts: bool = False
    secret: bool = False


class Keys(Enum):
    NONE = auto()
    PRESSING = auto()  # an entry is begun
    WAITING = auto()  # the same, over protected words: at their end, it interrupts


class KeysEvent(Enum):
    PRESSED = auto()  # and nothing is interrupted
    PRESSED_OVER_PROTECTED = auto()  # the key interrupts, and the AI says its notice or its first words
    PRESSED_OVER_AI = auto()  # the key interrupts, and there is something to interrupt
    PROTECTION_ENDS = auto()  # there is something to interrupt
    PROTECTION_ENDS_IN_SILENCE = auto()
    COMPLETE = auto()


class KeysAct(Enum):
    INTERRUPT = auto()
    INTERRUPT_LATE = auto()  # the same after a protection
    COUNT_PROTECTED = auto()
    TELL = auto()  # the model is told the entry, and answers


_BEGUN: Final = (Keys.PRESSING, Keys.WAITING)

KEYS_TABLE: Final[Table[Keys, KeysEvent, KeysAct]] = {
    **becomes((Keys.NONE,), KeysEvent.PRESSED, Keys.PRESSING),
    **becomes((Keys.NONE, Keys.PRESSING), KeysEvent.PRESSED_OVER_PROTECTED, Keys.WAITING, KeysAct.COUNT_PROTECTED),
    **becomes(Keys, KeysEvent.PRESSED_OVER_AI, Keys.PRESSING, KeysAct.INTERRUPT),
    (Keys.WAITING, KeysEvent.PROTECTION_ENDS): (Keys.PRESSING, (KeysAct.INTERRUPT_LATE,)),
    (Keys.WAITING, KeysEvent.PROTECTION_ENDS_IN_SILENCE): (Keys.PRESSING, ()),
    **becomes(_BEGUN, KeysEvent.COMPLETE, Keys.NONE, KeysAct.TELL),
    **stays(_BEGUN, KeysEvent.PRESSED),
    **stays((Keys.WAITING,), KeysEvent.PRESSED_OVER_PROTECTED),
}


class Keypad:
    """The region of the keys, and the entry that is being made. Times are ns, monotonic."""

    def __init__(self, rules: KeypadRules, illegal: Counter) -> None:
        self.rules = rules
        self.chart = Chart(KEYS_TABLE, Keys.NONE, illegal)
        # The keys of the entry so far, and when its first and its last key were pressed.
        self.pressed = ""
        self.first_ns = self.last_ns = 0
        # An agent that takes over the call may have other rules: an entry that was secret stays so.
        self.is_secret = False
        # The last entry, for the tools.
        self.entered = ""
        # The numbers of entries that the model was told and has not confirmed to have.
        self.unconfirmed: set[int] = set()

    @property
    def is_pressing(self) -> bool:
        return self.chart.state is not Keys.NONE

    def add(self, key: str, at_ns: int) -> bool:
        """A key is pressed. Returns whether the entry is complete. A terminator alone is an entry, too."""
        if not self.pressed:
            self.first_ns = at_ns
        self.last_ns = at_ns
        self.is_secret |= self.rules.secret
        if key == self.rules.terminator and self.pressed:
            return True
        self.pressed += key
        return key == self.rules.terminator or len(self.pressed) >= (self.rules.length or ENTRY_MAX)

    def take(self) -> str:
        """The complete entry, as the model and the records may know it."""
        is_secret, self.is_secret = self.is_secret or self.rules.secret, False
        self.entered, self.pressed = self.pressed, ""
        if not is_secret:
            return self.entered
        count = len(self.entered)
        return f"{count} secret {'key' if count == 1 else 'keys'}"


def in_words(shown: str) -> str:
    """An entry, as the model is told."""
    return f"{IN_WORDS}{shown})"
