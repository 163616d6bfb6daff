"""The effects of silence and of a call's length on the regions."""

from __future__ import annotations

from shared.plan import HangUp

from .commands import Command
from .goodbye_and_fallback import Goodbye, GoodbyeEvent
from .phrases import is_goodbye, is_voicemail
from .silence import GRACE_NS, VOICEMAIL_NS, WARNING, SilenceAct, SilenceEvent
from .timers import Due
from .tone_events import ToneEvents


class SilenceEvents(ToneEvents):
    """The conversation's patience."""

    def count_length(self, began_ns: int, now_ns: int) -> None:
        """The call began at `began_ns`."""
        self.began_ns, patience = began_ns, self.patience
        if patience.length_ns:
            if began_ns + patience.warning_ns > now_ns:
                self.timers.set(Due.WARNING, began_ns + patience.warning_ns)
            self.timers.set(Due.LENGTH, began_ns + patience.length_ns)

    def count_silence(self, now_ns: int) -> None:
        """Count from now when the silence begins, and not at all while there is none."""
        if not (self.sessions.is_live and self.is_quiet() and self.goodbye.state is Goodbye.NONE):
            self.timers.cancel(Due.SILENCE)
        elif not self.timers.is_set(Due.SILENCE):
            patience = self.patience
            silence_ns = patience.goodbye_ns if self.has_said_goodbye() else patience.silence_ns
            if silence_ns:
                self.timers.set(Due.SILENCE, now_ns + silence_ns)

    def has_said_goodbye(self) -> bool:
        """Whether the last words of the AI that the caller heard are a goodbye."""
        last = next((turn for turn in reversed(self.history.turns) if turn.role == "ai"), None)
        patience = self.patience
        return bool(patience.goodbye_ns and last is not None and is_goodbye(last.heard_text, patience.goodbyes))

    def caller_is_there(self, now_ns: int) -> None:
        """The caller speaks."""
        self._step_silence(SilenceEvent.CALLER_SPEAKS, now_ns)

    def silence_lasts(self, now_ns: int) -> None:
        if self.has_said_goodbye():
            self._step_silence(SilenceEvent.SILENT_AFTER_GOODBYE, now_ns)
            return
        is_last = self.nudged >= self.patience.nudges
        self._step_silence(SilenceEvent.SILENT_TO_THE_LAST if is_last else SilenceEvent.SILENT, now_ns)

    def look_for_voicemail(self, text: str, now_ns: int) -> list[Command]:
        """A machine has answered a call that was forwarded or transferred to us, or it speaks in the caller's place."""
        is_early = now_ns < self.began_ns + VOICEMAIL_NS
        if self.ended or not (self.patience.ends_voicemail and is_early and is_voicemail(text)):
            return []
        self._metrics.voicemails.inc()
        self.order = HangUp()
        self.goodbye.step(GoodbyeEvent.ORDERED)
        return self.end_call(GoodbyeEvent.HEARD, 0, "a voicemail greeting")

    def warn_of_length(self) -> list[Command]:
        """Tell the model, so that it can bring the conversation to an end."""
        patience = self.patience
        if not self.sessions.is_live:
            return []
        seconds = (patience.length_ns - patience.warning_ns) // 1_000_000_000
        return [self._truth.note(WARNING.format(seconds=seconds))]

    def length_reached(self, now_ns: int) -> list[Command]:
        """Say goodbye; and when that is not over after the grace period, end the call as it is."""
        if now_ns >= self.began_ns + self.patience.length_ns + GRACE_NS:
            self.order = HangUp()
            self.goodbye.step(GoodbyeEvent.ORDERED)
            return self.end_call(GoodbyeEvent.HEARD, 0, "the call has lasted too long")
        self.timers.set(Due.LENGTH, self.began_ns + self.patience.length_ns + GRACE_NS)
        self._step_silence(SilenceEvent.TOO_LONG, now_ns)
        return []

    def _step_silence(self, event: SilenceEvent, now_ns: int) -> None:
        for act in self.silence.step(event):
            match act:
                case SilenceAct.NUDGE:
                    self.nudged += 1
                    self.asking.owe("nudge", now_ns)
                case SilenceAct.SAY_FAREWELL:
                    self._metrics.farewells.inc()
                    self.asking.owe("farewell", now_ns)
                    self.order = HangUp()
                    self.goodbye.step(GoodbyeEvent.ORDERED)
                case SilenceAct.END_CALL:
                    self._metrics.farewells.inc()
                    self.order = HangUp()
                    self.goodbye.step(GoodbyeEvent.ORDERED)
                case SilenceAct.FORGIVE:
                    self.nudged = 0
