"""What the near ear reports. Times are ns, monotonic, when the audio came to the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class SpeechBegan:
    """The caller speaks over the AI. Reported once, up to 100 ms after the first sound."""

    onset_ns: int


@dataclass(frozen=True)
class SpeechEnded:
    """The speech of the last SpeechBegan is over."""

    onset_ns: int
    # How long it lasted, from its first to its last sound.
    lasted_ns: int


@dataclass(frozen=True)
class EchoIgnored:
    """What would be speech is the AI's own voice. Reported once for each burst of it."""

    onset_ns: int


NearEarEvent = SpeechBegan | SpeechEnded | EchoIgnored


class Sound(Enum):
    """What the near ear makes of the caller's last second, for an event of the model that comes later."""

    NOTHING = auto()  # no speech, by this detector; the model's may know better
    ECHO = auto()  # the AI's own voice, and no speech of the caller
    SHORT = auto()  # speech that is over already, and was as short as a backchannel
    SPEECH = auto()
