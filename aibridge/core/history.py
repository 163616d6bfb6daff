"""What was said in a call, by whom and when, and how much of it was heard: for the record, and for a new session.

The model's own conversation holds audio. Truncating an item there removes all its words, because the server cannot
align words with audio exactly. The words are therefore cut here, at the share of the utterance's bytes that was heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add
from typing import Final, Literal

from msgspec import structs

from ..models.port import Usage
from .story import Said
from .tools import ToolCall
from .utterances import Utterance

# A new session is told this many of the last turns as text, and at most this many characters: the smallest context of a
# speech model is 32k tokens, and instructions, tools and the call itself have to fit, too.
REPLAY_TURNS: Final = 200
REPLAY_CHARACTERS: Final = 24_000
# Characters of one turn; a quarter of an hour of speech.
TEXT_MAX: Final = 20_000
# Stand for words that were never transcribed.
UNKNOWN_CALLER: Final = "(the caller said something that was not written down)"
UNKNOWN_AI: Final = "(you said something that was not written down)"


@dataclass(slots=True, eq=False)
class Turn:
    """The caller's words between two silences, or keys; an utterance of the AI; a call of a tool. Times are ns."""

    # Counts from 1, in the order of the conversation.
    number: int
    # The AI's: its utterance, which holds the bytes and the times of the ear. None: the caller's turn.
    speech: Utterance | None = None
    # The caller's: the model's number of the turn, and when it began and ended.
    turn: int = 0
    spoke_ns: int = 0
    stopped_ns: int | None = None
    # All words, heard or not; "" while they are not known.
    text: str = ""
    # `text` holds the words of this many bytes, because a worker died before it sent the rest. 0: all words.
    text_bytes: int = 0
    # Its portable form, until something of it changes.
    told: Said | None = None
    # Keys that the caller pressed; `text` is what may be shown of them.
    is_keys: bool = False
    # The tool's: its call. `turn` is then the number of the call, and `text` the answer.
    tool: ToolCall | None = None

    @property
    def role(self) -> Literal["caller", "ai", "tool", "keys", "tones"]:
        if self.tool is not None:
            return "tool"
        if self.is_keys:
            return "keys"
        if self.speech is None:
            return "caller"
        return "tones" if self.speech.is_tones else "ai"

    @property
    def key(self) -> str:
        """Names the turn within the call, for records."""
        return f"{self.role}-{self.turn if self.speech is None else self.speech.number}"

    @property
    def started_ns(self) -> int:
        """When the caller began to speak, or the ear began to play it; 0: never."""
        return self.spoke_ns if self.speech is None else self.speech.began_ns

    @property
    def ended_ns(self) -> int | None:
        """When the caller fell silent, or the ear heard the last of it; None while it lasts."""
        return self.stopped_ns if self.speech is None else self.speech.settled_ns

    @property
    def gap_ns(self) -> int:
        """How long the ear waited for it since it began."""
        return 0 if self.speech is None else self.speech.gap_ns

    @property
    def received_bytes(self) -> int:
        return 0 if self.speech is None else self.speech.received_bytes

    @property
    def heard_bytes(self) -> int | None:
        """Of an AI's turn; None while it is being heard."""
        return None if self.speech is None else self.speech.heard_bytes

    @property
    def interrupted(self) -> bool:
        """The caller spoke before the end of it was heard."""
        return self.speech is not None and self.speech.cut

    @property
    def shown_text(self) -> str:
        """What records show: all words, or the tool's name and its answer."""
        return self.text if self.tool is None else f"{self.tool.name}: {self.text}"

    @property
    def heard_text(self) -> str:
        """The words that were heard, whole words only; while the turn is being heard, all that are known."""
        heard_bytes = self.heard_bytes
        return self.text if heard_bytes is None else self.words_of(heard_bytes)

    def words_of(self, n_bytes: int) -> str:
        """The words of the first `n_bytes` of the AI's audio, whole words only."""
        return cut_text(self.text, n_bytes / (self.text_bytes or self.received_bytes)) if n_bytes else ""


