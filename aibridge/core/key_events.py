"""The effects of the caller's keys on the regions."""

from __future__ import annotations

from .barge_in import Floor, FloorEvent
from .commands import Command, TellStory
from .keypad import Keys, KeysAct, KeysEvent
from .silence_events import SilenceEvents
from .story import Story
from .timers import Due


class KeyEvents(SilenceEvents):
    """The conversation's handling of the keypad."""

    def on_key(self, key: str, at_ns: int, now_ns: int) -> list[Command]:
        """The caller pressed a key at `at_ns`. A key that a predecessor has handled comes again and is dropped."""
        if self.ended or at_ns <= self.keypad.last_ns:
            return []
        is_complete = self.keypad.add(key, at_ns)
        self.caller_is_there(now_ns)
        commands = self._step_keys(self._pressed_over(now_ns), now_ns)
        if is_complete:
            return [*commands, *self.entry_complete(now_ns)]
        self.timers.set(Due.KEYS, now_ns + self.keypad.rules.timeout_ns)
        return [*commands, TellStory()]

    def entry_complete(self, now_ns: int) -> list[Command]:
        """The last key of an entry was pressed, or none has followed in time."""
        self.timers.cancel(Due.KEYS)
        return [*self._step_keys(KeysEvent.COMPLETE, now_ns), TellStory()]

    def keys_at_protection(self, now_ns: int) -> list[Command]:
        """Keys over protected words wait for the end of these."""
        if self.is_protected(now_ns):
            end_ns = self.protection.until_ns(self.greeting.state)
            if end_ns is not None and end_ns > now_ns:
                self.timers.set(Due.PROTECTED, end_ns)
            return []
        event = KeysEvent.PROTECTION_ENDS if self.is_interruptible() else KeysEvent.PROTECTION_ENDS_IN_SILENCE
        return self._step_keys(event, now_ns)

    def recall_keys(self, story: Story, last_ns: int, now_ns: int) -> None:
        """Go on with the entry of a predecessor. The region's state is restored."""
        keypad = self.keypad
        keypad.entered, keypad.last_ns = story.entered, last_ns
        if not story.pressed:
            keypad.chart.state = Keys.NONE
        elif keypad.is_pressing:
            keypad.pressed, keypad.first_ns = story.pressed, last_ns
            keypad.is_secret = story.pressed_is_secret
            self.timers.set(Due.KEYS, now_ns + keypad.rules.timeout_ns)

    def _pressed_over(self, now_ns: int) -> KeysEvent:
        if not self.keypad.rules.interrupts:
            return KeysEvent.PRESSED
        if self.is_protected(now_ns):
            return KeysEvent.PRESSED_OVER_PROTECTED
        return KeysEvent.PRESSED_OVER_AI if self.is_interruptible() else KeysEvent.PRESSED

    def _step_keys(self, event: KeysEvent, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.keypad.chart.step(event):
            match act:
                case KeysAct.INTERRUPT:
                    commands += self._interrupt_by_key(self.keypad.last_ns, now_ns, protected=False)
                case KeysAct.INTERRUPT_LATE:
                    commands += self._interrupt_by_key(self.keypad.first_ns, now_ns, protected=True)
                case KeysAct.COUNT_PROTECTED:
                    self._metrics.protected.inc()
                case KeysAct.TELL:
                    commands += self._tell_entry(now_ns)
        return commands

    def _interrupt_by_key(self, at_ns: int, now_ns: int, *, protected: bool) -> list[Command]:
        commands = self.interrupt(at_ns, now_ns, protected=protected)
        if self.floor.state is Floor.CONFIRMING:  # the key has decided it
            commands += self.step_floor(FloorEvent.SPEECH_LASTS_ALONE, now_ns)
        return commands + self.tools_spoken_over(now_ns)

    def _tell_entry(self, now_ns: int) -> list[Command]:
        """The model learns of the entry, and speaks about it once: a response that began before cannot know it."""
        keypad = self.keypad
        turn = self.history.keys_entered(keypad.take(), keypad.first_ns, keypad.last_ns)
        commands: list[Command] = []
        if self.sessions.is_live:  # else the history tells it
            told = self._truth.tell_keys(turn)
            keypad.unconfirmed.add(told.number)
            commands.append(told)
        self.reply(now_ns, over=("filler", "nudge", "continue"))
        return commands
