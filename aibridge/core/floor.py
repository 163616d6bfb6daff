"""Who has the floor: what the caller's speech does to the AI's.

Here the two clocks meet. What the server says about the caller (speech_started, speech_stopped) is true at once for the
beginning of speech, and half a second late for its end. So where it matters whether the caller speaks *now*, at the end
of greeting protection and when an interruption is to be confirmed, the caller's own audio is asked as well.
"""

from __future__ import annotations

from .asking import CANCELLED_NS
from .barge_in import BARGE_IN_TABLE, DRAIN_TABLE, Act, BargeIn, Situation
from .caller_audio import CallerAudio
from .commands import CancelResponse, Command, PauseSpeech, ResumeSpeech
from .greeting import Greeting, Stage
from .metrics import ConversationMetrics
from .playout import Playout
from .responses import Responses, Server, Step
from .timers import Due, Timers


class Floor:
    """Times are ns, monotonic. `confirm_ns`: speech that does not last so long interrupts nothing; 0: all does."""

    def __init__(
        self,
        *,
        commands: list[Command],
        responses: Responses,
        playout: Playout,
        greeting: Greeting,
        caller: CallerAudio,
        timers: Timers,
        barge_in: BargeIn,
        confirm_ns: int,
        metrics: ConversationMetrics,
    ) -> None:
        self._commands = commands
        self._responses = responses
        self._playout = playout
        self._greeting = greeting
        self._caller = caller
        self._timers = timers
        self._acts = DRAIN_TABLE if barge_in == "drain" else BARGE_IN_TABLE
        self._confirm_ns = confirm_ns
        self._metrics = metrics
        # The caller speaks, by the server's account, and since when.
        self.caller_speaks = False
        self._speech_ns = 0
        # An interruption waits for the end of greeting protection, or for speech that lasts.
        self.is_remembered = False
        self._confirming = False
        # The response that was asked for shall be cancelled as soon as it has an id.
        self._cancel_when_created = False

    def speech_started(self, now_ns: int) -> bool:
        """True when that interrupts the AI now."""
        self.caller_speaks = True
        self._speech_ns = now_ns
        return self._interrupt_if_due(now_ns, protected=False)

    def speech_stopped(self) -> None:
        self.caller_speaks = False
        if self._confirming:
            self._metrics.false_alarms.inc()
            self._resume()

    def session_lost(self) -> None:
        """Nobody says any more whether the caller speaks; the next session will."""
        self.caller_speaks = False
        self._cancel_when_created = False
        self.is_remembered = False
        self._resume()

    def situation(self, now_ns: int) -> Situation:
        if self._greeting.is_protected(now_ns):
            return Situation.PROTECTED
        responses = self._responses
        if responses.server is Server.REQUESTED and not self._cancel_when_created:
            return Situation.REQUESTED
        if responses.server is Server.ACTIVE:
            return Situation.ACTIVE
        if self._playout.is_audible():
            return Situation.CANCELLING if responses.server is Server.CANCELLING else Situation.GENERATED
        return Situation.SILENT

    def _interrupt_if_due(self, now_ns: int, *, protected: bool) -> bool:
        acts = self._acts[self.situation(now_ns)]
        if not acts or self._confirming:
            return False
        if Act.REMEMBER in acts:
            if not self.is_remembered:
                self.is_remembered = True
                self._metrics.protected.inc()
            return False
        if self._confirm_ns and Act.WITHDRAW in acts and not protected:
            self._confirming = True
            self._commands.append(PauseSpeech())
            self._timers.set(Due.CONFIRM, now_ns + self._confirm_ns)
            return False
        self._interrupt(acts, now_ns, protected=protected)
        return True

    def _interrupt(self, acts: tuple[Act, ...], now_ns: int, *, protected: bool) -> None:
        self._metrics.interruptions.inc()
        cancelled = False
        for act in acts:
            match act:
                case Act.CANCEL:
                    cancelled = self.cancel(now_ns)
                case Act.CANCEL_WHEN_CREATED:
                    self._cancel_when_created = True
                case Act.WITHDRAW:
                    if Act.CANCEL not in acts:
                        self._metrics.cancels_spared.inc()
                    self._playout.withdraw(self._speech_ns, now_ns, protected=protected, cancelled=cancelled)
        if self._greeting.stage in (Stage.ASKED, Stage.MAKING, Stage.MADE):
            self._greeting.stage = Stage.OVER
            self._metrics.greetings_interrupted.inc()

    def cancel(self, now_ns: int) -> bool:
        """response.cancel, if there is something to cancel and that was not done yet."""
        response = self._responses.active
        if response is None or not self._responses.step(Step.CANCEL_SENT):
            return False
        response.interrupted = True
        self._commands.append(CancelResponse(response.id))
        self._timers.set(Due.STALLED, now_ns + CANCELLED_NS)
        self._metrics.cancels.inc()
        self._metrics.cancel.observe((now_ns - self._speech_ns) / 1e9)
        return True

    @property
    def cancels_when_created(self) -> bool:
        """The caller spoke while a response was asked for that has no id yet."""
        return self._cancel_when_created

    def created(self, now_ns: int) -> None:
        """A response has an id now."""
        if self._cancel_when_created:
            self._cancel_when_created = False
            self.cancel(now_ns)

    def create_refused(self) -> None:
        self._cancel_when_created = False

    # --- what waits ---

    def reexamine(self, now_ns: int) -> bool:
        """An interruption waits: when protection is over it happens, if the caller still speaks, at the ear."""
        if not self.is_remembered:
            return False
        if self._greeting.is_protected(now_ns):
            end_ns = self._greeting.protected_until_ns()
            if end_ns is not None:
                self._timers.set(Due.PROTECTED, end_ns)
            return False
        self.is_remembered = False
        self._timers.cancel(Due.PROTECTED)
        if self.caller_speaks and self._caller.is_speaking():
            return self._interrupt_if_due(now_ns, protected=True)
        return False

    def confirm(self, now_ns: int) -> bool:
        """The speech has lasted, which makes it an interruption, or it has not."""
        self._confirming = False
        acts = self._acts[self.situation(now_ns)]
        lasts = self.caller_speaks and self._caller.is_speaking()
        if not lasts:
            self._metrics.false_alarms.inc()
        elif acts and Act.REMEMBER not in acts:
            self._interrupt(acts, now_ns, protected=False)
        if not self._playout.awaits_truth():  # a withdrawal ends the pause by itself
            self._commands.append(ResumeSpeech())
        return lasts and bool(acts)

    def _resume(self) -> None:
        if self._confirming:
            self._confirming = False
            self._timers.cancel(Due.CONFIRM)
            self._commands.append(ResumeSpeech())