@dataclass(frozen=True, slots=True)
class Interruption:
    """One barge-in. Times are ns, monotonic."""

    # When the model heard the caller begin.
    at_ns: int
    # When the AI fell silent at the ear: before `at_ns` if the near ear had paused it. `at_ns` when nothing was heard.
    silent_ns: int
    # It waited for the end of greeting protection, or of the recording notice.
    protected: bool
    # The model was still making the response, and was told to stop.
    cancelled: bool
    # The caller's first sound, and when it paused the line; 0: unknown, and not paused.
    onset_ns: int = 0
    paused_ns: int = 0


@dataclass(frozen=True, slots=True)
class Hesitation:
    """A sound that might have been an interruption. Times are ns, monotonic."""

    # "unconfirmed": it paused the line, and the model did not report it. "echo": the model reported it, and it was the
    # AI's own voice.
    kind: Literal["unconfirmed", "echo"]
    onset_ns: int
    # From when to when the line was paused; for an echo, the model's report.
    from_ns: int
    until_ns: int


def cut_text(text: str, share: float) -> str:
    """The first `share` (0 to 1) of `text`, whole words only."""
    end = round(len(text) * share)
    if end >= len(text):
        return text
    head = text[:end]
    if not text[end].isspace():
        head = head[: max((at + 1 for at, letter in enumerate(head) if letter.isspace()), default=0)]
    return head.rstrip()


