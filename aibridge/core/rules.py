"""What a conversation is given at its start: the settings, and what the agent says without the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .barge_in import BargeIn

_MS: Final = 1_000_000


@dataclass(frozen=True)
class Rules:
    """The settings of these names; times in ns."""

    protect_ns: int = 500 * _MS
    barge_in: BargeIn = "withdraw"
    # Speech that does not last for so long is no interruption; 0: every speech is one.
    confirm_ns: int = 0
    lead_ns: int = 120 * _MS
    # How long a call may be without a model before it gets the fallback.
    reconnect_ns: int = 10_000 * _MS
    # The age at which a session is replaced by a fresh one.
    renew_ns: int = 55 * 60_000 * _MS


@dataclass(frozen=True)
class Script:
    """What the agent says without the model. `greeting_audio` empty: the model greets; all audio is mu-law."""

    greets: bool = True
    greeting_text: str = ""
    greeting_audio: bytes = b""
    fallback_text: str = ""
    fallback_audio: bytes = b""
    # After the recorded fallback nothing else follows: hang up. Otherwise the call goes on with the TwiML.
    fallback_ends_call: bool = False
