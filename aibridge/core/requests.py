"""The conversation's commands to the model as the Realtime API's client events."""

from __future__ import annotations

from typing import Final, assert_never

from openai.types.realtime import RealtimeClientEventParam, RealtimeResponseCreateParamsParam

from .commands import (
    AnswerFunction,
    CancelResponse,
    CreateResponse,
    DeleteItem,
    ModelCommand,
    TellItem,
    TruncateItem,
)

# After the connection to the model broke in the middle of its words: it is a new session that has to go on.
CONTINUE: Final = (
    "The line broke off in the middle of your last words; the caller has heard exactly those that stand in the "
    "conversation. Go on from there as if nothing had happened, without repeating them and without mentioning it."
)
# After the worker that heard the caller speak died, and its session with it.
REPEAT: Final = (
    "The line broke off while the caller was speaking, and you did not hear what they said. Apologise in a few words "
    "and ask them to say it again."
)


def client_event(command: ModelCommand, greeting_instructions: str) -> RealtimeClientEventParam:
    match command:
        case CreateResponse(purpose, event_id):
            response: RealtimeResponseCreateParamsParam = {"metadata": {"purpose": purpose}}
            if purpose == "greeting":
                response["instructions"] = greeting_instructions
            elif purpose == "continue":
                response["instructions"] = CONTINUE
            elif purpose == "repeat":
                response["instructions"] = REPEAT
            return {"type": "response.create", "event_id": event_id, "response": response}
        case CancelResponse(response_id):
            return {"type": "response.cancel", "response_id": response_id}
        case TruncateItem(item_id, content_index, audio_end_ms):
            return {
                "type": "conversation.item.truncate",
                "item_id": item_id,
                "content_index": content_index,
                "audio_end_ms": audio_end_ms,
            }
        case DeleteItem(item_id):
            return {"type": "conversation.item.delete", "item_id": item_id}
        case TellItem():
            return _told(command)
        case AnswerFunction(call_id, output):
            return {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": call_id, "output": output},
            }
        case _:
            assert_never(command)


def _told(command: TellItem) -> RealtimeClientEventParam:
    """Text, because item.create cannot hold audio of the assistant."""
    event: RealtimeClientEventParam
    if command.role == "caller":
        event = {
            "type": "conversation.item.create",
            "item": {
                "id": command.item_id,
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": command.text}],
            },
        }
    else:
        event = {
            "type": "conversation.item.create",
            "item": {
                "id": command.item_id,
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": command.text}],
            },
        }
    if command.after is not None:
        event["previous_item_id"] = command.after
    return event
