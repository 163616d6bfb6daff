"""The effects of `send_dtmf` on the regions: tones play when the line is silent, and are answered when heard."""

from __future__ import annotations

from . import recording_notice, tones
from .commands import Command, TellStory
from .responses import Truth
from .tones import SEND_DTMF, Tones, TonesAct, TonesEvent
from .tool_events import ToolEvents
from .tools import ToolEvent


class ToneEvents(ToolEvents):
    """The conversation's tones."""

    def look_at_tones(self, now_ns: int) -> list[Command]:
        """Answer a call whose tones were heard, and play those of the next one."""
        commands: list[Command] = []
        if self.tones.is_heard:
            has_more = len(self.tones.waiting) > 1
            commands += self._step_tones(TonesEvent.HEARD_AND_MORE if has_more else TonesEvent.HEARD, now_ns)
        while self.tones.chart.state is Tones.WAITING and not self._is_called(self.tones.waiting[0][0]):
            self.tones.waiting.pop(0)
            if not self.tones.waiting:
                self._step_tones(TonesEvent.CALLED_OFF, now_ns)
        if self.tones.chart.state is Tones.WAITING and self._is_line_silent():
            commands += self._step_tones(TonesEvent.LINE_SILENT, now_ns)
        return commands

    def recall_tones(self) -> None:
        """Go on with the tones of a predecessor. The region's state, the tools and the line's speech are restored."""
        running = [call for call in self.tools.running() if call.name == SEND_DTMF]
        self.tones.waiting.extend((call.number, tones.digits_of(call.arguments)) for call in running)
        self.tones.utterance = next((each for each in self.utterances.open() if each.is_tones), None)
        if not running:
            self.tones.chart.state = Tones.NONE
        elif not self.tones.is_playing:
            self.tones.chart.state = Tones.WAITING

    def _is_called(self, tool_call: int) -> bool:
        """The model waits for the answer: there was none for a call that took too long."""
        call = self.tools.get(tool_call)
        return call is not None and call.is_running

    def _is_line_silent(self) -> bool:
        playout = self.playout
        is_busy = playout.is_audible() or playout.awaits_truth() or playout.is_paused
        return not is_busy and not recording_notice.is_protected(self.notice.state)

    def _step_tones(self, event: TonesEvent, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        for act in self.tones.chart.step(event):
            match act:
                case TonesAct.PLAY:
                    # The story comes first: a successor shall rather not send tones than send them twice.
                    commands += [TellStory(), *self._play(self.tones.waiting[0][1], now_ns)]
                case TonesAct.ANSWER:
                    number, digits = self.tones.waiting.pop(0)
                    utterance, self.tones.utterance = self.tones.utterance, None
                    whole = len(tones.audio_of(digits))
                    heard = whole if utterance is None else utterance.heard_bytes or 0
                    call = self.tools.get(number)
                    if call is not None:
                        output = tones.sent(digits, heard)
                        commands += self.step_tool(call, ToolEvent.ANSWERED, output, "done", now_ns)
        return commands

    def _play(self, digits: str, now_ns: int) -> list[Command]:
        """Play the tones as an utterance of their own. The model knows of them by its call."""
        audio = tones.audio_of(digits)
        response = self.responses.add(self.numbers.next_response(), "tones", Truth.TOLD)
        utterance, _ = self.utterances.receive(response.number, self.numbers.next_utterance(), len(audio))
        utterance.is_tones = True
        self.tones.utterance = utterance
        commands = self.playout.begin(utterance, response)
        self.history.add_words(utterance.number, digits, is_all=True)
        return [*commands, *self.playout.speak(utterance, audio, now_ns), *self.playout.end(utterance)]
