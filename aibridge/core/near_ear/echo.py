"""The echo guard: whether a sound of the caller is a delayed, quieter copy of what the caller's ear hears.

A speakerphone returns the AI's voice: 6 to 30 dB quieter, 40 to 400 ms later and the network's delay on top, with the
tail of a room. The guard learns delay and loss of a call's echo from the signs of the samples (polarity.py), and then
judges each frame by both: echo is not louder than the loss allows, and follows what was heard. A caller who speaks over
the echo is louder, or follows nothing.

What the guard knows of a call:

    UNKNOWN   the AI has hardly spoken yet. A sound that may be echo is judged within 240 ms
    NONE      the AI spoke and nothing came back. A sound of the caller is the caller's; learning goes on
    LEARNED   delay and loss are known. It falls back to NONE when the AI's voice stops coming back
"""

from __future__ import annotations

from array import array
from collections import deque
from enum import Enum, auto
from typing import Final

from shared.audio import FRAME_BYTES

from .levels import FLOOR_MIN
from .polarity import agreement, likeness, signs


class Echo(Enum):
    NO = auto()
    UNDECIDED = auto()
    YES = auto()


class Known(Enum):
    UNKNOWN = auto()
    NONE = auto()
    LEARNED = auto()


# Delays that are learned: 700 ms, of which the network has 300.
LAGS: Final = 5_600
# Every second lag is tried: signs seldom change from one sample to the next.
_STEP: Final = 2
# What is compared while learning, and how often: 80 ms of sound.
_BLOCK_FRAMES: Final = 4
_BLOCK: Final = _BLOCK_FRAMES * FRAME_BYTES
# Blocks after which learning becomes rare, because what is heard is not echo: 1 ms of CPU each.
_PATIENT_BLOCKS: Final = 12
_RARE_FRAMES: Final = 25
# Each block lets those before it fade by an eighth: 1 / 2 ** 3.
_FADES: Final = 3
# A learned delay gives way to one that is likelier by so much, after so many blocks. A voice of steady pitch is alike
# at every multiple of it; over several blocks only the true delay is.
_SURE_BLOCKS: Final = 8
_LIKELIER: Final = 1.15
# The mean likeness of echo after so many blocks. Of unrelated speech the likeliest of 2,800 lags has 0.4 in one block,
# and 0.25 in the mean of three, because each block favours another lag.
_LEARNED_AFTER: Final = {3: 0.42, 4: 0.37}
_LEARNED_LATER: Final = 0.33
# Below this after one block or more, a sound is not the echo of anything.
_HOPELESS: Final = (1.0, 0.3, 0.28, 0.3)
# How often a learned delay is looked for again at every block of echo; then it is looked for twice a second.
_EAGER_LOOKS: Final = 40
# Quieter than what is heard by 3 dB at least.
_QUIETER: Final = 0.7
# What the ear must hear for an echo to stand out of the noise: about -40 dBFS.
_LOUD: Final = 250.0

# The network moves a learned delay by less than this between two frames of echo; the pitch of a voice is longer.
_WANDER: Final = 12
# A fast judgement of 60 ms, and a sure one of 160 ms.
_FAST: Final = 3 * FRAME_BYTES
_SURE: Final = 8 * FRAME_BYTES
# Echo is at most this many times louder than learned: 8 dB, and 16 dB when it follows closely.
_LOUDER: Final = 2.5
_MUCH_LOUDER: Final = 6.0
# The share of the usual likeness that echo has in 60 ms, and that speech of the caller has not.
_ALIKE: Final = 0.6
_UNLIKE: Final = 0.3
# Frames that could be echo by their level, and follow nothing: then a caller speaks, as quietly as the echo.
_DOUBTS: Final = 6
# What follows less than this is not compared: it would be chance.
_LEAST_USUAL: Final = 0.25
# What a room adds to the level of a frame from the frames before it.
_TAIL: Final = (1.0, 1.0, 0.7, 0.5, 0.35)
# The levels that are kept, by frames.
_LEVELS: Final = LAGS // FRAME_BYTES + len(_TAIL)
# Frames of loud speech that came back as nothing, and how many precede them: then there is no echo; and there is none
# any more.
_ABSENT_AFTER: Final = 20
_ABSENT_FRAMES: Final = 15
_VANISHED_FRAMES: Final = 150


