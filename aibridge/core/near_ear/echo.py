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
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from shared.audio import FRAME_BYTES

from .levels import FLOOR_MIN, level
from .polarity import agreement, likeness, signs


class Echo(Enum):
    NO = auto()
    UNDECIDED = auto()
    YES = auto()


class Known(Enum):
    UNKNOWN = auto()
    NONE = auto()
    LEARNED = auto()


# The longest delay that is learned: 400 ms of a speakerphone and 300 ms of the network.
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
# The mean likeness of echo after so many blocks. Of a caller's unrelated speech the likeliest of 2,800 lags has up to
# 0.62 in one block, 0.23 in the mean of three and 0.16 in the mean of eight, because each block favours another lag.
# Nearly all echo of a diffuse path has 0.27 after three and 0.21 after eight.
_LEARNED_AFTER: Final = {3: 0.34, 4: 0.3, 5: 0.27}
_LEARNED_LATER: Final = 0.24
# Below this after one block or more, a sound is not the echo of anything.
_HOPELESS: Final = (1.0, 0.12, 0.15, 0.18, 0.2)
# How often a learned delay is looked for again at every block of echo; then it is looked for every two seconds.
_EAGER_LOOKS: Final = 40
_LATER_FRAMES: Final = 100
# Quieter than what is heard by 3 dB at least.
_QUIETER: Final = 0.7
# What the ear must hear for an echo to stand out of the noise: about -40 dBFS.
_LOUD: Final = 250.0

# The network moves a learned delay by less than this between two frames of echo; the pitch of a voice is longer.
_WANDER: Final = 12
# A fast judgement of 60 ms, and a sure one of 160 ms.
_FAST: Final = 3 * FRAME_BYTES
_SURE: Final = 8 * FRAME_BYTES
# Echo is at most this many times louder than expected: 3 dB, and up to 7 dB the closer it follows. Of 11,600 frames of
# echo of -6 to -20 dB none was louder than 5 dB; half of the frames of a caller over it are 10 dB louder.
_LOUDER: Final = 1.35
_LOUDER_ALIKE: Final = 0.65
_ALIKE_MOST: Final = 1.2
# What else the line may carry, about -48 dBFS.
_BESIDES: Final = 2 * FLOOR_MIN
# Before so many frames have followed, the loss is not sure: 8 dB, and 16 dB when it follows closely.
_SURE_FRAMES: Final = 12
_UNSURE_LOUDER: Final = 2.5
_UNSURE_MUCH_LOUDER: Final = 6.0
# A sound that is too loud for so long and follows this closely all the time is echo: the loudspeaker was turned up.
_TURNED_UP_FRAMES: Final = 9
_TURNED_UP_ALIKE: Final = 0.8
# The share of the usual likeness that echo has in 60 ms, and that speech of the caller has not.
_ALIKE: Final = 0.6
_UNLIKE: Final = 0.3
# Frames that could be echo by their level, and follow nothing: then a caller speaks, as quietly as the echo.
_DOUBTS: Final = 6
# What follows less than this is not compared: it would be chance.
_LEAST_USUAL: Final = 0.25
# What the frames that the ear heard add to the level of an echo: from two after the learned delay, because the first
# sound may be a little earlier than the likeliest, to what a room adds later.
_EARLIER: Final = 2
_TAIL: Final = (0.7, 0.9, 1.0, 1.0, 0.7, 0.5, 0.35)
# The levels that are kept, by frames.
_LEVELS: Final = LAGS // FRAME_BYTES + len(_TAIL)
# Frames of the AI's voice to which nothing came back: then there is no echo; and there is none any more. An echo of
# more than 500 ms is learned later.
_ABSENT_FRAMES: Final = 25
_VANISHED_FRAMES: Final = 100


