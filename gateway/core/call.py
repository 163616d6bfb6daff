"""One live call: its state at the gateway, and what the gateway keeps for a successor of the call's worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from shared.messages import CallerDtmf
from shared.plan import CallOrder, CallPlan

from .hangup import MARK_NS, Stage
from .heard import Heard
from .limits import AudioRate
from .path import PathLog, PathProbe
from .stalls import FrameLog
from .way_back import WayBack

# More than a caller presses before a dead worker's successor has the call.
KEYS_MAX: Final = 64


@dataclass(eq=False, slots=True)
class Call:
    # Drawn for this media socket; no two in a cell are equal.
    number: int
    call_sid: str
    stream_sid: str
    token_id: str
    plan: CallPlan
    started_ns: int
    # The aibridge worker that holds the conversation.
    worker: int
    # A browser phone follows the call.
    followed: bool
    frames: FrameLog
    path: PathProbe
    path_log: PathLog
    # When the media socket began, in wall time. The store keeps the stories of the latest socket.
    since_ms: int
    # See StreamToken.returned.
    returned: str = ""
    heard: Heard = field(default_factory=Heard)
    way_back: WayBack = field(default_factory=WayBack)
    audio_rate: AudioRate = field(default_factory=AudioRate)
    stage: Stage = Stage.TALKING
    # The last CallMemory, and how often the call was handed over.
    memory: bytes = b""
    # When callbook was last given the story; ns.
    kept_ns: int = 0
    # callbook found the call in another cell.
    is_elsewhere: bool = False
    handovers: int = 0
    # The last keys: a worker that dies may not have read them, or not have told of them.
    keys: list[CallerDtmf] = field(default_factory=list)
    # EndCall's order, the utterance that has to be heard before it is carried out, and when it came.
    order: CallOrder | None = None
    goodbye: int = 0
    ordered_ns: int = 0

    def is_goodbye_silent(self, now_ns: int) -> bool:
        """Whether the goodbye's mark is missing, and no frame left for MARK_S."""
        return self.stage is Stage.LEAVING and now_ns - max(self.ordered_ns, self.frames.last_wire_ns) >= MARK_NS
