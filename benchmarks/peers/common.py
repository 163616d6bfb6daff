"""The common part of the peers' apps. It runs in a peer's own environment, so it imports nothing of the project.

Settings come from the environment: HOST, PORT, MODEL_URL (`ws://host:port/v1/realtime?model=...`) and OPENAI_API_KEY.
"""

from __future__ import annotations

import os

import uvicorn
from fastapi import FastAPI, Response

HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ["PORT"])
MODEL_URL = os.environ["MODEL_URL"]
API_KEY = os.environ["OPENAI_API_KEY"]
INSTRUCTIONS = "You are a friendly assistant on the phone. Answer briefly."
GREETING = "Greet the caller."
TURN_DETECTION = {"type": "server_vad", "create_response": True, "interrupt_response": True}


def new_app() -> FastAPI:
    """An app with the voice webhook; the caller adds the media socket, `/media`."""
    app = FastAPI()

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response("ok")

    @app.post("/twilio/voice")
    async def voice() -> Response:
        stream = f'<Connect><Stream url="ws://127.0.0.1:{PORT}/media"/></Connect>'
        return Response(f"<Response>{stream}</Response>", media_type="text/xml")

    return app


def serve(app: FastAPI) -> None:
    """Run uvicorn as `uvicorn[standard]` does: with uvloop and httptools where they are installed."""
    uvicorn.run(app, host=HOST, port=PORT, log_level="warning", access_log=False)
