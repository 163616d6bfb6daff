"""A Realtime session without a model: OpenAI's GA protocol as a pure function of the client's events and the time.

`open`, `receive` and `advance` answer with the JSON texts to send; whatever comes later by itself (audio, transcripts,
time-outs) waits for `advance`, which is due at `next_due_ns`. Times are integer nanoseconds of the monotonic clock.
The same session runs in virtual time under a test, and on a socket in `server.py`.

True to the protocol as the openai SDK 3.54 types it (`openai/types/realtime`) and as its users have met it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..voice import Voice
from . import events as client
from . import script
from .behaviour import Behaviour
from .config import RefusedError, ResponseRequest, initial_session, updated_session
from .items import Conversation, Item
from .record import Outbox, Record
from .response import MS_NS, Part, Response, Stage
from .turns import CallerAudio

__all__ = ["ABNORMAL", "Behaviour", "ModelSession"]

# "No close frame was received" (RFC 6455, 7.1.5): as `close_code`, it asks for the socket to be cut without one.
ABNORMAL: Final = (1006, "")
_SECONDS_OF_SESSION: Final = 3_600


class ModelSession:
    """One WebSocket session, from `open` until `close_code` is set or `closed` is called."""

    def __init__(
        self,
        session_id: str,
        *,
        behaviour: Behaviour,
        voice: Voice,
        seed: int,
        request_id: str = "",
        model: str = "gpt-realtime-2.1",
        unix_s: int = 0,
        keeps_input: bool = False,
    ) -> None:
        """`unix_s` is the date from which `session.expires_at` counts; `seed` fixes every random choice.

        `keeps_input`: the record holds all audio that the client appended (8 kB a second of mu-law).
        """
        self.close_code: tuple[int, str] | None = None  # set when the server wants to close; see ABNORMAL
        self._behaviour = behaviour
        self._voice = voice
        self._random = random.Random(seed)
        self._name = session_id.removeprefix("sess_")
        self._ids = 0
        self._session = initial_session(session_id, model, unix_s + _SECONDS_OF_SESSION)
        self._record = Record(session_id, request_id, keeps_input=keeps_input)
        self._outbox = Outbox(self._record, self._name)
        self._conversation = Conversation()
        self._stage = Stage(self._outbox, self._record, self._conversation, self._new_id, self._drop_socket)
        self._turns = 0  # responses created so far
        self._has_spoken = False
        self._active: dict[str, Response] = {}
        # The client cut what the model said, and no response was made since.
        self._interrupted = False
        self._last_heard = b""  # the caller's last utterance
        self._caller = CallerAudio(self._session, detection_ms=behaviour.detection_ms)
        self._speech_item_id = ""
        self._idle_watch = 0  # rises when a wait for the caller ends; an idle timer with a lower number is void
        # (due_ns, tie breaker, what to do)
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._timer_count = 0

    # --- driving it -----------------------------------------------------------------------------------------------

    def open(self, now_ns: int) -> list[str]:
        """The socket is up."""
        behaviour = self._behaviour
        self._outbox.now_ns = self._record.opened_ns = now_ns
        self._outbox.send("session.created", session=self._session)
        self._at(behaviour.expire_after_ms, self._expire)
        if behaviour.fatal_error:
            self._at(behaviour.fatal_error_at_ms, self._fail)
        if behaviour.drop_session_at_ms is not None:
            self._at(behaviour.drop_session_at_ms, self._drop_socket)
        if behaviour.recoverable_error_every_ms:
            self._at(behaviour.recoverable_error_every_ms, self._hiccup)
        return self.advance(now_ns)

    def receive(self, text: str | bytes, now_ns: int) -> list[str]:
        """The client sent one event."""
        if self.close_code:
            return []
        self._outbox.now_ns = now_ns
        try:
            event = client.decode(text)
            if type(event) is client.Append:
                if not self._append(event.audio):
                    return []  # 50 times a second; the timers have their own wake-up
            else:
                self._record.received(client.type_of(event), event, now_ns)
                self._handle(event)
        except RefusedError as exc:
            event_id = client.event_id_of(text)
            self._outbox.error("invalid_request_error", exc.code, exc.message, exc.param, event_id)
        return self.advance(now_ns)

    def advance(self, now_ns: int) -> list[str]:
        """Do what is due by now."""
        self._outbox.now_ns = now_ns
        timers = self._timers
        while timers and timers[0][0] <= now_ns and not self.close_code:
            due_ns, _, do = heapq.heappop(timers)
            self._record.late(due_ns, now_ns)
            do()
        return self._outbox.take()

    def next_due_ns(self) -> int | None:
        return self._timers[0][0] if self._timers and not self.close_code else None

    def closed(self, now_ns: int, code: int | None = None) -> None:
        """The socket is closed, by either side."""
        self._record.closed(now_ns, self.close_code[0] if self.close_code else code)
        self.close_code = self.close_code or (code or ABNORMAL[0], "")
        self._timers.clear()
        self._active.clear()

    def record(self) -> dict[str, Any]:
        """What happened in this session; see record.py."""
        return self._record.as_dict()

    # --- time -----------------------------------------------------------------------------------------------------

    def _at(self, after_ms: float, do: Callable[[], None]) -> None:
        self._at_ns(self._outbox.now_ns + int(after_ms * MS_NS), do)

    def _at_ns(self, due_ns: int, do: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (due_ns, self._timer_count, do))

    def _close(self, code: int, reason: str) -> None:
        self.close_code = (code, reason)
        self._record.closed(self._outbox.now_ns, code)

    def _drop_socket(self) -> None:
        self._close(*ABNORMAL)

    def _expire(self) -> None:
        minutes = round(self._behaviour.expire_after_ms / 60_000)
        message = f"Your session hit the maximum duration of {minutes} minutes."
        self._outbox.error("invalid_request_error", "session_expired", message, None, None)
        self._close(1001, message)

    def _fail(self) -> None:
        code = self._behaviour.fatal_error
        self._outbox.error("invalid_request_error", code, f"The session cannot go on: {code}.", None, None)
        self._close(3000, f"invalid_request_error.{code}")

    def _hiccup(self) -> None:
        message = "The server had an error while processing your request. Sorry about that!"
        self._outbox.error("server_error", "server_error", message, None, None)
        self._at(self._behaviour.recoverable_error_every_ms, self._hiccup)

    def _new_id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}_{self._name}{self._ids:05d}"

    # --- the client's events --------------------------------------------------------------------------------------

    def _handle(self, event: client.Event) -> None:
        outbox = self._outbox
        match event:
            case client.SessionUpdateEvent():
                self._session = updated_session(self._session, event.session, has_spoken=self._has_spoken)
                self._caller.configure(self._session)
                self._record.instructions = self._session["instructions"]
                self._record.voice = self._session["audio"]["output"]["voice"]
                outbox.send("session.updated", session=self._session)
            case client.Commit():
                self._commit(self._new_id("item"), self._caller.commit())
            case client.Clear():
                self._caller.clear()
                outbox.send("input_audio_buffer.cleared")
            case client.ItemCreate():
                item = client.item_of(event.item, self._new_id)
                previous = self._conversation.add(item, event.previous_item_id)
                self._record.told.append(item)
                self._announce(item, previous)
            case client.ItemDelete():
                self._interrupted |= self._conversation.delete(event.item_id).speech is not None
                outbox.send("conversation.item.deleted", item_id=event.item_id)
            case client.ItemRetrieve():
                outbox.send("conversation.item.retrieved", item=self._conversation.retrieve(event.item_id).as_json())
            case client.ItemTruncate():
                self._truncate(event)
            case client.ResponseCreate():
                self._respond(event.response)
            case client.ResponseCancel():
                self._cancel(event.response_id)
            case client.OutputClear():
                raise RefusedError("invalid_value", "output_audio_buffer.clear is for WebRTC and SIP alone.", "type")

    def _truncate(self, event: client.ItemTruncate) -> None:
        end_ms, complaint = self._conversation.truncate(event.item_id, event.content_index, event.audio_end_ms)
        self._interrupted = True
        if complaint:
            self._outbox.error("invalid_request_error", "invalid_value", complaint, None, None)
        self._outbox.send("conversation.item.truncated", item_id=event.item_id, content_index=0, audio_end_ms=end_ms)

    def _cancel(self, response_id: str | None) -> None:
        response = self._active.get(response_id) if response_id else self._default_response()
        if response is None:
            raise RefusedError("response_cancel_not_active", "Cancellation failed: no active response found")
        self._interrupted = True
        response.cancel("client_cancelled")
        self._settle(response)

    # --- the caller -----------------------------------------------------------------------------------------------

    def _append(self, audio: bytes) -> bool:
        """Take the caller's audio. Returns whether speech began or ended in it."""
        self._record.appended(audio, self._outbox.now_ns)
        edges = self._caller.append(audio)
        for edge in edges:
            if edge.kind == "started":
                self._speech_started(edge.at_ms)
            else:
                self._speech_stopped(edge.at_ms)
        return bool(edges)

    def _speech_started(self, start_ms: int) -> None:
        self._idle_watch += 1
        self._speech_item_id = item_id = self._new_id("item")
        self._record.speech.append({"started_ns": self._outbox.now_ns, "stopped_ns": None, "item_id": item_id})
        self._outbox.send("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=item_id)
        response = self._default_response()
        if response and self._turn_detection["interrupt_response"]:
            response.cancel("turn_detected")
            self._settle(response)

    def _speech_stopped(self, end_ms: int) -> None:
        item_id = self._speech_item_id
        self._record.speech[-1]["stopped_ns"] = self._outbox.now_ns
        self._outbox.send("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item_id)
        self._commit(item_id, self._caller.commit())
        if self._turn_detection["create_response"]:
            self._respond_by_itself()

    def _commit(self, item_id: str, audio: bytes) -> None:
        """Make the caller's `audio` an item of the conversation."""
        self._last_heard = audio
        content: dict[str, Any] = {"type": "input_audio", "transcript": None}
        item = Item(item_id, "message", "user", content=[content], caller_ms=len(audio) // self._caller.bytes_per_ms)
        previous = self._conversation.add(item)
        self._outbox.send("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        self._announce(item, previous)
        if self._session["audio"]["input"]["transcription"] and self._behaviour.transcription != "never":
            self._at(self._behaviour.transcription_ms, lambda: self._transcribe(item, audio))

    def _transcribe(self, item: Item, audio: bytes) -> None:
        kind = "conversation.item.input_audio_transcription"
        if self._behaviour.transcription == "fail":
            message = "Input transcription failed for item."
            error = {"type": "server_error", "code": "server_error", "message": message, "param": None}
            self._outbox.send(f"{kind}.failed", item_id=item.id, content_index=0, error=error)
            return
        text = self._voice.transcribe(audio)
        item.content[0]["transcript"] = text
        self._outbox.send(f"{kind}.delta", item_id=item.id, content_index=0, delta=text)
        duration = {"type": "duration", "seconds": item.caller_ms / 1_000}
        self._outbox.send(f"{kind}.completed", item_id=item.id, content_index=0, transcript=text, usage=duration)

    def _announce(self, item: Item, previous: str | None) -> None:
        self._outbox.send("conversation.item.added", item=item.as_json(), previous_item_id=previous)
        self._outbox.send("conversation.item.done", item=item.as_json(), previous_item_id=previous)

    @property
    def _turn_detection(self) -> dict[str, Any]:
        detection: dict[str, Any] = self._session["audio"]["input"]["turn_detection"]
        return detection

    # --- responses ------------------------------------------------------------------------------------------------

    def _default_response(self) -> Response | None:
        """The active response that writes to the conversation; there is one at most."""
        return next((response for response in self._active.values() if response.in_conversation), None)

    def _respond_by_itself(self) -> None:
        """Answer the caller unasked. While a response is active this fails with the error that a client would get."""
        try:
            self._respond(ResponseRequest())
        except RefusedError as exc:
            self._outbox.error("invalid_request_error", exc.code, exc.message, exc.param, None)

    def _respond(self, request: ResponseRequest) -> None:
        active = self._default_response()
        if active and request.conversation != "none":
            raise RefusedError(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        self._idle_watch += 1
        asked = {name: value for name, value in msgspec.to_builtins(request).items() if value is not None}
        audio = {"output": self._session["audio"]["output"] | asked.get("audio", {}).get("output", {})}
        settings = self._session | {"metadata": None} | asked | {"audio": audio}
        behaviour = self._behaviour.for_response(self._turns)
        parts = self._parts(behaviour, settings, request.instructions or "")
        seed, now_ns = self._random.getrandbits(32), self._outbox.now_ns
        response = Response(self._stage, behaviour, parts, settings, seed=seed, now_ns=now_ns)
        self._turns += 1
        self._active[response.id] = response
        self._step(response)

    def _parts(self, behaviour: Behaviour, settings: dict[str, Any], instructions: str) -> list[Part]:
        """What the response will consist of. A session that got a history replayed does not greet again."""
        voice, turn = self._voice, self._turns
        tools = settings["tools"] if settings["tool_choice"] != "none" else []
        if behaviour.script:
            return self._scripted(tools, settings, instructions)
        if turn == 0 and any(item.role == "assistant" for item in self._conversation):
            turn = 1
        parts = []
        if behaviour.preamble:
            parts.append(Part(speech=voice.preamble(seed=self._random.getrandbits(32)), phase="commentary"))
        declared = {tool.get("name") for tool in tools} | {
            f"{tool['server_label']}.{name}"
            for tool in tools
            if tool["type"] == "mcp"
            for name in tool.get("allowed_tools") or ()
        }
        last = self._conversation.last
        calls = [name for name in behaviour.tool_call.split() if name in declared]
        if calls and not (last and last.type in ("function_call_output", "mcp_call")):
            return [*parts, *(Part(call=(name, behaviour.tool_arguments)) for name in calls)]
        if behaviour.no_audio == "empty":
            return parts
        seed = self._random.getrandbits(32)
        speech = voice.answer(
            turn,
            seed=seed,
            instructions=instructions,
            name=behaviour.clip,
            length_ms=behaviour.answer_ms,
            times=behaviour.flood_times,
        )
        if behaviour.parrot and self._last_heard:
            speech = voice.parrot(self._last_heard, seed=seed)
        if behaviour.no_audio == "text" or settings["output_modalities"] == ["text"]:
            return [*parts, Part(text=speech.text)]
        self._has_spoken = True
        return [*parts, Part(speech=speech)]

    def _scripted(self, tools: list[dict[str, Any]], settings: dict[str, Any], instructions: str) -> list[Part]:
        interrupted, self._interrupted = self._interrupted, False
        parts = script.parts(
            self._conversation,
            tools,
            instructions,
            interrupted=interrupted,
            draw_seed=lambda: self._random.getrandbits(32),
        )
        if settings["output_modalities"] == ["text"]:
            return [Part(text=part.speech.text) if part.speech else part for part in parts]
        self._has_spoken |= any(part.speech for part in parts)
        return parts

    def _step(self, response: Response) -> None:
        if response.over:
            return
        due_ns = next(response.steps, None)
        if due_ns is not None:
            self._at_ns(due_ns, lambda: self._step(response))
        self._settle(response)

    def _settle(self, response: Response) -> None:
        """Forget a response that is over, and wait for the caller."""
        if not response.over or self._active.pop(response.id, None) is None:
            return
        detection = self._session["audio"]["input"]["turn_detection"]
        if response.in_conversation and detection and detection.get("idle_timeout_ms"):
            # "the response.done time plus audio playback duration" (openai/types/realtime, ServerVad)
            self._idle_watch += 1
            watch = self._idle_watch
            self._at(response.spoken_ms + detection["idle_timeout_ms"], lambda: self._idle(watch))

    def _idle(self, watch: int) -> None:
        if watch != self._idle_watch or self._active:
            return
        item_id = self._new_id("item")
        start_ms, end_ms = self._caller.pending_ms()
        self._outbox.send(
            "input_audio_buffer.timeout_triggered", audio_start_ms=start_ms, audio_end_ms=end_ms, item_id=item_id
        )
        self._commit(item_id, self._caller.commit(at_least_ms=0))
        self._respond_by_itself()
