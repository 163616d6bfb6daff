"""The parameters of a conversation: the settings, and the agent's fixed sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from shared.plan import CallOrder, Fallback

from .barge_in import BargeIn
from .keypad import KeypadRules
from .near_ear.detection import Sensitivity
from .silence import Patience

_MS: Final = 1_000_000


@dataclass(frozen=True)
class Rules:
    """The settings of these names; times in ns."""

    protect_ns: int = 500 * _MS
    barge_in: BargeIn = "withdraw"
    # Shorter speech is not an interruption; 0: any speech is.
    confirm_ns: int = 0
    # Speech of the caller pauses the line before the model reports it, and for this long at most; 0: it does not.
    early_ns: int = 0
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    lead_ns: int = 120 * _MS
    # Where the line's lead starts, and its bounds; None: txpacer's settings.
    own_lead_ms: tuple[int, int, int] | None = None
    # How long a call may be without a model before it gets the fallback.
    reconnect_ns: int = 10_000 * _MS
    # The age at which a session is replaced by a fresh one.
    renew_ns: int = 55 * 60_000 * _MS
    patience: Patience = field(default_factory=Patience)
    # The model may call send_dtmf.
    sends_dtmf: bool = False
    keypad: KeypadRules = field(default_factory=KeypadRules)


@dataclass(frozen=True)
class Line:
    """Words that are said at a fixed place of the call. `audio` empty: the model says them; audio is mu-law."""

    text: str = ""
    audio: bytes = b""


@dataclass(frozen=True)
class Script:
    """The agent's fixed sentences. A line without text is not said."""

    notice: Line = Line()
    greeting: Line = Line()
    fallback: Line = Line()
    # The order for a call whose model is gone for good.
    fallback_order: CallOrder = field(default_factory=Fallback)
