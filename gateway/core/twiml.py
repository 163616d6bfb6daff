"""The TwiML that connects a call to the media socket, and the URLs in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from twilio.twiml.voice_response import Connect, VoiceResponse

MEDIA_PATH: Final = "/twilio/media"
VOICE_PATH: Final = "/twilio/voice"


def media_url(origin: str) -> str:
    """`wss://` for an `https://` origin. Twilio accepts no other scheme and no query string (error 31920)."""
    return "ws" + origin.removeprefix("http") + MEDIA_PATH


def resume_url(origin: str, worker: int | None, *, after_order: bool = False) -> str:
    """The voice webhook for a call that returns to its conversation at `worker` (None: unknown).

    `after_order`: the call returns because its order was carried out (a dialled leg has ended).
    """
    query = {"resume": 1} | ({} if worker is None else {"worker": worker}) | ({"after": "order"} if after_order else {})
    return f"{origin}{VOICE_PATH}?{urlencode(query)}"


def connect(origin: str, parameters: Mapping[str, str], worker: int | None) -> str:
    """Connect the call to the media socket; afterwards, return to the webhook with the conversation's worker.

    Twilio runs the verbs after `</Connect>` when the socket did not open, was lost, or was closed by us. The
    `<Redirect>` therefore lets a call outlive its gateway.
    """
    response = VoiceResponse()
    stream = Connect()
    media = stream.stream(url=media_url(origin))
    for name, value in parameters.items():
        media.parameter(name=name, value=value)
    response.append(stream)
    response.redirect(resume_url(origin, worker), method="POST")
    return str(response)
