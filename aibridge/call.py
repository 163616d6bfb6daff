"""One call in aibridge: carries the conversation's commands to the model, the line and the gateway."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, assert_never

from openai.types.realtime import RealtimeClientEventParam

from shared.messages import HangUp, Message, OpenLine, Speech, SpeechEnd, Withdraw

from .agent import Agent
from .core.commands import (
    AnswerFunction,
    CancelResponse,
    Command,
    CreateResponse,
    DeleteItem,
    EndCall,
    EndSpeech,
    Speak,
    TruncateItem,
    WithdrawSpeech,
)
from .core.conversation import Conversation
from .core.realtime import ServerError, ServerEvent, SessionUpdated
from .session import Session

log = logging.getLogger("aibridge")

# Caller audio that waits for the session: 10 s.
WAITING_BYTES: Final = 80_000


class Call:
    """From CallStarted to CallEnded. `to_pacer` and `to_gateway` take messages and never wait."""

    def __init__(
        self,
        *,
        call: int,
        call_sid: str,
        gateway: str,
        agent: Agent,
        session: Session,
        conversation: Conversation,
        to_pacer: Callable[[Message], None],
        to_gateway: Callable[[Message], None],
        on_dropped_audio: Callable[[int], None],
        on_due: Callable[[Call], None],
    ) -> None:
        self.call = call
        self.call_sid = call_sid
        self._gateway = gateway
        self._agent = agent
        self._session = session
        self.conversation = conversation
        self._to_pacer = to_pacer
        self._to_gateway = to_gateway
        self._on_dropped_audio = on_dropped_audio
        self._on_due = on_due
        self._waiting = bytearray()
        self._logged_error = False
        self.reopen_line()
        if session.ready:
            self._begin()

    def reopen_line(self) -> None:
        """Open the call's line in txpacer, which has (or has again) none for it."""
        self._to_pacer(OpenLine(self.call, self._gateway))

    def _begin(self) -> None:
        if self._waiting:
            self._session.append(bytes(self._waiting))
            self._waiting.clear()
        self.conversation.begin(time.monotonic_ns())
        self._carry_out()

    def caller_audio(self, data: bytes) -> None:
        if self._session.ready:
            self._session.append(data)
        elif len(self._waiting) + len(data) <= WAITING_BYTES:
            self._waiting += data
        else:
            self._on_dropped_audio(len(data))

    def model_event(self, event: ServerEvent) -> None:
        if isinstance(event, SessionUpdated):
            self._begin()
            return
        if isinstance(event, ServerError) and not self._logged_error:
            self._logged_error = True
            # The code only: a message can quote what was said.
            log.warning("call %s: the model answered with an error (%s); going on", self.call_sid, event.error.code)
        self.conversation.receive(event, time.monotonic_ns())
        self._carry_out()

    def playout(self, report: Any) -> None:
        self.conversation.playout(report, time.monotonic_ns())
        self._carry_out()

    def advance(self) -> None:
        self.conversation.advance(time.monotonic_ns())
        self._carry_out()

    def end(self, reason: str) -> None:
        """The model is gone for good: what is in the line is still heard, then the fallback follows."""
        self._do(EndCall(goodbye=False, after_utterance=self.conversation.unheard(), reason=reason))

    def _carry_out(self) -> None:
        commands = self.conversation.commands
        if commands:
            for command in commands:
                self._do(command)
            commands.clear()
        self._on_due(self)

    def _do(self, command: Command) -> None:
        match command:
            case Speak(utterance, data):
                self._to_pacer(Speech(self.call, utterance, data))
            case EndSpeech(utterance):
                self._to_pacer(SpeechEnd(self.call, utterance))
            case WithdrawSpeech(through, clear):
                self._to_pacer(Withdraw(self.call, through, clear))
            case EndCall(goodbye, after_utterance, reason):
                log.info("call %s: ending (%s)", self.call_sid, reason)
                self._to_gateway(HangUp(self.call, goodbye, after_utterance))
            case (
                CreateResponse() | CancelResponse() | TruncateItem() | DeleteItem() | AnswerFunction()
            ):  # fmt: skip
                self._session.send(self._event(command))
            case _:
                assert_never(command)

    def _event(
        self, command: CreateResponse | CancelResponse | TruncateItem | DeleteItem | AnswerFunction
    ) -> RealtimeClientEventParam:
        match command:
            case CreateResponse("greeting"):
                return {
                    "type": "response.create",
                    "response": {
                        "instructions": self._agent.greeting_instructions(),
                        "metadata": {"purpose": "greeting"},
                    },
                }
            case CreateResponse(purpose):
                return {"type": "response.create", "response": {"metadata": {"purpose": purpose}}}
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
            case AnswerFunction(call_id, output):
                return {
                    "type": "conversation.item.create",
                    "item": {"type": "function_call_output", "call_id": call_id, "output": output},
                }
            case _:
                assert_never(command)
