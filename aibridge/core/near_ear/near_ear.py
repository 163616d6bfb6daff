"""The near ear of one call. Give it all audio of the caller, in order.

While the AI is audible, each 20 ms frame of the caller passes these questions, cheapest first; a "no" ends them:

    is it louder than the line's noise?                          levels.py
    is it something else than the AI's own voice, come back?     echo.py, only where there is echo
    does the gate take it for speech?                            detection.py
    does the detector take the last 128 ms for speech?           detection.py, seldom while the answer is no

Speech is two frames that pass, or one that is certain. At the beginning of a sound less is enough: beginnings.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS

from .beginnings import Beginning
from .detection import Detectors, Sensitivity, linear
from .echo import Echo, EchoGuard, Known
from .events import EchoIgnored, NearEarEvent, Sound, SpeechBegan, SpeechEnded
from .levels import NoiseFloor, level
from .removal import LATE_NS, EchoRemoval, Heard

# What the detector hears: 128 ms. It hears no earlier audio, so that one detector serves all calls; more makes it no
# better.
DETECTED_BYTES: Final = 1_024
# What the guard compares at most: 160 ms.
KEPT_BYTES: Final = 1_280
# As certain as two frames.
_CERTAIN: Final = 0.7
# Two frames of less certainty count together when they are at most this far apart.
_PASSED_FRAMES: Final = 4
# After so many frames that the detector denied, the sound is noise until it ends: only every third frame is shown.
_DENIED_FRAMES: Final = 8
# A sound of so many denied frames is noise, though it goes on.
_NOISE_FRAMES: Final = 40
# Speech that is shorter was none.
_BLIP_NS: Final = 160_000_000
# Frames of speech that pass unjudged after one that the detector took for speech: its window is 128 ms.
_UNJUDGED_FRAMES: Final = 2
# Speech goes on with frames that are less certain, and over the closure of a consonant (up to 120 ms).
_HYSTERESIS: Final = 0.15
_HANGOVER_FRAMES: Final = 9
# The same over echo, which hides the caller, and which the pause ends after the lead and the echo's delay.
_HIDDEN_FRAMES: Final = 20
# Frames of echo in a burst that are worth a report.
_ECHO_FRAMES: Final = 3
# Speech began at most this long before it was known; what came before in the same burst was noise.
_KNOWN_NS: Final = 240_000_000
# Two sounds are one burst when less than this lies between them.
_BURST_FRAMES: Final = 10
# What the ear hears is read in pieces of so many frames, or when a sound is judged.
_READ_FRAMES: Final = 4
# It is read LATE_NS later than it was heard. No echo returns sooner, and txpacer's reports of what began or ended come
# later than the caller's audio when a worker is busy.
# Echo is expected for so long after the AI was audible.
_TAIL_FRAMES: Final = 40
# What counts as the caller's last second, for an event of the model: its detection and the path take some 500 ms.
_LATELY_NS: Final = 1_200_000_000
# Frames of the caller's own in the last second that the detector denied, and the model's may not.
_OWN_FRAMES: Final = 12

# The audio is continuous, and its frames arrive late by a varying time. Audio that stays later than this for a second
# has lost something; audio cannot be early.
_LATE_NS: Final = 60_000_000
_LATE_FRAMES: Final = 50


class NearEar:
    """Feed it with `hear`. It holds no clock: times are ns, monotonic."""

    def __init__(self, detectors: Detectors, sensitivity: Sensitivity, heard: Heard) -> None:
        self._gate = detectors.gate()
        self._detector = detectors.detector
        self._sensitivity = sensitivity
        self._heard = heard
        self.guard = EchoGuard() if sensitivity.guards_echo else None
        self._removal: EchoRemoval | None = None
        if sensitivity.removes_echo and detectors.canceller is not None:
            self._removal = EchoRemoval(detectors.canceller, heard)
        self._floor = NoiseFloor()
        # Audio that does not fill a frame yet; and the last of the caller, for the detector.
        self._rest = b""
        self._recent = bytearray()
        # When the last frame ended, as if no frame were late; 0: none came. And by how much frames are late at least.
        self._end_ns = 0
        self._late_ns = 0
        self._late_frames = 0
        # Frames until the echo of the AI's last words is over; 0: it is.
        self._tail = 0
        # Frames that the ear heard and the guard does not know yet.
        self._unread = 0
        # The burst: since when there is sound (0: there is none), and how many frames of each kind it had.
        self._burst_ns = 0
        self._silent_frames = 0
        # When the caller's own sound in it began (0: all of it was echo).
        self._own_ns = 0
        self._echo_frames = 0
        self._hidden_frames = 0
        self._own_frames = 0
        self._passed_ns = 0
        self._denied = 0
        self._peak = 0.0
        self._beginning = Beginning()
        # Speech of the caller: since when (0: there is none), when its last frame ended, and when the frame began that
        # the detector took for speech last.
        self._onset_ns = 0
        self._judged_ns = 0
        self._spoke_ns = 0
        # What was heard last, for `sound`.
        self._last_speech_ns = 0
        self._last_lasted_ns = 0
        # When a sound was, or may have been, echo: the model can report the first echo before the guard is sure.
        self._last_echo_ns = 0
        # When a frame may have been echo.
        self._hidden_ns = 0
        self._last_own_ns = 0

    def hear(self, audio: bytes, at_ns: int, *, is_ai_audible: bool) -> Sequence[NearEarEvent]:
        """The caller's next audio, mu-law of any length, whose last byte came to the gateway at `at_ns`."""
        self._place(len(audio), at_ns)
        events: list[NearEarEvent] = []
        if len(audio) == FRAME_BYTES and not self._rest:  # nearly always
            self._frame(audio, self._end_ns - FRAME_NS, is_ai_audible, events)
            return events
        audio = self._rest + audio
        self._rest = audio[len(audio) // FRAME_BYTES * FRAME_BYTES :]
        begin_ns = self._end_ns - len(audio) * BYTE_NS
        for at in range(0, len(audio) - FRAME_BYTES + 1, FRAME_BYTES):
            self._frame(audio[at : at + FRAME_BYTES], begin_ns + at * BYTE_NS, is_ai_audible, events)
        return events

    def without_echo(self, audio: bytes) -> bytes:
        """What the model hears of the audio that was given to `hear` last."""
        guard, removal = self.guard, self._removal
        if removal is None or guard is None or guard.known is not Known.LEARNED or not self._tail:
            return audio
        return removal.clean(audio, self._end_ns, guard.lag * BYTE_NS + LATE_NS)

    def sound(self, now_ns: int) -> Sound:
        """What the caller's last second was: asked when the model reports that the caller speaks."""
        since_ns = now_ns - _LATELY_NS
        if self._onset_ns:
            return Sound.SPEECH
        if self._last_speech_ns > since_ns:
            return Sound.SHORT if self._last_lasted_ns < self._sensitivity.short_ns else Sound.SPEECH
        if self._last_echo_ns > since_ns and self._last_own_ns <= since_ns:
            return Sound.ECHO
        return Sound.NOTHING

    def _place(self, n_bytes: int, at_ns: int) -> None:
        """Find when this audio was spoken."""
        end_ns = self._end_ns + n_bytes * BYTE_NS
        late_ns = at_ns - end_ns
        if not self._end_ns or late_ns < 0:
            end_ns, late_ns = at_ns, 0
        self._late_ns = min(self._late_ns, late_ns) if self._late_frames else late_ns
        self._late_frames += 1
        if self._late_frames == _LATE_FRAMES:
            if self._late_ns > _LATE_NS:
                end_ns += self._late_ns
            self._late_frames = 0
        self._end_ns = end_ns

    def _frame(self, frame: bytes, begin_ns: int, is_ai_audible: bool, events: list[NearEarEvent]) -> None:
        self._recent += frame
        if len(self._recent) > 2 * KEPT_BYTES:
            del self._recent[:-KEPT_BYTES]
        loudness = level(frame)
        is_loud = self._floor.is_exceeded(loudness, is_ai_audible=is_ai_audible, is_speech=self._onset_ns > 0)
        if is_ai_audible:
            self._tail = _TAIL_FRAMES
        elif self._tail:
            self._tail -= 1
        else:
            if self._burst_ns or self._onset_ns or self._unread:
                self._rest_with_ai(events)
            return
        self._unread += 1
        if is_loud or self._unread >= _READ_FRAMES:
            self._read(begin_ns)
        if is_loud:
            self._silent_frames = 0
            if not self._burst_ns:
                self._burst_ns = begin_ns
            if self._is_own(loudness, begin_ns, events):
                self._peak = max(self._peak, loudness)
                self._ask(frame, loudness, begin_ns, is_ai_audible, events)
            else:
                self._beginning.breaks_off()
        else:
            self._silent_frames += 1
            if self.guard is not None and not self._floor.is_silence(loudness):
                self.guard.may_be_there()
            self._beginning.breaks_off()
            if self._burst_ns and self._silent_frames >= _BURST_FRAMES:
                self._end_burst()
        if self._onset_ns:
            is_hidden = self._hidden_ns > self._spoke_ns
            silent_frames = (begin_ns + FRAME_NS - self._spoke_ns) // FRAME_NS
            if silent_frames >= (_HIDDEN_FRAMES if is_hidden else _HANGOVER_FRAMES):
                self._end_speech(events)

    def _read(self, begin_ns: int) -> None:
        """Tell the guard what the ear heard, up to 40 ms before the end of the frame that begins at `begin_ns`."""
        if self.guard is not None:
            from_ns = begin_ns - (self._unread - 1) * FRAME_NS - LATE_NS
            self.guard.heard(self._heard(from_ns, self._unread * FRAME_BYTES))
        self._unread = 0

    def _rest_with_ai(self, events: list[NearEarEvent]) -> None:
        """The AI, and its echo, are silent."""
        self._end_burst()
        self._end_speech(events)
        self._unread = 0
        if self.guard is not None:
            self.guard.rest()

    def _is_own(self, loudness: float, begin_ns: int, events: list[NearEarEvent]) -> bool:
        """Whether the frame is the caller's own, and not echo."""
        if self.guard is None:
            echo, is_news = Echo.NO, False
        else:
            knew = self.guard.known
            echo = self.guard.judge(self._recent, loudness)
            is_news = self.guard.known is Known.LEARNED is not knew
        if echo is not Echo.NO:
            self._hidden_ns = begin_ns
            self._hidden_frames += 1
            if self._hidden_frames >= _ECHO_FRAMES:
                self._last_echo_ns = begin_ns
        if echo is not Echo.YES and not self._own_ns:
            self._own_ns = begin_ns
        if echo is Echo.YES:
            if is_news:
                self._take_back(events)
            self._echo_frames += 1
            if self._echo_frames == _ECHO_FRAMES:
                events.append(EchoIgnored(self._burst_ns))
        return echo is Echo.NO

    def _take_back(self, events: list[NearEarEvent]) -> None:
        """This burst was echo from its beginning, before the guard knew of any."""
        self._own_frames = self._last_own_ns = self._own_ns = 0
        if self._onset_ns:
            events.append(SpeechEnded(self._onset_ns, self._spoke_ns - self._onset_ns))
            self._onset_ns = 0

    def _ask(
        self, frame: bytes, loudness: float, begin_ns: int, is_ai_audible: bool, events: list[NearEarEvent]
    ) -> None:
        """Ask the gate and the detector about a frame of the caller's own."""
        if self._sensitivity.only_guards and self.guard is not None and self.guard.known is Known.NONE:
            return
        if self._onset_ns and begin_ns <= self._judged_ns + _UNJUDGED_FRAMES * FRAME_NS:
            self._spoke_ns = begin_ns + FRAME_NS
            return
        passes = self._gate.is_open(linear(frame))
        if is_ai_audible and not self._onset_ns and begin_ns <= self._own_ns + _KNOWN_NS:
            is_close = self._beginning.is_close(loudness, passes_gate=passes)
            if self._beginning.swells(loudness) or is_close:
                self._begin_speech(begin_ns, events)
                return
        if not passes:
            return
        self._own_frames += 1
        if self._own_frames >= _OWN_FRAMES:
            self._last_own_ns = begin_ns
        if self._denied >= _DENIED_FRAMES and self._own_frames % 3:
            return
        likelihood = self._detector.speech(linear(self._recent[-DETECTED_BYTES:]))
        threshold = self._sensitivity.threshold
        if self._onset_ns:
            if likelihood >= threshold - _HYSTERESIS:
                self._spoke_ns, self._judged_ns = begin_ns + FRAME_NS, begin_ns
            return
        if likelihood >= threshold - _HYSTERESIS:
            self._beginning.doubt(loudness)
        if likelihood < threshold:
            self._denied += 1
            if self._denied >= _NOISE_FRAMES:
                self._floor.was_noise(self._peak)
            return
        passed_ns, self._passed_ns = self._passed_ns, begin_ns
        is_certain = likelihood >= max(_CERTAIN, threshold) or begin_ns - passed_ns <= _PASSED_FRAMES * FRAME_NS
        if is_ai_audible and is_certain:
            self._judged_ns = begin_ns
            self._begin_speech(begin_ns, events)

    def _begin_speech(self, begin_ns: int, events: list[NearEarEvent]) -> None:
        self._onset_ns = max(self._own_ns, begin_ns - _KNOWN_NS)
        self._spoke_ns = begin_ns + FRAME_NS
        self._denied = 0  # what was denied was its beginning, and no noise
        events.append(SpeechBegan(self._onset_ns))

    def _end_burst(self) -> None:
        if self._denied >= _DENIED_FRAMES and not self._onset_ns:
            self._floor.was_noise(self._peak)
        self._burst_ns = self._own_ns = self._silent_frames = self._passed_ns = 0
        self._echo_frames = self._hidden_frames = self._own_frames = self._denied = 0
        self._peak = 0.0

    def _end_speech(self, events: list[NearEarEvent]) -> None:
        if self._onset_ns:
            lasted_ns = self._spoke_ns - self._onset_ns
            events.append(SpeechEnded(self._onset_ns, lasted_ns))
            self._last_speech_ns, self._last_lasted_ns = self._spoke_ns, lasted_ns
            if lasted_ns < _BLIP_NS:
                self._floor.was_noise(self._peak)
            self._onset_ns = 0
