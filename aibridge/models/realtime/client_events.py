"""The conversation's commands as the Realtime API's client events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .. import port
from ..port import ModelCommand, Purpose
from .event_types import RealtimeClientEventParam, RealtimeResponseCreateParamsParam

# The connection to the model broke in the middle of its words, and a new session has to continue.
CONTINUE: Final = (
    "The line broke off in the middle of your last words; the caller has heard exactly those that stand in the "
    "conversation. Go on from there as if nothing had happened, without repeating them and without mentioning it."
)
# The worker died while its session heard the caller speak.
REPEAT: Final = (
    "The line broke off while the caller was speaking, and you did not hear what they said. Apologise in a few words "
    "and ask them to say it again."
)
# A tool works, and the caller has waited in silence.
FILLER: Final = (
    "You are still waiting for the answer of a tool. Tell the caller so in a few words, and say nothing else."
)
# The caller has said nothing for a while.
NUDGE: Final = "The caller has been silent for a while. Ask in a few words whether they are still there."
FAREWELL: Final = "The call ends now. Say goodbye in one short sentence, and ask nothing."
# Responses in which the model shall speak, and call no tool.
_ONLY_SPEECH: Final = ("filler", "nudge", "farewell")
_REQUEST: Final = "create_"
_TOLD: Final = "told_"
_ROLES: Final = {"caller": "user", "ai": "assistant", "note": "system"}


def say_exactly(words: str, language: str, *, is_greeting: bool) -> str:
    """Instructions to say given words: a greeting, or a notice."""
    begin = "Greet the caller now. Say" if is_greeting else "Say now, before anything else,"
    return f"{begin} exactly these words and nothing else, in {language}: {words}"


def request_of(event_id: str | None) -> int:
    """The number of the Ask that an error refers to; 0: none."""
    number = (event_id or "").removeprefix(_REQUEST)
    return int(number) if number != event_id and number.isdecimal() and number.isascii() else 0


def client_event(command: ModelCommand, phrases: Mapping[Purpose, str]) -> RealtimeClientEventParam:
    """The client event of a command that refers to no id of the server's."""
    match command:
        case port.Ask(request, purpose):
            response: RealtimeResponseCreateParamsParam = {"metadata": {"purpose": purpose}}
            if purpose in phrases:
                response["instructions"] = phrases[purpose]
            if purpose in _ONLY_SPEECH:
                response["tool_choice"] = "none"
            return {"type": "response.create", "event_id": f"{_REQUEST}{request}", "response": response}
        case port.Tell():
            return _told(command)
        case port.TellCall(number, name, arguments):
            told = _told_id(number)
            name = name.replace(".", "_")  # of a tool that ran at the model's server: a function's name has no dot
            return {
                "type": "conversation.item.create",
                "item": {"type": "function_call", "id": told, "call_id": told, "name": name, "arguments": arguments},
            }
        case port.TellAnswer(number, output):
            return _tool_output(_told_id(number), output)
        case port.Untell(number):
            return {"type": "conversation.item.delete", "item_id": _told_id(number)}
        case _:
            raise ValueError(f"{type(command).__name__} is about something of the server's")


def client_event_about(command: ModelCommand, about: Any) -> RealtimeClientEventParam:
    """The client event of a command about a response, an item (with its content index) or a tool call."""
    match command:
        case port.Cancel():
            return {"type": "response.cancel", "response_id": about}
        case port.Truncate(_, heard_ms):
            item_id, content_index = about
            return {
                "type": "conversation.item.truncate",
                "item_id": item_id,
                "content_index": content_index,
                "audio_end_ms": heard_ms,
            }
        case port.Forget():
            return {"type": "conversation.item.delete", "item_id": about[0]}
        case port.ForgetTurn():
            return {"type": "conversation.item.delete", "item_id": about}
        case port.AnswerTool(_, output):
            return _tool_output(about, output)
        case _:
            raise ValueError(f"{type(command).__name__} is about nothing of the server's")


def _tool_output(call_id: str, output: str) -> RealtimeClientEventParam:
    return {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": call_id, "output": output},
    }


def _told_id(number: int) -> str:
    return f"{_TOLD}{number:05d}"


def told_number(item_id: str) -> int:
    """What was told as this item; 0: the item is the server's own."""
    number = item_id.removeprefix(_TOLD)
    return int(number) if number != item_id and number.isdecimal() and number.isascii() else 0


def _told(command: port.Tell) -> RealtimeClientEventParam:
    """As text, because item.create cannot hold audio of the assistant."""
    role = _ROLES[command.role]
    event: Any = {
        "type": "conversation.item.create",
        "item": {
            "id": _told_id(command.number),
            "type": "message",
            "role": role,
            "content": [{"type": "output_text" if role == "assistant" else "input_text", "text": command.text}],
        },
    }
    if command.after:
        event["previous_item_id"] = _told_id(command.after)
    told: RealtimeClientEventParam = event
    return told
