"""OpenAI's Agents SDK, its realtime session between Twilio and the model, as in its own Twilio example.

As in the example: caller audio goes in pieces of 50 ms (here 60 ms, whole frames), answers go on as they come, a mark
follows each for the SDK's playback tracker, and `clear` is sent when the SDK reports an interruption.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode

import common
from agents.realtime import RealtimeAgent, RealtimePlaybackTracker, RealtimeRunner, RealtimeSession
from agents.realtime.model_inputs import RealtimeModelSendRawMessage
from fastapi import WebSocket, WebSocketDisconnect

app = common.new_app()
agent = RealtimeAgent(name="Phone", instructions=common.INSTRUCTIONS)
# 50 ms of mu-law.
PIECE_BYTES = 400


class Call:
    def __init__(self, twilio: WebSocket, session: RealtimeSession, tracker: RealtimePlaybackTracker) -> None:
        self._twilio = twilio
        self._session = session
        self._tracker = tracker
        self._stream_sid = ""
        self._heard = bytearray()
        self._marks: dict[str, tuple[str, int, int]] = {}
        self._mark = 0
        self._started = asyncio.Event()

    async def from_twilio(self) -> None:
        try:
            async for text in self._twilio.iter_text():
                message = json.loads(text)
                if message["event"] == "media":
                    self._heard += b64decode(message["media"]["payload"])
                    if len(self._heard) >= PIECE_BYTES:
                        await self._session.send_audio(bytes(self._heard))
                        self._heard.clear()
                elif message["event"] == "start":
                    self._stream_sid = message["start"]["streamSid"]
                    self._started.set()
                    create = {"type": "response.create", "other_data": {"response": {"instructions": common.GREETING}}}
                    await self._session.model.send_event(RealtimeModelSendRawMessage(message=create))
                elif message["event"] == "mark":
                    item = self._marks.pop(message["mark"]["name"], None)
                    if item is not None:
                        self._tracker.on_play_bytes(item[0], item[1], bytes(item[2]))
        except WebSocketDisconnect:
            pass
        await self._session.close()

    async def from_model(self) -> None:
        async for event in self._session:
            if event.type == "audio":
                await self._say(media={"payload": b64encode(event.audio.data).decode()})
                self._mark += 1
                size = len(event.audio.data)
                self._marks[str(self._mark)] = (event.audio.item_id, event.audio.content_index, size)
                await self._say(mark={"name": str(self._mark)})
            elif event.type == "audio_interrupted":
                await self._say(clear=None)

    async def _say(self, **what: object) -> None:
        ((event, content),) = what.items()
        message = {"event": event, "streamSid": self._stream_sid}
        await self._twilio.send_text(json.dumps(message | ({event: content} if content else {})))


@app.websocket("/media")
async def media(twilio: WebSocket) -> None:
    tracker = RealtimePlaybackTracker()
    session = await RealtimeRunner(agent).run(
        model_config={
            "api_key": common.API_KEY,
            "url": common.MODEL_URL,
            "initial_model_settings": {
                "input_audio_format": "g711_ulaw",
                "output_audio_format": "g711_ulaw",
                "turn_detection": common.TURN_DETECTION,
            },
            "playback_tracker": tracker,
        }
    )
    async with session:
        await twilio.accept()
        call = Call(twilio, session, tracker)
        await asyncio.gather(call.from_twilio(), call.from_model(), return_exceptions=True)


common.serve(app)
