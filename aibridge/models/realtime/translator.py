"""Between the Realtime API's events and the model port: one session's ids on one side, our numbers on the other. Pure.

The server has ids of its own for responses, items and calls, and names speech by an item and a content index. Each gets
a number when it is first needed. An utterance gets it with its first audio, because words and items come earlier, and
some of them never get audio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, get_args

import msgspec

from .. import port
from ..port import ModelCommand, Numbers
from . import client_events, wire
from .event_types import RealtimeClientEventParam
from .wire import ServerEvent

# Ids of each kind that stay known: the last few minutes of a session.
KEEP: Final = 512
# Items whose words may wait for their first audio: those of one response, and a few that never get audio.
EARLY_MAX: Final = 8
# The characters of such words: a quarter of an hour of speech.
EARLY_CHARACTERS: Final = 20_000
ABILITIES: Final = port.Abilities(
    kind="half_duplex", turns=True, cancel=True, truncate=True, tell_history=True, continuous_output=False
)

_FAULTS: Final[dict[str | None, port.FaultKind]] = {
    wire.CANCEL_NOT_ACTIVE: "cancel_too_late",
    wire.ALREADY_ACTIVE: "busy",
    **dict.fromkeys(wire.FATAL_CODES, "fatal"),
}
# What the server repeats of ours, or says in our words.
_OUTCOMES: Final[dict[str, port.Outcome]] = {outcome: outcome for outcome in get_args(port.Outcome)}
_PURPOSES: Final[dict[str, port.Purpose]] = {purpose: purpose for purpose in get_args(port.Purpose)}
K = TypeVar("K")


class Ids(dict[K, int]):
    """The number of each id; the oldest are forgotten."""

    def number(self, key: K, draw: Callable[[], int]) -> int:
        """The number of this id; a new number for an unknown id."""
        number = self.get(key)
        if number is None:
            number = self[key] = draw()
            if len(self) > KEEP:
                del self[next(iter(self))]
        return number

    def key(self, number: int) -> K | None:
        return next((key for key, each in self.items() if each == number), None)


class Translator:
    """Translates for one session: `events` from the server, `client_event` to the server."""

    def __init__(self, numbers: Numbers, phrases: dict[port.Purpose, str]) -> None:
        """`phrases`: the instructions of a response by its purpose, where a purpose has its own."""
        self._numbers = numbers
        self.phrases = phrases
        self._responses: Ids[str] = Ids()
        self._turns: Ids[str] = Ids()
        self._tool_calls: Ids[str] = Ids()
        # By item and content index.
        self._utterances: Ids[tuple[str, int]] = Ids()
        # The message items of the active response. At its end, those without audio are reported as unspoken.
        self._items: list[str] = []
        # SERVER.TOOL of each item whose arguments have not come.
        self._mcp_names: dict[str, str] = {}
        # Words that came before their audio, by item.
        self._early: dict[str, str] = {}

    # --- from the server ---

    def events(self, event: ServerEvent) -> tuple[port.ModelEvent, ...]:
        """The neutral events of a server event, in order."""
        if type(event) is wire.AudioDelta:  # nearly every event is this or the next
            number = self._utterances.get((event.item_id, event.content_index))
            response = self._responses.get(event.response_id, 0)
            if number is not None:
                return (port.Speech(response, number, event.delta),)
            return self._first_speech(event, response)
        if type(event) is wire.TranscriptDelta:
            number = self._utterance_of(event.item_id)
            if number is not None:
                return (port.Words(number, event.delta),)
            self._keep_early(event.item_id, event.delta)
            return ()
        match event:
            case wire.SpeechStarted(item_id):
                return (port.CallerSpeaks(self._turn(item_id)),)
            case wire.SpeechStopped(item_id):
                return (port.CallerSilent(self._turn(item_id)),)
            case wire.Committed(item_id):
                return (port.TurnTaken(self._turn(item_id)),)
            case wire.CallerTranscript(item_id, text):
                return (port.CallerWords(self._turn(item_id), text),)
            case wire.ResponseCreated(made):
                number = self._responses.number(made.id, self._numbers.next_response)
                self._items = []
                return (port.ResponseBegan(number, _PURPOSES.get((made.metadata or {}).get("purpose", ""))),)
            case wire.ResponseDone(made):
                return (self._ended(made),)
            case wire.OutputItemAdded(_, item):
                self._add_item(item)
                if item.type == "mcp_call":
                    self._mcp_names[item.id] = f"{item.server_label}.{item.name}"
            case wire.McpArgumentsDone(response_id, item_id, arguments):
                call = self._tool_calls.number(item_id, self._numbers.next_tool_call)
                name = self._mcp_names.pop(item_id, "mcp.unknown")
                return (port.ModelToolCalled(self._responses.get(response_id, 0), call, name, arguments),)
            case wire.OutputItemDone(_, item) if item.type == "mcp_call":
                self._mcp_names.pop(item.id, None)
                if number := self._tool_calls.get(item.id):
                    is_error = item.error is not None
                    output = msgspec.json.encode(item.error).decode() if is_error else item.output or ""
                    return (port.ModelToolAnswered(number, output, is_error),)
            case wire.OutputItemDone(response_id, item):
                # The server also sends this for calls that were cut short, which must not be carried out.
                if item.type == "function_call" and item.status == "completed":
                    call = self._tool_calls.number(item.call_id, self._numbers.next_tool_call)
                    response_number = self._responses.get(response_id, 0)
                    return (port.ToolCalled(response_number, call, item.name, item.arguments),)
            case wire.AudioDone(_, item_id, content_index):
                number = self._utterances.get((item_id, content_index))
                if number is not None:
                    return (port.SpeechEnded(number),)
            case wire.TranscriptDone(_, item_id, _, text):
                number = self._utterance_of(item_id)
                if number is not None:
                    return (port.Words(number, text, is_all=True),)
                self._early.pop(item_id, None)
                self._keep_early(item_id, text)
            case wire.ItemAdded(item):
                if item.type == "function_call_output" and (taken := self._tool_calls.get(item.call_id)):
                    return (port.AnswerTaken(taken),)
                if number := client_events.told_number(item.id):
                    return (port.TellingTaken(number),)
            case wire.ItemTruncated(item_id, audio_end_ms):
                number = self._utterance_of(item_id)
                if number is not None:
                    return (port.Truncated(number, audio_end_ms),)
            case wire.ServerError(error):
                request = client_events.request_of(error.event_id)
                return (port.Fault(_FAULTS.get(error.code, "other"), request, error.code or error.type),)
            case _:
                pass  # the session's own events are the shell's
        return ()

    def _first_speech(self, event: wire.AudioDelta, response: int) -> tuple[port.ModelEvent, ...]:
        number = self._utterances.number((event.item_id, event.content_index), self._numbers.next_utterance)
        speech = port.Speech(response, number, event.delta)
        words = self._early.pop(event.item_id, "")
        return (speech, port.Words(number, words)) if words else (speech,)

    def _turn(self, item_id: str) -> int:
        return self._turns.number(item_id, self._numbers.next_turn)

    def _utterance_of(self, item_id: str) -> int | None:
        """The item's first utterance: words and truncations do not name the content."""
        number = self._utterances.get((item_id, 0))
        if number is None:
            number = next((each for (item, _), each in self._utterances.items() if item == item_id), None)
        return number

    def _keep_early(self, item_id: str, words: str) -> None:
        early = self._early.pop(item_id, "")
        self._early[item_id] = early if len(early) >= EARLY_CHARACTERS else (early + words)[:EARLY_CHARACTERS]
        if len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]

    def _add_item(self, item: wire.Item) -> None:
        if item.type == "message" and item.id not in self._items and len(self._items) < KEEP:
            self._items.append(item.id)

    def _ended(self, response: wire.Response) -> port.ResponseEnded:
        number = self._responses.get(response.id, 0)
        for item in response.output:
            self._add_item(item)
        cut_short = [self._utterance_of(item.id) for item in response.output if item.status != "completed"]
        unspoken = [item_id for item_id in self._items if self._utterance_of(item_id) is None]
        self._items = []
        error = response.status_details.error if response.status_details is not None else None
        is_fatal = error is not None and error.code in wire.FATAL_CODES
        return port.ResponseEnded(
            number,
            "fatal" if is_fatal else _OUTCOMES.get(response.status, "completed"),
            tuple(each for each in cut_short if each is not None),
            tuple(self._utterances.number((item_id, 0), self._numbers.next_utterance) for item_id in unspoken),
            _usage(response.usage) if response.usage is not None else None,
        )

    # --- to the server ---

    def client_event(self, command: ModelCommand) -> RealtimeClientEventParam | None:
        """The client event of a command; None when the command refers to something unknown to this session."""
        about: Any = None
        match command:
            case port.Cancel(number):
                about = self._responses.key(number)
            case port.Forget(number):
                about = self._utterances.key(number)
                if about is not None and sum(item_id == about[0] for item_id, _ in self._utterances) > 1:
                    # Other speech of the item was heard: delete this part only.
                    command = port.Truncate(number, 0)
            case port.Truncate(number):
                about = self._utterances.key(number)
            case port.ForgetTurn(number):
                about = self._turns.key(number)
            case port.AnswerTool(number):
                about = self._tool_calls.key(number)
            case _:
                return client_events.client_event(command, self.phrases)
        return None if about is None else client_events.client_event_about(command, about)


def _usage(usage: wire.Usage) -> port.Usage:
    taken, made = usage.input_token_details, usage.output_token_details
    return port.Usage(taken.text_tokens, taken.audio_tokens, taken.cached_tokens, made.text_tokens, made.audio_tokens)