@dataclass
class History:
    """The record of one call. `take_changed` returns each change once, for a record that is kept elsewhere."""

    turns: list[Turn] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    hesitations: list[Hesitation] = field(default_factory=list)
    # Responses of the agent that speaks now whose tokens are known, and the tokens of all of them.
    responses: int = 0
    usage: Usage = field(default_factory=Usage)
    # When the speech of turns that are not taken yet began and stopped, by turn.
    _speech: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    # The turns whose audio a new session hears again, oldest first: its next turns are these, not new ones.
    _heard_again: list[Turn] = field(default_factory=list)
    _by_utterance: dict[int, Turn] = field(default_factory=dict)
    _by_turn: dict[int, Turn] = field(default_factory=dict)
    _changed: dict[int, Turn] = field(default_factory=dict)

    def begin_utterance(self, utterance: Utterance) -> Turn:
        """The AI begins to say something."""
        turn = self._by_utterance[utterance.number] = self._append(Turn(self._next_number(), utterance))
        return turn

    def _next_number(self) -> int:
        return self.turns[-1].number + 1 if self.turns else 1

    def _append(self, turn: Turn) -> Turn:
        self.turns.append(turn)
        self._changes(turn)
        if len(self.turns) > REPLAY_TURNS:
            oldest = self.turns.pop(0)
            if oldest.role == "caller":
                self._by_turn.pop(oldest.turn, None)
            if oldest.speech is not None:
                self._by_utterance.pop(oldest.speech.number, None)
        return turn

    def _changes(self, turn: Turn) -> None:
        self._changed[turn.number] = turn
        turn.told = None

    def recall(self, turns: list[Turn]) -> None:
        """Continue the record of another worker."""
        self.turns = list(turns)
        self._by_utterance = {turn.speech.number: turn for turn in turns if turn.speech is not None}
        self._by_turn = {turn.turn: turn for turn in turns if turn.role == "caller"}

    def note_again(self, since_ns: int) -> None:
        """Count the turns that ended since then, or not at all, as changed: another cell may not have noted them."""
        for turn in self.turns:
            if turn.ended_ns is None or turn.ended_ns >= since_ns:
                self._changes(turn)

    def of_utterance(self, number: int) -> Turn | None:
        """The AI's turn of this utterance. It counts as changed."""
        turn = self._by_utterance.get(number)
        if turn is not None:
            self._changes(turn)
        return turn

    def count_usage(self, usage: Usage) -> None:
        """Count one response."""
        self.responses += 1
        self.usage = Usage(*map(add, structs.astuple(self.usage), structs.astuple(usage)))

    def begin_usage(self) -> None:
        """Count from 0: another agent or model speaks."""
        self.responses, self.usage = 0, Usage()

    def add_words(self, utterance: int, words: str, *, is_all: bool) -> None:
        """Words of the AI: one more piece, or all of them."""
        turn = self.of_utterance(utterance)
        if turn is None or not words:
            return
        if is_all:
            turn.text = words[:TEXT_MAX]
        elif len(turn.text) < TEXT_MAX:
            turn.text = (turn.text + words)[:TEXT_MAX]

    def tool_called(self, call: ToolCall, at_ns: int) -> None:
        """The model calls a tool."""
        self._append(Turn(self._next_number(), turn=call.number, spoke_ns=at_ns, tool=call))

    def tool_answered(self, call: ToolCall, at_ns: int) -> None:
        turn = next((turn for turn in reversed(self.turns) if turn.tool is call), None)
        if turn is not None:
            turn.text, turn.stopped_ns = call.output, at_ns
            self._changes(turn)

    def keys_entered(self, shown: str, began_ns: int, ended_ns: int) -> Turn:
        """The caller has pressed keys; `shown` is what anybody may know of them."""
        number = self._next_number()
        turn = Turn(number, turn=number, spoke_ns=began_ns, stopped_ns=ended_ns, text=shown, is_keys=True)
        return self._append(turn)

    def speech_started(self, turn: int, at_ns: int) -> None:
        """The caller began to speak."""
        if len(self._speech) > 8:  # speech that was never taken
            self._speech.clear()
        self._speech[turn] = (at_ns, None)

    def speech_stopped(self, turn: int, at_ns: int) -> None:
        if turn in self._speech:
            self._speech[turn] = (self._speech[turn][0], at_ns)

    def taken(self, number: int) -> bool:
        """The model has the caller's turn. False without speech: an idle time-out makes such a turn."""
        times = self._speech.pop(number, None)
        if times is None:
            return False
        if self._heard_again:
            turn = self._heard_again.pop(0)
            self._by_turn.pop(turn.turn, None)
            turn.turn = number
            self._changes(turn)
        else:
            turn = self._append(Turn(self._next_number(), turn=number, spoke_ns=times[0], stopped_ns=times[1]))
        self._by_turn[number] = turn
        return True

    def caller_words(self, number: int, words: str) -> None:
        turn = self._by_turn.get(number)
        if turn is not None and words:
            turn.text = words[:TEXT_MAX]
            self._changes(turn)

    def hear_again(self, numbers: list[int]) -> None:
        """A new session hears the audio of these turns of the caller again."""
        self._heard_again = [self._by_turn[number] for number in numbers if number in self._by_turn]

    def take_changed(self) -> list[Turn]:
        """The turns that are new or have changed since the last time, by number."""
        changed = [self._changed[number] for number in sorted(self._changed)]
        self._changed.clear()
        return changed

    def replay(self) -> list[tuple[Turn, str]]:
        """The last turns in order, with the words of each that were heard: what a new session is told."""
        told: list[tuple[Turn, str]] = []
        left = REPLAY_CHARACTERS
        for turn in reversed(self.turns[-REPLAY_TURNS:]):
            if turn.role == "ai" and (turn.heard_bytes == 0 or not turn.received_bytes):
                continue
            if turn.role == "tones":  # the call of send_dtmf tells it
                continue
            if any(turn is again for again in self._heard_again):
                continue
            text = turn.heard_text
            if turn.tool is not None:
                left -= len(turn.tool.arguments)
            elif not text:
                if turn.text:  # not even its first word was heard
                    continue
                text = UNKNOWN_CALLER if turn.role == "caller" else UNKNOWN_AI
            left -= len(text)
            if left < 0:
                break
            told.append((turn, text))
        return told[::-1]