class EchoGuard:
    """Give it what the ear hears with `heard`, and each loud frame of the caller to `judge`."""

    def __init__(self) -> None:
        # The last that the ear heard, the levels of its frames, and how many of them are not measured yet.
        self._reference = bytearray()
        self._levels: deque[float] = deque(maxlen=_LEVELS)
        self._unmeasured = 0
        # The caller's last audio, and the level of its last frame.
        self._sound = b""
        self._loudness = 0.0
        self.known = Known.UNKNOWN
        # The learned echo: its delay in samples, its level by that of the reference, and how it usually follows.
        self.lag = 0
        self.gain = 0.0
        self._usual = 0.0
        self._doubts = 0
        # Frames that followed since then, and the last ones in a row that were too loud.
        self._followed = 0
        self._too_loud = 0
        # What the blocks so far say of each lag, and how many loud frames came.
        self._evidence: array[int] | None = None
        self._weight = 0.0
        self._blocks = 0
        self._hopeless_blocks = 0
        self._frames = 0
        self._looks = 0
        # Frames of the AI's voice since the caller's last loud frame.
        self._unanswered = 0

    def heard(self, audio: bytes) -> None:
        """A few whole frames that the ear heard. The last of them stands for all, where only loud or not matters."""
        n_frames = len(audio) // FRAME_BYTES
        self._reference += audio
        self._unmeasured += n_frames
        if level(audio[-FRAME_BYTES:]) >= _LOUD:
            self._unanswered += n_frames
        if len(self._reference) > LAGS + 2 * _SURE:
            del self._reference[: -(LAGS + _SURE)]

    def rest(self) -> None:
        """The AI is silent, and so is its echo."""
        self._unanswered = 0

    def may_be_there(self) -> None:
        """A sound of the caller's line was too quiet to be judged. A known echo may be as quiet."""
        if self.known is Known.LEARNED:
            self._unanswered = 0

    def judge(self, sound: bytes | bytearray, loudness: float) -> Echo:
        """A loud frame of the caller, with the 160 ms that end with it. The ear's frames of that time were given."""
        self._sound, self._loudness = bytes(sound[-_SURE:]), loudness
        self._measure()
        self._look_for_absence()
        if max(self._levels) < _LOUD or len(self._sound) < _BLOCK:
            return Echo.NO
        if self.known is Known.LEARNED:
            verdict = self._compare()
            if verdict is Echo.YES:
                self._look_again()
            # A caller who is louder than the echo says nothing about its delay.
            if verdict is not Echo.NO or self._too_loud:
                return verdict
        if loudness > max(self._levels):
            return Echo.NO
        verdict = self._learn()
        if verdict is Echo.YES:
            return verdict
        is_quieter = loudness < _QUIETER * max(self._levels)
        return verdict if self.known is Known.UNKNOWN and is_quieter else Echo.NO

    def _measure(self) -> None:
        """Measuring what was heard waits for a sound that it could be the source of: most lines have none."""
        first = max(0, len(self._reference) - min(self._unmeasured, _LEVELS) * FRAME_BYTES)
        self._unmeasured = 0
        for at in range(first, len(self._reference), FRAME_BYTES):
            self._levels.append(level(bytes(self._reference[at : at + FRAME_BYTES])))
        if not self._levels:
            self._levels.append(0.0)

    def _look_for_absence(self) -> None:
        """Whether the AI spoke before this sound, and nothing came back."""
        unanswered, self._unanswered = self._unanswered, 0
        enough = _VANISHED_FRAMES if self.known is Known.LEARNED else _ABSENT_FRAMES
        if self.known is not Known.NONE and unanswered >= enough:
            self.known = Known.NONE
            self._evidence, self._blocks = None, 0

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
        if self._frames % (_BLOCK_FRAMES if self._looks < _EAGER_LOOKS else _LATER_FRAMES) == 0:
            self._looks += 1
            self._add_block()

    def _add_block(self) -> bool:
        """Compare a block with all that was heard. Returns whether it made the echo known, or its delay another one."""
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
            is_likelier = self._blocks >= _SURE_BLOCKS and mean > _LIKELIER * self._mean_near(self.lag // _STEP)
            if is_likelier:
                self.lag, self._usual, self._followed = index * _STEP, mean, 0
            return self._followed < _SURE_FRAMES
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
        self._hopeless_blocks = self._looks = self._doubts = self._followed = self._too_loud = 0

    # --- comparing ---

    def _heard_before(self, lag: int) -> float:
        """The level that the ear heard `lag` samples before this frame, with the tail of a room."""
        n_levels = len(self._levels)
        first = n_levels - lag // FRAME_BYTES + _EARLIER - 1
        frames = ((first - at, weight) for at, weight in enumerate(_TAIL))
        return max((self._levels[at] * weight for at, weight in frames if 0 <= at < n_levels), default=0.0)

    def _compare(self) -> Echo:
        expected = self.gain * self._heard_before(self.lag) + _BESIDES
        near = self._near()
        follows = near.alike(_FAST)[0] / self._usual
        if self._loudness > self._most_louder(follows) * expected:
            self._too_loud += 1
            if self._too_loud < _TURNED_UP_FRAMES or near.alike(_SURE)[0] < _TURNED_UP_ALIKE * self._usual:
                return Echo.NO
            self.gain = self._loudness / max(_LOUD, self._heard_before(self.lag))
        self._too_loud = 0
        if follows >= _UNLIKE:
            self._doubts = max(0, self._doubts - 2)
            self._follow(near)
            return Echo.YES
        self._doubts += 1
        return Echo.NO if self._doubts >= _DOUBTS else Echo.UNDECIDED

    def _most_louder(self, follows: float) -> float:
        """How many times louder than expected echo is at most that follows by this share of the usual likeness."""
        if self._followed < _SURE_FRAMES:
            return _UNSURE_MUCH_LOUDER if follows >= _ALIKE else _UNSURE_LOUDER
        return _LOUDER + _LOUDER_ALIKE * min(follows, _ALIKE_MOST)

    def _near(self) -> _Near:
        """The caller's last sound, and what the ear heard before it at the learned delay."""
        nearest = max(0, self.lag - _WANDER)
        end = len(self._reference) - nearest
        reference = self._reference[max(0, end - _SURE - 2 * _WANDER) : end]
        return _Near(signs(self._sound), len(self._sound), signs(reference), nearest)

    def _follow(self, near: _Near) -> None:
        """Follow an echo whose delay or loss moves: a little with each sure frame."""
        sure, lag = near.alike(_SURE)
        if sure >= _ALIKE * self._usual:
            self._followed += 1
            self.lag = lag
            self._usual = max(_LEAST_USUAL, self._usual + (sure - self._usual) * 0.05)
            ratio = self._loudness / max(_LOUD, self._heard_before(lag))
            self.gain += (ratio - self.gain) * (0.1 if ratio > self.gain else 0.02)


@dataclass(frozen=True, slots=True)
class _Near:
    """The signs of a sound of `n_samples`, and of what the ear heard up to `nearest` samples before its end."""

    sound: int
    n_samples: int
    reference: int
    nearest: int

    def alike(self, n: int) -> tuple[float, int]:
        """How the last `n` samples follow what the ear heard, and at which lag near the learned one."""
        n = min(n, self.n_samples)
        sound = self.sound & (1 << n) - 1
        lags = range(0, 2 * _WANDER, 2)
        return max((abs(likeness(sound, self.reference, n, lag)), self.nearest + lag) for lag in lags)
