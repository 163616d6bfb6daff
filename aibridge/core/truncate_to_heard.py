"""The truth in the model's conversation: it is cut to what the caller heard.

When a response is CUT (responses.py) and it is known what was heard of its utterances, the utterance under the playhead
is truncated and later ones are forgotten, each once. A TOLD_CUT response is text under a number of ours: the text is
replaced.
"""

from __future__ import annotations

from shared.audio import ms_of

from ..models.port import Forget, Tell, TellAnswer, TellCall, Truncate, Untell
from .commands import Command
from .history import History, Turn
from .keypad import in_words
from .metrics import ConversationMetrics
from .responses import Response, Truth
from .tools import ToolCall
from .utterances import Utterance, Utterances


class TruthTeller:
    """Returns the commands that tell the model the truth."""

    def __init__(self, utterances: Utterances, history: History, metrics: ConversationMetrics) -> None:
        self._utterances = utterances
        self._history = history
        self._metrics = metrics
        # The number under which the current session was told each utterance that it did not speak itself.
        self._told: dict[int, int] = {}
        self._told_count = 0
        # The same for the calls of tools that former sessions made.
        self._told_calls: dict[int, int] = {}
        # Where each utterance was cut, ms, until the model confirms it.
        self._truncated_ms: dict[int, int] = {}

    def tell(self, response: Response) -> list[Command]:
        """Cut the utterances of an interrupted response whose heard part is known by now."""
        commands: list[Command] = []
        if not response.is_cut:
            return commands
        for number in response.utterances:
            utterance = self._utterances.get(number)
            if utterance is None or utterance.heard_bytes is None or number in response.told:
                continue
            response.told.add(number)
            if response.truth.state is Truth.TOLD_CUT:
                if utterance.cut:
                    commands += self._tell_again(utterance)
            elif not ms_of(utterance.heard_bytes):
                commands.append(Forget(number))
                self._metrics.deleted.inc()
            elif utterance.cut or number in response.cut_short:
                heard_ms = self._truncated_ms[number] = ms_of(utterance.heard_bytes)
                commands.append(Truncate(number, heard_ms))
                self._metrics.truncated.inc()
        return commands

    def _tell_again(self, utterance: Utterance) -> list[Command]:
        """Replace the text of an utterance: less was heard than the current session was told."""
        told = self._told.get(utterance.number)
        turn = self._history.of_utterance(utterance.number)
        if told is None or turn is None:
            return []
        commands: list[Command] = []
        if turn.heard_text:
            self._told[utterance.number] = self._next()
            commands.append(Tell(self._told_count, "ai", turn.heard_text, told))
        return [*commands, Untell(told)]

    def _next(self) -> int:
        self._told_count += 1
        return self._told_count

    def confirmed(self, number: int, heard_ms: int) -> None:
        """The model confirms where it cut. The difference is the history error."""
        ours_ms = self._truncated_ms.pop(number, None)
        if ours_ms is not None:
            self._metrics.history_error.observe(abs(ours_ms - heard_ms) / 1e3)

    def replay(self, note: str = "") -> list[Command]:
        """Tell a new session what was said; of each turn of the AI, the words that were heard or will be.

        `note` comes last.
        """
        self._told.clear()
        self._told_calls.clear()
        self._truncated_ms.clear()
        commands: list[Command] = []
        for turn, text in self._history.replay():
            number = self._next()
            if turn.tool is not None:
                commands += self._tell_call(number, turn.tool)
                continue
            if turn.is_keys:
                text = in_words(text)
            if turn.speech is not None:
                self._told[turn.speech.number] = number
            commands.append(Tell(number, "caller" if turn.speech is None else "ai", text))
        if note:
            commands.append(self.note(note))
        return commands

    def note(self, text: str) -> Command:
        """Tell the model something that nobody said."""
        return Tell(self._next(), "note", text)

    def tell_keys(self, turn: Turn) -> Tell:
        """Tell the model what the caller entered."""
        return Tell(self._next(), "caller", in_words(turn.text))

    def tell_answer(self, call: ToolCall) -> list[Command]:
        """Tell this session the answer of a tool that a former session called."""
        told = self._told_calls.get(call.number)
        return [TellAnswer(told, call.output)] if told else self._tell_call(self._next(), call)

    def _tell_call(self, number: int, call: ToolCall) -> list[Command]:
        self._told_calls[call.number] = number
        told = TellCall(number, call.name, call.arguments)
        return [told] if call.is_running else [told, TellAnswer(number, call.output)]
