"""The TwiML that connects a call to the media socket, and the URLs in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from twilio.twiml.voice_response import Connect, VoiceResponse

MEDIA_PATH: Final = "/twilio/media"
VOICE_PATH: Final = "/twilio/voice"


# The path of the media sockets of any cell; Twilio may sign the URL with a trailing slash, and request it so.
_MEDIA: Final = re.compile(rf"{MEDIA_PATH}(?:/[a-z0-9-]{{1,32}})?/?", re.ASCII)


def media_path(cell: str) -> str:
    """Where the media sockets of `cell` go; "": of a cell alone."""
    return f"{MEDIA_PATH}/{cell}" if cell else MEDIA_PATH


def media_paths(path: str, cell: str) -> bool:
    """Whether a media socket may ask `cell` for this path.

    A cell of a fleet also takes the sockets of another cell that died after its webhook.
    """
    return _MEDIA.fullmatch(path) is not None if cell else path in (MEDIA_PATH, MEDIA_PATH + "/")


def media_url(origin: str, cell: str = "") -> str:
    """`wss://` for an `https://` origin. Twilio accepts no other scheme and no query string (error 31920)."""
    return "ws" + origin.removeprefix("http") + media_path(cell)


def resume_url(origin: str, worker: int | None, cell: str = "", *, after_order: bool = False) -> str:
    """The voice webhook for a call that returns to its conversation at `worker` (None: unknown) of `cell`.

    `after_order`: the call returns because its order was carried out (a dialled leg has ended).
    """
    query: dict[str, int | str] = {"resume": 1}
    if cell:
        query["cell"] = cell
    if worker is not None:
        query["worker"] = worker
    if after_order:
        query["after"] = "order"
    return f"{origin}{VOICE_PATH}?{urlencode(query)}"


def connect(origin: str, parameters: Mapping[str, str], worker: int | None, cell: str = "") -> str:
    """Connect the call to the media socket; afterwards, return to the webhook with the conversation's worker.

    Twilio runs the verbs after `</Connect>` when the socket did not open, was lost, or was closed by us. The
    `<Redirect>` therefore lets a call outlive its gateway.
    """
    response = VoiceResponse()
    stream = Connect()
    media = stream.stream(url=media_url(origin, cell))
    for name, value in parameters.items():
        media.parameter(name=name, value=value)
    response.append(stream)
    response.redirect(resume_url(origin, worker, cell), method="POST")
    return str(response)
