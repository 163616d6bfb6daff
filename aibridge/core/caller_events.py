"""The effects of the caller's speech on the regions: as the model reports it, and as the near ear hears it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..models.port import ForgetTurn
from .barge_in import Floor, FloorEvent
from .cancel_once import Making
from .commands import Command
from .early_pause import Near, NearEvent
from .near_ear.events import EchoIgnored, NearEarEvent, Sound, SpeechBegan, SpeechEnded
from .owed_and_retry import EXPECTED_NS, OwedEvent
from .response_events import ResponseEvents

# The near ear listens for this long after the AI fell silent: until the model has reported what was said before.
NEAR_AFTER_NS: Final = 1_200_000_000


class CallerEvents(ResponseEvents):
    """The caller's half of a conversation."""

    def near_events(self, audio: bytes, at_ns: int) -> Sequence[NearEarEvent]:
        """What the near ear makes of the caller's next audio, which came to the gateway at `at_ns`."""
        near_ear = self.near_ear
        if near_ear is None or self.ended:
            return ()
        if self.playout.is_audible():
            self._near_until_ns = at_ns + NEAR_AFTER_NS
        listens = at_ns < self._near_until_ns or self.floor.state is Floor.ECHOING
        return near_ear.hear(audio, at_ns, is_ai_audible=listens)

    def on_near(self, event: NearEarEvent, now_ns: int) -> list[Command]:
        match event:
            case SpeechBegan(onset_ns):
                self._onset_ns = onset_ns
                return self._on_first_sound(now_ns)
            case SpeechEnded():
                return self.step_near(NearEvent.ENDS, now_ns)
            case EchoIgnored():
                return []  # it counts when the model takes it for speech

    def _on_first_sound(self, now_ns: int) -> list[Command]:
        """The near ear hears the caller begin to speak."""
        if self.floor.state is Floor.ECHOING:
            # The caller speaks through an echo that the model has reported. It will not report a second beginning.
            commands = self._on_turn(self._echo_turn, now_ns, self._spoken_over(now_ns))
            return commands + self.step_near(NearEvent.BEGINS_ALONE, now_ns)
        pauses = self.rules.early_ns and self.rules.barge_in != "drain" and self.playout.is_audible()
        is_ruled_out = now_ns < self._no_pause_before_ns
        if not pauses or is_ruled_out or self.floor.state is not Floor.QUIET or not self.sessions.is_live:
            return self.step_near(NearEvent.BEGINS_ALONE, now_ns)
        is_protected = self.is_protected(now_ns)
        return self.step_near(NearEvent.BEGINS_OVER_PROTECTED if is_protected else NearEvent.BEGINS_OVER_AI, now_ns)

    def on_caller_speaks(self, turn: int, now_ns: int) -> list[Command]:
        """The model reports that the caller speaks."""
        sound = self.near_ear.sound(now_ns) if self.near_ear is not None else Sound.NOTHING
        if self.near.state in (Near.PAUSED, Near.ENDED) and sound is not Sound.SHORT:
            sound = Sound.SPEECH
        self._speech_onset_ns = self._onset_ns if sound in (Sound.SPEECH, Sound.SHORT) else 0
        if sound is Sound.ECHO and self.floor.state in (Floor.QUIET, Floor.ECHOING):
            self._echo_turn = turn
            return self.step_floor(FloorEvent.ECHOES, now_ns)
        event = self._spoken_over(now_ns)
        if sound is Sound.SHORT and event in (FloorEvent.SPEAKS_OVER_AI, FloorEvent.MAY_SPEAK_OVER_AI):
            event = FloorEvent.SPEAKS_BRIEFLY
        if self._speech_onset_ns:
            self._metrics.onset_to_report.observe((now_ns - self._speech_onset_ns) / 1e9)
        return self._on_turn(turn, now_ns, event) + self.step_near(NearEvent.REPORTED, now_ns)

    def _on_turn(self, turn: int, now_ns: int, event: FloorEvent) -> list[Command]:
        """The caller's turn begins."""
        self._echo_turn = self._echo_answered_ns = 0
        self._speech_ns, self._stopped_ns = now_ns, 0
        self.asking.step(OwedEvent.FORGIVEN, now_ns)  # the turn that begins now is answered instead
        self.caller.turn_started()
        self.caller_is_there(now_ns)
        self.history.speech_started(turn, now_ns)
        return self.step_floor(event, now_ns) + self.tools_spoken_over(now_ns)

    def on_echo_taken(self, now_ns: int) -> list[Command]:
        """The model has an echo in its conversation, as a turn of the caller. If it is free, it begins to answer."""
        turn, self._echo_turn = self._echo_turn, 0
        self.caller.turn_taken(turn, has_speech=False)
        if self.making.state is Making.IDLE:
            self._echo_answered_ns = now_ns + EXPECTED_NS
        return [ForgetTurn(turn)]

    def _spoken_over(self, now_ns: int) -> FloorEvent:
        """The event of a caller who begins to speak, by what the caller speaks over."""
        if self.is_protected(now_ns):
            return FloorEvent.SPEAKS_OVER_PROTECTED
        if self.is_interruptible():
            confirms = self.rules.confirm_ns and self.rules.barge_in != "drain"
            return FloorEvent.MAY_SPEAK_OVER_AI if confirms else FloorEvent.SPEAKS_OVER_AI
        return FloorEvent.SPEAKS_OVER_DRAIN if self.playout.is_audible() else FloorEvent.SPEAKS_ALONE
