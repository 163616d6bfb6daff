"""Twilio's agent-connect SDK with its OpenAI Realtime provider, as in its own example.

The SDK dials api.openai.com only; that address is the one thing changed in it.
"""

from __future__ import annotations

import types
from typing import Any

import common
import websockets
from tac import TAC, TACConfig
from tac.channels.voice import VoiceChannel
from tac.channels.voice.media_streams.openai_realtime import OpenAIRealtimeProviderConfig, provider
from tac.server import TACFastAPIServer, TACServerConfig


def _connect(_url: str, **options: Any) -> websockets.connect:
    return websockets.connect(common.MODEL_URL, **options)


provider.websockets = types.SimpleNamespace(connect=_connect, ConnectionClosed=websockets.ConnectionClosed)
provider.track_event = lambda *_, **__: None  # otherwise it reports each call to Twilio

PCMU = {"type": "audio/pcmu"}
tac = TAC(
    config=TACConfig(
        account_sid="AC" + 32 * "0",
        auth_token="token",
        api_key="SK" + 32 * "0",
        api_secret="secret",
        phone_number="+15005550001",
        voice_public_domain=f"127.0.0.1:{common.PORT}",
        voice_websocket_path="/media",
        log_level="ERROR",
    )
)
channel = VoiceChannel(
    tac,
    config=OpenAIRealtimeProviderConfig(
        welcome_greeting_response={"instructions": common.GREETING},
        default_session_config={
            "type": "realtime",
            "model": "gpt-realtime-2.1",
            "output_modalities": ["audio"],
            "instructions": common.INSTRUCTIONS,
            "audio": {
                "input": {"format": PCMU, "turn_detection": common.TURN_DETECTION},
                "output": {"format": PCMU, "voice": "marin"},
            },
        },
    ),
)
app = common.new_app()
server = TACFastAPIServer(
    tac=tac,
    voice_channel=channel,
    app=app,
    config=TACServerConfig(host="127.0.0.1", port=common.PORT, twiml_path="/twiml"),
)
common.serve(app)
