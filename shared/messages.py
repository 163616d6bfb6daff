"""Every message between the processes of a cell, one class each, except the facts for callbook (shared/facts.py).

On the wire a ZeroMQ message is one MessagePack array `[VERSION, message, message, ...]`, so that a sender can put all
it has for a tick into one send. A message is itself an array: its tag, then its fields in the order written here.

`call` is an integer that the gateway draws for each media socket; no two in a cell are equal. `utterance` counts the
audio items of a call from 1; aibridge keeps the map to `(response_id, item_id, content_index)`. Times are nanoseconds
of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from .plan import CallOrder, CallPlan

# Raised when a field changes its place or meaning; a receiver drops and counts what has another.
VERSION: Final = 2


class UndecodableError(ValueError):
    """Bytes that are no message of this version. The receiver counts it and goes on."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of all messages."""


class Header(Message, frozen=True, array_like=True, tag=1):
    """Sent by each end of a channel (shared/channel.py) as the first message of a batch.

    The next `count` messages are numbered from `first`. What follows them is not numbered: it may be lost.
    """

    epoch: int  # of the sender, drawn at its start
    to: int  # the epoch of the receiver that this is meant for; 0: any
    oldest: int  # no message before this number comes any more
    first: int
    count: int
    through: int  # the receiver's messages up to this number were handled
    again: bool  # those after it did not arrive


# --- gateway and aibridge -------------------------------------------------------------------------------------------


class GatewayHello(Message, frozen=True, array_like=True, tag=10):
    """Sent by gateway to each aibridge worker and to txpacer ten times a second."""

    gateway: str
    draining: bool = False


class CallOffered(Message, frozen=True, array_like=True, tag=11):
    """Sent by gateway to aibridge when the voice webhook was answered: dial the model ahead of the media socket."""

    token_id: str  # the public part of the stream token; CallStarted repeats it
    call_sid: str
    plan: CallPlan
    resumed: bool  # Twilio returned through the <Redirect> after </Connect>


class CallStarted(Message, frozen=True, array_like=True, tag=12):
    """Sent by gateway to aibridge when a media socket's `start` passed every check."""

    call: int
    gateway: str  # whose socket the frames go to
    token_id: str
    call_sid: str
    stream_sid: str
    started_ns: int  # when `start` was read
    plan: CallPlan
    # How often the call was handed to another worker, or again to its worker after a restart; and the last CallMemory
    # of the worker before.
    handover: int = 0
    memory: bytes = b""


class CallerAudio(Message, frozen=True, array_like=True, tag=13):
    """Sent by gateway to aibridge when caller audio arrived: raw mu-law, any length, in order."""

    call: int
    data: bytes


class CallerDtmf(Message, frozen=True, array_like=True, tag=14):
    """Sent by gateway to aibridge when the caller pressed a key."""

    call: int
    digit: str


class MarkHeard(Message, frozen=True, array_like=True, tag=15):
    """Sent by gateway to aibridge when Twilio echoed the mark of an utterance."""

    call: int
    generation: int  # count of `clear`s before the mark was sent; Twilio echoes marks that a clear threw away, too
    utterance: int
    at_ns: int


class FirstFrameSent(Message, frozen=True, array_like=True, tag=16):
    """Sent by gateway to aibridge when the call's first frame was written to Twilio's socket. Slow work may start."""

    call: int
    at_ns: int


class CallEnded(Message, frozen=True, array_like=True, tag=17):
    """Sent by gateway to aibridge when a call's media socket is gone."""

    call: int
    reason: str  # "stop": Twilio sent a stop; "lost": the socket closed without one; "hung-up": the gateway closed it


class FollowCall(Message, frozen=True, array_like=True, tag=18):
    """Sent by gateway to aibridge when a browser phone follows a call: send its notes."""

    call: int


class LineLost(Message, frozen=True, array_like=True, tag=19):
    """Sent by gateway to aibridge when another txpacer answers than before: how far the call's frames are."""

    call: int
    epoch: int  # of the txpacer that answers now
    # Frames of each of the last utterances whose mark came, oldest first: `(utterance, frames)`.
    marks: tuple[tuple[int, int], ...]
    frames: int  # of the utterance after those, so far
    seq: int  # of the next frame
    wire_ns: int  # when the last frame was written; 0: never


class WorkerState(Message, frozen=True, array_like=True, tag=20):
    """Sent by aibridge to gateway as the answer to GatewayHello and at every change of `ready`."""

    worker: int
    ready: bool  # the model accepted our key and model name
    calls: int
    epoch: int = 0  # of its end of the channel; a new one means that it knows no call of this gateway any more
    others: int = 0  # other gateways with a recent hello that are not draining


class CallMemory(Message, frozen=True, array_like=True, tag=23):
    """Sent by aibridge to gateway when a conversation changed, at most once a second. The gateway only keeps it."""

    call: int
    memory: bytes


