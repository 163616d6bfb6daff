"""What somebody who listens to a call is given: copies of both sides' audio, in records.

A record is one byte for the side, two for the length of the audio (big-endian), and mu-law audio. Records travel from
gateway to callbook in ZeroMQ messages that begin with the call's topic, and on to the page as they are
(callbook/pages/static/listen.js).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CALLER: Final = 0
AI: Final = 1
# The carrier's buffer was flushed: what the AI said and the caller has not heard yet is gone. No audio.
FLUSHED: Final = 2
# Ends the topic, so that one CallSid is never the beginning of another's topic.
_END: Final = b" "
AUDIO_MAX: Final = 0xFFFF


def topic(call_sid: str) -> bytes:
    return call_sid.encode() + _END


def pack(call_topic: bytes, parts: Iterable[tuple[int, bytes]]) -> bytes:
    """One message with these parts. Audio beyond AUDIO_MAX bytes a part is left out."""
    records = [call_topic]
    for side, audio in parts:
        audio = audio[:AUDIO_MAX]
        records += (bytes((side,)), len(audio).to_bytes(2, "big"), audio)
    return b"".join(records)


def unpack(message: bytes) -> tuple[bytes, bytes]:
    """The topic of a message, and its records."""
    call_sid, end, records = message.partition(_END)
    return call_sid + end, records
