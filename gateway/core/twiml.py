"""The TwiML that the voice webhook answers with."""

from __future__ import annotations

from twilio.twiml.voice_response import Connect, VoiceResponse

MEDIA_PATH = "/twilio/media"
VOICE_PATH = "/twilio/voice"


def media_url(origin: str) -> str:
    """`wss://` for an `https://` origin. Twilio takes no other scheme, and no query string (error 31920)."""
    return "ws" + origin.removeprefix("http") + MEDIA_PATH


def connect(origin: str, token: str, worker: int) -> str:
    """Connect the call to the media socket; when that ends, come back here and name the worker with the conversation.

    Twilio runs what stands behind `</Connect>` when the socket could not be opened, was lost, or was closed by us: the
    `<Redirect>` is what lets a call outlive its gateway.
    """
    response = VoiceResponse()
    stream = Connect()
    stream.stream(url=media_url(origin)).parameter(name="token", value=token)
    response.append(stream)
    response.redirect(f"{origin}{VOICE_PATH}?resume=1&worker={worker}", method="POST")
    return str(response)


def fallback(say: str, dial: str) -> str:
    """What a caller gets whom we cannot take: another number, words, or neither."""
    response = VoiceResponse()
    if say:
        response.say(say)
    if dial:
        response.dial(dial)
    elif say:
        response.hangup()
    else:
        response.reject()
    return str(response)


def hang_up() -> str:
    response = VoiceResponse()
    response.hangup()
    return str(response)