class CallAdopted(Message, frozen=True, array_like=True, tag=24):
    """Sent by aibridge to every gateway after a takeover: route the call to this worker if Twilio reconnects."""

    call_sid: str


class CallTaken(Message, frozen=True, array_like=True, tag=25):
    """Sent by aibridge to the other gateways when a call began at one: their offers of the call are used.

    Sent by gateway to a worker when the call that it dialled ahead for is at another worker.
    """

    call_sid: str


class CallOver(Message, frozen=True, array_like=True, tag=26):
    """Sent by aibridge to every gateway when an EndCall has ended a call: any of them may get Twilio's next request."""

    call_sid: str
    order: CallOrder  # EndCall's


class EndCall(Message, frozen=True, array_like=True, tag=21):
    """Sent by aibridge to gateway when the conversation is over: close the media socket, then carry out the order."""

    call: int
    order: CallOrder
    after_utterance: int  # first wait for this utterance's mark (bounded by a time-out); 0: at once


class RefuseCall(Message, frozen=True, array_like=True, tag=27):
    """Sent by aibridge to gateway when a media socket showed a token that was used at another gateway.

    The socket is not the call's: close it, and keep what is known of the call.
    """

    call: int


class CallNote(Message, frozen=True, array_like=True, tag=22):
    """Sent by aibridge to gateway when something happened in a call that a browser phone follows."""

    call: int
    note: bytes  # a JSON object; aibridge/follower.py lists them


# --- aibridge and txpacer -------------------------------------------------------------------------------------------


class BridgeHello(Message, frozen=True, array_like=True, tag=30):
    """Sent by aibridge to txpacer ten times a second."""

    bridge: str


class OpenLine(Message, frozen=True, array_like=True, tag=31):
    """Sent by aibridge to txpacer when a call started, and again to a restarted txpacer that has not answered."""

    call: int
    gateway: str
    handover: int = 0  # CallStarted's; txpacer drops a lower one than before: it is a stalled worker's
    ask: int = 0  # LineState repeats it


class Speech(Message, frozen=True, array_like=True, tag=32):
    """Sent by aibridge to txpacer when the model produced audio: mu-law of any length, in order."""

    call: int
    utterance: int
    data: bytes


class SpeechEnd(Message, frozen=True, array_like=True, tag=33):
    """Sent by aibridge to txpacer when no more audio of an utterance will come."""

    call: int
    utterance: int


class Withdraw(Message, frozen=True, array_like=True, tag=34):
    """Sent by aibridge to txpacer on a barge-in: pace nothing more of any utterance up to and including `through`."""

    call: int
    through: int
    clear: bool  # BARGE_IN=clear: also throw away what Twilio has buffered


class CloseLine(Message, frozen=True, array_like=True, tag=35):
    """Sent by aibridge, and by gateway too, to txpacer when the call is over."""

    call: int


class PauseLine(Message, frozen=True, array_like=True, tag=36):
    """Sent by aibridge to txpacer when the caller may be interrupting: pace nothing before ResumeLine or Withdraw."""

    call: int


class ResumeLine(Message, frozen=True, array_like=True, tag=37):
    """Sent by aibridge to txpacer on a false alarm: go on with the next frame."""

    call: int


class RestoreLine(Message, frozen=True, array_like=True, tag=38):
    """Sent by aibridge to txpacer for a call whose line, or media socket, is gone: go on where the ear stopped.

    A line that is there already goes on. The speech that the line lacks follows LineState.
    """

    call: int
    gateway: str
    epoch: int  # the txpacer that this is meant for; another one drops it
    seq: int  # of the next frame
    utterance: int  # 0: none is missing
    paced_bytes: int  # of it, already; whole frames
    ear_ns: int  # when the ear had played them; 0: not begun
    handover: int = 0  # as OpenLine's
    ask: int = 0  # LineState repeats it


class PacerState(Message, frozen=True, array_like=True, tag=40):
    """Sent by txpacer to gateway and aibridge as the answer to a hello."""

    epoch: int  # drawn at each start of txpacer; a new one means that all lines are gone
    lines: int


class LineState(Message, frozen=True, array_like=True, tag=45):
    """Sent by txpacer to aibridge as the answer to OpenLine and RestoreLine: what the line has been given.

    `unheard` holds `(utterance, bytes, paced bytes, ended, ear_ns)` of each that the ear has not finished, in order;
    `ear_ns` is when it began to play it, 0 if it has not.
    """

    call: int
    unheard: tuple[tuple[int, int, int, bool, int], ...]
    ask: int = 0  # of what this answers
    # After a handover, the speech of each that is not paced: the worker that sent it is gone.
    speech: tuple[bytes, ...] = ()


class PlayoutStarted(Message, frozen=True, array_like=True, tag=41):
    """Sent by txpacer to aibridge when the first frame of an utterance was paced."""

    call: int
    utterance: int
    ear_ns: int  # when the caller hears its first sample


