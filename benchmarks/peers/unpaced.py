"""A bridge without pacing, as in Twilio's own samples: it forwards every delta at once.

It handles an interruption as the samples do: it clears Twilio's buffer, and truncates the item at the media timestamps
that have passed since the item's first delta.
"""

from __future__ import annotations

import asyncio
import json

import common
import websockets
from fastapi import WebSocket, WebSocketDisconnect

app = common.new_app()


class Call:
    def __init__(self, twilio: WebSocket, model: websockets.ClientConnection) -> None:
        self._twilio = twilio
        self._model = model
        self._stream_sid = ""
        self._latest_ms = 0
        self._item_id = ""
        self._item_began_ms = 0
        self._marks: list[str] = []

    async def from_twilio(self) -> None:
        try:
            async for text in self._twilio.iter_text():
                message = json.loads(text)
                if message["event"] == "media":
                    self._latest_ms = int(message["media"]["timestamp"])
                    await self._send({"type": "input_audio_buffer.append", "audio": message["media"]["payload"]})
                elif message["event"] == "start":
                    self._stream_sid = message["start"]["streamSid"]
                    await self._send({"type": "response.create", "response": {"instructions": common.GREETING}})
                elif message["event"] == "mark" and self._marks:
                    self._marks.pop(0)
        except WebSocketDisconnect:
            pass
        await self._model.close()

    async def from_model(self) -> None:
        async for text in self._model:
            event = json.loads(text)
            if event["type"] == "response.output_audio.delta":
                await self._twilio.send_json(
                    {"event": "media", "streamSid": self._stream_sid, "media": {"payload": event["delta"]}}
                )
                if event["item_id"] != self._item_id:
                    self._item_id, self._item_began_ms = event["item_id"], self._latest_ms
                await self._twilio.send_json({"event": "mark", "streamSid": self._stream_sid, "mark": {"name": "part"}})
                self._marks.append("part")
            elif event["type"] == "input_audio_buffer.speech_started" and self._marks and self._item_id:
                elapsed_ms = self._latest_ms - self._item_began_ms
                item = {"item_id": self._item_id, "content_index": 0, "audio_end_ms": elapsed_ms}
                await self._send({"type": "conversation.item.truncate", **item})
                await self._twilio.send_json({"event": "clear", "streamSid": self._stream_sid})
                self._marks.clear()
                self._item_id = ""

    async def _send(self, event: dict) -> None:
        await self._model.send(json.dumps(event))


@app.websocket("/media")
async def media(twilio: WebSocket) -> None:
    await twilio.accept()
    headers = {"Authorization": f"Bearer {common.API_KEY}"}
    async with websockets.connect(common.MODEL_URL, additional_headers=headers) as model:
        pcmu = {"type": "audio/pcmu"}
        session = {
            "type": "realtime",
            "instructions": common.INSTRUCTIONS,
            "output_modalities": ["audio"],
            "audio": {
                "input": {"format": pcmu, "turn_detection": common.TURN_DETECTION},
                "output": {"format": pcmu, "voice": "marin"},
            },
        }
        await model.send(json.dumps({"type": "session.update", "session": session}))
        call = Call(twilio, model)
        await asyncio.gather(call.from_twilio(), call.from_model(), return_exceptions=True)


common.serve(app)
