"""What was said in a call, by whom and when, and how much of it was heard: for the record, and for a fresh session.

The model's own conversation holds the audio; it is cut by `conversation.item.truncate`, which throws the whole
transcript of the item away, because the server cannot align words with audio (OpenAI, Realtime conversations). So the
words are cut here, by the share of the item's bytes that was heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from .realtime import Usage

# A fresh session gets this many of the last turns as text, and no more than so many characters: 32k tokens are the
# smallest context of a Realtime model, and instructions, tools and the call itself have to fit, too.
REPLAY_TURNS: Final = 200
REPLAY_CHARACTERS: Final = 24_000
# Characters of one turn; a quarter of an hour of speech.
TEXT_MAX: Final = 20_000
# Items whose words may come before their first audio: of one response, and a few that were never voiced.
EARLY_MAX: Final = 8
# In the place of words that were never transcribed.
UNKNOWN_CALLER: Final = "(the caller said something that was not written down)"
UNKNOWN_AI: Final = "(you said something that was not written down)"


@dataclass(slots=True)
class Turn:
    """One item of the conversation: what the caller said between two silences, or one audio item of the AI."""

    # Counts from 1, in the order of the conversation.
    number: int
    role: Literal["caller", "ai"]
    item_id: str
    # ns, monotonic: the caller's speech_started, or when the ear began to play it; 0: never heard.
    started_ns: int = 0
    # What the ear waited for it since then: gaps before its first sample, or inside it.
    gap_ns: int = 0
    # speech_stopped, or when the ear heard the last of it; None while it lasts.
    ended_ns: int | None = None
    # All words of it, heard or not; "" while they are not known.
    text: str = ""
    # The AI's only: audio made and audio heard, bytes of mu-law. `heard_bytes` is None while it is still being heard.
    received_bytes: int = 0
    heard_bytes: int | None = None
    # `text` holds the words of so much of it: a worker died before it told the rest. 0: all of them.
    text_bytes: int = 0
    # The caller spoke before the end of it was heard.
    interrupted: bool = False

    @property
    def heard_text(self) -> str:
        """The words that were heard, whole words only; of a turn that is being heard, all that are known."""
        if self.role == "caller" or self.heard_bytes is None:
            return self.text
        return self.words_of(self.heard_bytes)

    def words_of(self, n_bytes: int) -> str:
        """The words of the first so many bytes of the AI's audio, whole words only."""
        return cut_text(self.text, n_bytes / (self.text_bytes or self.received_bytes)) if n_bytes else ""


@dataclass(frozen=True, slots=True)
class Interruption:
    """One barge-in. Times are ns, monotonic."""

    # When the model's speech_started arrived.
    at_ns: int
    # When the AI fell silent at the ear; `at_ns` when nothing was being heard.
    silent_ns: int
    # It had to wait for the end of greeting protection.
    protected: bool
    # The server was still making the response, and was told to stop.
    cancelled: bool


@dataclass
class UsageTotal:
    """Tokens of all responses of a call, as response.done counts them."""

    responses: int = 0
    input_text: int = 0
    input_audio: int = 0
    input_cached: int = 0
    output_text: int = 0
    output_audio: int = 0

    def add(self, usage: Usage) -> None:
        """Count one response."""
        self.responses += 1
        self.input_text += usage.input_token_details.text_tokens
        self.input_audio += usage.input_token_details.audio_tokens
        self.input_cached += usage.input_token_details.cached_tokens
        self.output_text += usage.output_token_details.text_tokens
        self.output_audio += usage.output_token_details.audio_tokens


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
    """The record of one call. `take_changed` is for whoever keeps it elsewhere; nothing here is ever sent twice."""

    turns: list[Turn] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    usage: UsageTotal = field(default_factory=UsageTotal)
    # When the caller's speech began and stopped that is not an item yet.
    _speech: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    # The words of items of which no audio has come: they are no turns, and may never be.
    _early: dict[str, str] = field(default_factory=dict)
    _by_item: dict[str, Turn] = field(default_factory=dict)
    _changed: dict[int, Turn] = field(default_factory=dict)

    def turn(self, role: Literal["caller", "ai"], item_id: str) -> Turn:
        """The turn of this item; a new one when there is none yet."""
        turn = self._by_item.get(item_id)
        if turn is None:
            number = self.turns[-1].number + 1 if self.turns else 1
            turn = self._by_item[item_id] = Turn(number, role, item_id, text=self._early.pop(item_id, ""))
            self.turns.append(turn)
            if len(self.turns) > REPLAY_TURNS:
                del self._by_item[self.turns.pop(0).item_id]
        self._changed[turn.number] = turn
        return turn

    def recall(self, turns: list[Turn]) -> None:
        """Go on behind what another worker wrote down."""
        self.turns = list(turns)
        self._by_item = {turn.item_id: turn for turn in turns}

    def find(self, item_id: str) -> Turn | None:
        """The turn of this item, which the caller of this method is going to change."""
        turn = self._by_item.get(item_id)
        if turn is not None:
            self._changed[turn.number] = turn
        return turn

    def add_words(self, item_id: str, words: str) -> None:
        """The AI's words come in pieces, some before the audio that they belong to."""
        turn = self.find(item_id)
        if turn is not None:
            if len(turn.text) < TEXT_MAX:
                turn.text = (turn.text + words)[:TEXT_MAX]
            return
        early = self._early.pop(item_id, "")
        self._early[item_id] = early if len(early) >= TEXT_MAX else (early + words)[:TEXT_MAX]
        if len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]

    def speech_started(self, item_id: str, at_ns: int) -> None:
        """The caller began to speak; what is said will become this item."""
        if len(self._speech) > 8:  # speech that was never committed
            self._speech.clear()
        self._speech[item_id] = (at_ns, None)

    def speech_stopped(self, item_id: str, at_ns: int) -> None:
        if item_id in self._speech:
            self._speech[item_id] = (self._speech[item_id][0], at_ns)

    def committed(self, item_id: str) -> None:
        """The caller's speech is in the conversation. An item without any (an idle time-out's) is no turn."""
        times = self._speech.pop(item_id, None)
        if times is not None:
            turn = self.turn("caller", item_id)
            turn.started_ns, turn.ended_ns = times

    def take_changed(self) -> list[Turn]:
        """The turns that are new, or of which something changed, since the last time; by number."""
        changed = [self._changed[number] for number in sorted(self._changed)]
        self._changed.clear()
        return changed

    def replay(self) -> list[tuple[Turn, str]]:
        """What a fresh session has to be told, in order: the last turns, and the words of each that were heard."""
        told: list[tuple[Turn, str]] = []
        left = REPLAY_CHARACTERS
        for turn in reversed(self.turns[-REPLAY_TURNS:]):
            if turn.role == "ai" and (turn.heard_bytes == 0 or not turn.received_bytes):
                continue
            text = turn.heard_text
            if not text:
                if turn.text:  # not even its first word was heard
                    continue
                text = UNKNOWN_CALLER if turn.role == "caller" else UNKNOWN_AI
            left -= len(text)
            if left < 0:
                break
            told.append((turn, text))
        return told[::-1]
