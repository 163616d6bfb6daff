"""Pipecat with its Twilio serializer and its OpenAI Realtime service, as in its telephony examples.

The service speaks 24 kHz PCM only, so Pipecat resamples both ways; the rest of the pipeline runs at Twilio's 8 kHz.
"""

from __future__ import annotations

import common
from fastapi import WebSocket
from loguru import logger
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.realtime.events import AudioConfiguration, AudioInput, SessionProperties, TurnDetection
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

logger.remove()
app = common.new_app()


@app.websocket("/media")
async def media(twilio: WebSocket) -> None:
    await twilio.accept()
    _, data = await parse_telephony_websocket(twilio)
    serializer = TwilioFrameSerializer(data["stream_id"], params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
    transport = FastAPIWebsocketTransport(
        websocket=twilio,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
        ),
    )
    properties = SessionProperties(
        instructions=common.INSTRUCTIONS,
        audio=AudioConfiguration(input=AudioInput(turn_detection=TurnDetection(type="server_vad"))),
    )
    model = OpenAIRealtimeLLMService(
        api_key=common.API_KEY,
        base_url=common.MODEL_URL.partition("?")[0],
        settings=OpenAIRealtimeLLMService.Settings(model="gpt-realtime-2.1", session_properties=properties),
    )
    aggregators = LLMContextAggregatorPair(LLMContext([{"role": "developer", "content": common.GREETING}]))
    pipeline = Pipeline([transport.input(), aggregators.user(), model, transport.output(), aggregators.assistant()])
    task = PipelineTask(pipeline, params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000))

    @transport.event_handler("on_client_connected")
    async def on_client_connected(_transport, _client) -> None:
        await task.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport, _client) -> None:
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)


common.serve(app)