class PlayoutShifted(Message, frozen=True, array_like=True, tag=42):
    """Sent by txpacer to aibridge when silence at the ear moved the rest of an utterance to later."""

    call: int
    utterance: int
    gap_ns: int
    audible: bool = True  # a gap; otherwise it was meant (a pause), or only the beginning is late
    continued: bool = False  # the silence of the last report is longer by this


class PlayoutFinished(Message, frozen=True, array_like=True, tag=43):
    """Sent by txpacer to aibridge when the ear has played the last sample of an ended utterance."""

    call: int
    utterance: int
    ear_ns: int


class Withdrawn(Message, frozen=True, array_like=True, tag=44):
    """Sent by txpacer to aibridge as the answer to Withdraw.

    `paced` holds `(utterance, bytes)` for each utterance up to `through` that the ear had not finished: the speech
    bytes of it that were paced, all of which will be heard; after a `clear`, those that were heard before it. An
    utterance that txpacer never saw is not in it.
    """

    call: int
    through: int
    paced: tuple[tuple[int, int], ...]
    silent_ns: int  # when the ear will have played the last of it


# --- txpacer and gateway --------------------------------------------------------------------------------------------


class Frames(Message, frozen=True, array_like=True, tag=50):
    """Sent by txpacer to gateway at each tick at which a line of that gateway is due.

    An entry is `(call, seq, audio, mark)`: one or more whole frames, the number of the first of them (a call's frames
    count from 0; a pause takes one number), and the utterance that ends after them (0: none; CLEAR: send Twilio
    `clear` instead, before anything that follows). `audio` may be empty when only a mark is due.
    """

    batch: int  # counts from 1 for each gateway; WireAck repeats it
    deadline_ns: int  # when the frames ought to leave the gateway's socket
    entries: tuple[tuple[int, int, bytes, int], ...]


# In the place of a mark: throw away what Twilio has buffered (BARGE_IN=clear only).
CLEAR: Final = -1


class WireAck(Message, frozen=True, array_like=True, tag=51):
    """Sent by gateway to txpacer when all frames of a batch, and of those before it, were written to their sockets.

    Within 20 ms for several batches together; at once when something left late.

    txpacer lets no more than the lead be unacknowledged, so that a stalled gateway holds nothing that a barge-in could
    still have withdrawn. `late` names each call whose frames left more than 20 ms after the deadline, with the number
    of the first such frame of the batch.
    """

    batch: int
    wire_ns: int
    late: tuple[tuple[int, int], ...]


GatewayToBridge = (
    GatewayHello
    | CallOffered
    | CallTaken
    | CallStarted
    | CallerAudio
    | CallerDtmf
    | MarkHeard
    | FirstFrameSent
    | CallEnded
    | FollowCall
    | LineLost
)
BridgeToGateway = WorkerState | CallMemory | CallAdopted | CallTaken | CallOver | EndCall | RefuseCall | CallNote
BridgeToPacer = (
    BridgeHello | OpenLine | RestoreLine | Speech | SpeechEnd | Withdraw | PauseLine | ResumeLine | CloseLine
)
PacerToBridge = PacerState | LineState | PlayoutStarted | PlayoutShifted | PlayoutFinished | Withdrawn
PacerToGateway = PacerState | Frames
GatewayToPacer = GatewayHello | WireAck | CloseLine

_encoder: Final = msgspec.msgpack.Encoder()


def encode(messages: Iterable[Message | msgspec.Raw]) -> bytes:
    """One ZeroMQ message holding `messages` in order."""
    return _encoder.encode([VERSION, *messages])


def encode_one(message: Message) -> bytes:
    """One message alone: a part of a later batch, as `msgspec.Raw`."""
    return _encoder.encode(message)


def encode_into(buffer: bytearray, messages: Iterable[Message]) -> None:
    """The same in place of what `buffer` holds: for large messages, whose memory is then taken once."""
    _encoder.encode_into([VERSION, *messages], buffer)


# By the identity of the union, because hashing one costs more than decoding a message; the union is kept with it.
_decoders: Final[dict[int, tuple[Any, msgspec.msgpack.Decoder[list[Any]]]]] = {}


def _decoder(types: Any) -> msgspec.msgpack.Decoder[list[Any]]:
    """Straight into the structs: 0.2 us a message, where unpacking first and converting then took 12."""
    known = _decoders.get(id(types))
    if known is None:
        known = _decoders[id(types)] = (types, msgspec.msgpack.Decoder(list[int | Header | types]))
    return known[1]


def decode(data: bytes | memoryview, types: Any) -> Sequence[Any]:
    """The messages in `data`, each one of `types` (a union from this module).

    Raises UndecodableError, and nothing else, for bytes that are anything else.
    """
    try:
        batch = _decoder(types).decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise UndecodableError(str(exc)) from exc
    if not batch or batch[0] != VERSION:
        raise UndecodableError("not a batch of this version")
    del batch[0]
    if int in map(type, batch):
        raise UndecodableError("a number where a message belongs")
    return batch