class EchoGuard:
    """Give each frame of the caller to `hear`, with what the ear heard at that time; then `judge` it if it is loud."""

    def __init__(self) -> None:
        # The last that the ear heard, and its level by frames; and the last of the caller.
        self._reference = bytearray()
        self._levels: deque[float] = deque(maxlen=_LEVELS)
        self._sound = bytearray()
        self._loudness = 0.0
        self.known = Known.UNKNOWN
        # The learned echo: its delay in samples, its level by that of the reference, and how it usually follows.
        self.lag = 0
        self.gain = 0.0
        self._usual = 0.0
        self._doubts = 0
        # What the blocks so far say of each lag, and how many loud frames came since the last block.
        self._evidence: array[int] | None = None
        self._weight = 0.0
        self._blocks = 0
        self._hopeless_blocks = 0
        self._frames = 0
        self._looks = 0
        self._absent = 0

    def hear(self, frame: bytes, loudness: float, heard: bytes, heard_level: float, *, is_loud: bool) -> None:
        """20 ms of the caller and its level, and 20 ms of what the ear heard meanwhile."""
        self._reference += heard
        self._sound += frame
        self._levels.append(heard_level)
        self._loudness = loudness
        if len(self._reference) > LAGS + 2 * _SURE:
            del self._reference[: -(LAGS + _SURE)]
            del self._sound[:-_SURE]
        if is_loud or len(self._levels) < _ABSENT_AFTER or sum(self._levels) < len(self._levels) * _LOUD:
            return
        self._absent += 1
        if self.known is Known.UNKNOWN and self._absent >= _ABSENT_FRAMES:
            self.known = Known.NONE
        elif self.known is Known.LEARNED and self._absent >= _VANISHED_FRAMES:
            self.known = Known.NONE
            self._forget_evidence()

    def judge(self) -> Echo:
        """The last frame, which is loud."""
        if max(self._levels) < _LOUD or len(self._sound) < _BLOCK:
            return Echo.NO
        if self.known is Known.LEARNED:
            verdict = self._compare()
            if verdict is Echo.YES:
                self._absent = 0
                self._look_again()
            if verdict is not Echo.NO:
                return verdict
        if self._loudness > max(self._levels):
            return Echo.NO
        verdict = self._learn()
        if verdict is Echo.YES:
            return verdict
        is_quieter = self._loudness < _QUIETER * max(self._levels)
        return verdict if self.known is Known.UNKNOWN and is_quieter else Echo.NO

    def _forget_evidence(self) -> None:
        self._evidence = None
        self._blocks = self._frames = 0

    # --- learning ---

    def _learn(self) -> Echo:
        self._frames += 1
        every = _RARE_FRAMES if self._hopeless_blocks >= _PATIENT_BLOCKS else _BLOCK_FRAMES
        if self._frames % every == 0 and self._add_block():
            return Echo.YES
        if not self._blocks:
            return Echo.UNDECIDED
        assert self._evidence is not None
        _, mean = self._likeliest()
        return Echo.NO if mean < _HOPELESS[min(self._blocks, len(_HOPELESS) - 1)] else Echo.UNDECIDED

    def _look_again(self) -> None:
        """The first blocks may have favoured a multiple of the voice's pitch: look for a likelier delay."""
        self._frames += 1
        if self._frames % (_BLOCK_FRAMES if self._looks < _EAGER_LOOKS else _RARE_FRAMES) == 0:
            self._looks += 1
            self._add_block()

    def _add_block(self) -> bool:
        """Compare a block with all that was heard. Returns whether that is enough to know the echo."""
        found = agreement(signs(self._sound[-_BLOCK:]), signs(self._reference[-LAGS - _BLOCK :]), _BLOCK, LAGS, _STEP)
        if self._evidence is None:
            self._evidence, self._weight = found, 1.0
        else:
            pairs = zip(self._evidence, found, strict=True)
            self._evidence = array("h", [old - (old >> _FADES) + new for old, new in pairs])
            self._weight = self._weight * (1 - 0.5**_FADES) + 1
        self._blocks += 1
        index, mean = self._likeliest()
        if self.known is Known.LEARNED:
            if self._blocks >= _SURE_BLOCKS and mean > _LIKELIER * self._mean_near(self.lag // _STEP):
                self.lag, self._usual = index * _STEP, mean
            return True
        if self._blocks >= 3 and mean >= _LEARNED_AFTER.get(self._blocks, _LEARNED_LATER):
            self._learned(index * _STEP, mean)
            return True
        self._hopeless_blocks += mean < _LEARNED_LATER
        return False

    def _likeliest(self) -> tuple[int, float]:
        """The index of the likeliest lag, and its mean likeness. An echo may be inverted."""
        assert self._evidence is not None
        most, least = max(self._evidence), min(self._evidence)
        extreme = most if most >= -least else least
        return self._evidence.index(extreme), abs(extreme) / (self._weight * _BLOCK)

    def _mean_near(self, index: int) -> float:
        assert self._evidence is not None
        near = self._evidence[max(0, index - _WANDER // _STEP) : index + _WANDER // _STEP + 1]
        return max(map(abs, near)) / (self._weight * _BLOCK)

    def _learned(self, lag: int, mean: float) -> None:
        self.known = Known.LEARNED
        self.lag, self._usual = lag, mean
        self.gain = self._loudness / max(_LOUD, self._heard_before(lag))
        self._absent = self._hopeless_blocks = self._looks = self._doubts = 0

    # --- comparing ---

    def _heard_before(self, lag: int) -> float:
        """The level that the ear heard `lag` samples before this frame, with the tail of a room."""
        newest = len(self._levels) - 1 - lag // FRAME_BYTES
        return max((self._levels[newest - at] * weight for at, weight in enumerate(_TAIL) if newest >= at), default=0.0)

    def _compare(self) -> Echo:
        expected = self.gain * self._heard_before(self.lag) + FLOOR_MIN
        if self._loudness > _MUCH_LOUDER * expected:
            return Echo.NO
        alike, _ = self._alike(_FAST)
        if self._loudness > _LOUDER * expected:
            return Echo.YES if alike >= _ALIKE * self._usual else Echo.NO
        if alike >= _UNLIKE * self._usual:
            self._doubts = max(0, self._doubts - 2)
            self._follow()
            return Echo.YES
        self._doubts += 1
        return Echo.NO if self._doubts >= _DOUBTS else Echo.UNDECIDED

    def _alike(self, n: int) -> tuple[float, int]:
        """How the last `n` samples follow what the ear heard, and at which lag near the learned one."""
        nearest = max(0, self.lag - _WANDER)
        end = len(self._reference) - nearest
        reference = signs(self._reference[max(0, end - n - 2 * _WANDER) : end])
        sound = signs(self._sound[-n:])
        n = min(n, len(self._sound))
        return max((abs(likeness(sound, reference, n, lag)), nearest + lag) for lag in range(0, 2 * _WANDER, 2))

    def _follow(self) -> None:
        """Follow an echo whose delay or loss moves: a little with each sure frame."""
        sure, lag = self._alike(_SURE)
        if sure >= _ALIKE * self._usual:
            self.lag = lag
            self._usual = max(_LEAST_USUAL, self._usual + (sure - self._usual) * 0.05)
            ratio = self._loudness / max(_LOUD, self._heard_before(lag))
            self.gain += (ratio - self.gain) * (0.1 if ratio > self.gain else 0.02)
