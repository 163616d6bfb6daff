"""The tones of a telephone's keys (DTMF), which the model sends with `send_dtmf`.

Frequencies are those of ITU-T Q.23. Levels and lengths are ones that every receiver in the table of ITU-T Q.24 has to
accept: -9 dBm0 for the higher frequency of a pair, 2 dB less for the lower one, because lines damp high frequencies
more; 100 ms of tone, and 100 ms of silence after it. Both are whole frames.

Tones play whole. They wait until the line is silent, and an interruption waits until they were heard: half a sequence
would reach the wrong extension.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from functools import cache
from typing import Any, Final

import msgspec

from shared.audio import BYTES_PER_MS, SILENCE, linear_to_mulaw
from shared.metrics import Counter

from .chart import Chart, Table, stays
from .utterances import Utterance

SEND_DTMF: Final = "send_dtmf"
DESCRIPTION: Final = (
    "Send the tones of telephone keys to the other end, for example to choose from a menu of a machine. They are sent "
    "after what you have said before, and all of them."
)
PARAMETERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "digits": {
            "type": "string",
            "pattern": "^[0-9*#A-Dw]{1,64}$",
            "description": "The keys 0 to 9, *, #, A to D, and w for a pause of half a second.",
        }
    },
    "required": ["digits"],
    "additionalProperties": False,
}
# What the model is told of other digits.
WRONG: Final = "digits has 1 to 64 keys: 0 to 9, *, #, A to D, or w for a pause"
# Keys of one call: 13 s, and 32 s of pauses at most.
DIGITS_MAX: Final = 64
# The speech before them, and all tones, are heard by then.
DEADLINE_NS: Final = 180_000_000_000

TONE_MS: Final = 100
PAUSE_MS: Final = 100
WAIT_MS: Final = 500
WAIT: Final = "w"
LOW_HZ: Final = (697, 770, 852, 941)
HIGH_HZ: Final = (1209, 1336, 1477, 1633)
KEYS: Final = ("123A", "456B", "789C", "*0#D")
LOW_DBM0: Final = -11.0
HIGH_DBM0: Final = -9.0
# A sine of this level just reaches the largest code of mu-law (ITU-T G.711), whose value is 32,636.
_LOUDEST_DBM0: Final = 3.17
_LOUDEST: Final = 32_636


class Tones(Enum):
    NONE = auto()
    WAITING = auto()  # for the line to fall silent
    PLAYING = auto()  # nothing interrupts them


class TonesEvent(Enum):
    CALLED = auto()  # by the model
    LINE_SILENT = auto()
    HEARD = auto()
    HEARD_AND_MORE = auto()  # heard, and others wait
    CALLED_OFF = auto()  # they waited for too long


class TonesAct(Enum):
    PLAY = auto()
    ANSWER = auto()


TONES_TABLE: Final[Table[Tones, TonesEvent, TonesAct]] = {
    (Tones.NONE, TonesEvent.CALLED): (Tones.WAITING, ()),
    (Tones.WAITING, TonesEvent.LINE_SILENT): (Tones.PLAYING, (TonesAct.PLAY,)),
    (Tones.WAITING, TonesEvent.CALLED_OFF): (Tones.NONE, ()),
    (Tones.PLAYING, TonesEvent.HEARD): (Tones.NONE, (TonesAct.ANSWER,)),
    (Tones.PLAYING, TonesEvent.HEARD_AND_MORE): (Tones.WAITING, (TonesAct.ANSWER,)),
    **stays((Tones.WAITING, Tones.PLAYING), TonesEvent.CALLED),
}


class SentTones:
    """The region of the tones, with the calls of send_dtmf that are not answered, in order."""

    def __init__(self, illegal: Counter) -> None:
        self.chart = Chart(TONES_TABLE, Tones.NONE, illegal)
        # The number of the tool's call, and its digits. A list: an empty deque has 760 bytes.
        self.waiting: list[tuple[int, str]] = []
        # What is being heard of the first of them; None: a predecessor played it, and it was heard.
        self.utterance: Utterance | None = None

    @property
    def is_playing(self) -> bool:
        return self.chart.state is Tones.PLAYING

    @property
    def is_heard(self) -> bool:
        return self.is_playing and (self.utterance is None or self.utterance.heard_bytes is not None)


def digits_of(arguments: str) -> str:
    """The digits of a call of send_dtmf; "" when they are not digits."""
    try:
        digits = msgspec.json.decode(arguments or "{}", type=dict[str, str]).get("digits", "")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    known = WAIT + "".join(KEYS)
    return digits if len(digits) <= DIGITS_MAX and all(digit in known for digit in digits) else ""


def audio_of(digits: str) -> bytes:
    """The sequence in mu-law."""
    return b"".join(_audio_of_one(digit) for digit in digits)


@cache
def _audio_of_one(digit: str) -> bytes:
    if digit == WAIT:
        return SILENCE * (WAIT_MS * BYTES_PER_MS)
    row = next(number for number, keys in enumerate(KEYS) if digit in keys)
    pair = ((LOW_HZ[row], LOW_DBM0), (HIGH_HZ[KEYS[row].index(digit)], HIGH_DBM0))
    tone = bytes(
        linear_to_mulaw(round(sum(amplitude(dbm0) * math.sin(math.tau * hz * at / 8_000) for hz, dbm0 in pair)))
        for at in range(TONE_MS * BYTES_PER_MS)
    )
    return tone + SILENCE * (PAUSE_MS * BYTES_PER_MS)


def amplitude(dbm0: float) -> float:
    """The amplitude of a sine of this level, in 16-bit samples."""
    return float(_LOUDEST * 10 ** ((dbm0 - _LOUDEST_DBM0) / 20))


def make_all() -> None:
    """Make the tones of all keys, once: 10 ms, which no call should have to wait for."""
    audio_of("".join(KEYS))


def sent(digits: str, heard_bytes: int) -> str:
    """The answer of the tool, when so much of the sequence was heard."""
    through = 0
    for count, digit in enumerate(digits):
        tone_bytes = (WAIT_MS if digit == WAIT else TONE_MS) * BYTES_PER_MS
        if through + tone_bytes > heard_bytes:
            return msgspec.json.encode({"sent": digits[:count], "not_sent": digits[count:]}).decode()
        through += len(_audio_of_one(digit))
    return msgspec.json.encode({"sent": digits}).decode()
