"""The facts about calls that go to callbook, one class each.

A fact states how something is, never a change, so writing it twice does no harm. Times are milliseconds of the Unix
epoch, because facts outlive the machine's monotonic clock. The text of a turn and the numbers of a call are in facts
and in the database, and nowhere else.

Facts travel on a channel (shared/channel.py), whose epoch and numbers the sender never uses again. callbook keeps each
as `Noted`: `(source, seq)` makes at-least-once delivery an exactly-once record.
"""

from __future__ import annotations

from typing import Final

from .messages import Message

# What the caller waits for between their last sound and the answer's first, in order: aibridge/core/latency.py.
LATENCY_PARTS: Final = ("carrier", "detection", "model", "line", "network")


class StreamBegan(Message, frozen=True, array_like=True, tag=70):
    """Sent by gateway after the first frame of a media stream was written, or at its end if it had none."""

    call_sid: str
    stream_sid: str
    account_sid: str
    from_number: str
    to_number: str
    resumed: bool  # an earlier stream of this call was lost
    started_ms: int
    first_frame_ms: int  # 0: there was none


class StreamEnded(Message, frozen=True, array_like=True, tag=71):
    """Sent by gateway when a media stream is gone, with what left on its wire."""

    call_sid: str
    stream_sid: str
    ended_ms: int
    reason: str  # "stop", "lost", "hung-up"
    frames: int
    wire_gap_max_us: int  # between two writes of one utterance
    stalls: int  # of more than 300 ms between two frames of one utterance
    late_frames: int  # more than 20 ms after their deadline


class StreamPath(Message, frozen=True, array_like=True, tag=80):
    """Sent by gateway during a media stream and at its end: lead and path to the caller, when one of them changed.

    A sample is `(after_ms, lead_ms, least_ms, delay_ms, gap_ms)`: the beginning of a second, as time since `began_ms`,
    and what PathSamples says of it. It holds until the next one.
    """

    call_sid: str
    stream_sid: str
    began_ms: int
    samples: tuple[tuple[int, int, int, int, int], ...]


class CallStatus(Message, frozen=True, array_like=True, tag=72):
    """Sent by gateway when Twilio's status callback came."""

    call_sid: str
    account_sid: str
    from_number: str
    to_number: str
    status: str  # Twilio's: initiated, ringing, in-progress, completed, busy, failed, no-answer, canceled
    duration_s: int  # -1: unknown
    at_ms: int


class RecordingStatus(Message, frozen=True, array_like=True, tag=73):
    """Sent by gateway when Twilio's recording callback came."""

    call_sid: str
    recording_sid: str
    status: str  # Twilio's: in-progress, completed, absent
    duration_s: int  # -1: unknown
    channels: int  # 0: unknown
    error_code: str
    at_ms: int


class ConversationBegan(Message, frozen=True, array_like=True, tag=74):
    """Sent by aibridge after FirstFrameSent: recording may start now, and not before."""

    call_sid: str
    stream_sid: str
    model: str
    record: bool  # by RECORDING and the agent's own setting
    resumed: bool  # a recording may have begun with an earlier stream
    at_ms: int
    agent: str = ""  # its name


class Turn(Message, frozen=True, array_like=True, tag=75):
    """Sent by aibridge when a turn ended, and again whenever its words or its heard part became known."""

    call_sid: str
    item_id: str  # the model's; names the turn within the call
    number: int  # its place in the conversation
    role: str  # "caller", "ai", "tool", "keys" (of the caller) or "tones" (keys of the AI)
    began_ms: int  # 0: never heard
    ended_ms: int  # 0: not yet
    text: str  # all words; "" without a transcript
    heard_text: str  # the part that the caller heard
    spoken_ms: int  # audio that the model made; 0 for the caller
    heard_ms: int  # of that
    interrupted: bool
    # The tool's; `text` is its answer.
    tool: str = ""
    arguments: str = ""  # JSON
    outcome: str = ""  # one of TOOL_OUTCOMES; "": it did not answer
    # Of an answer to the caller: ms for each of LATENCY_PARTS, -1 for an unknown one. Empty for any other turn.
    latency_ms: tuple[int, ...] = ()


class Interruption(Message, frozen=True, array_like=True, tag=76):
    """Sent by aibridge when the caller's speech stopped the AI."""

    call_sid: str
    at_ms: int
    silent_ms: int  # from then until the ear had played the last of the AI's speech
    protected: bool  # it waited for the end of greeting protection
    cancelled: bool  # the model was still making the response
    onset_ms: int = 0  # when the caller's first sound was; 0: unknown
    paused_ms: int = 0  # when it paused the line, before the model noticed it; 0: it did not
    stopped_ms: int = 0  # from the first sound until the ear had played the last of the AI's speech


class Hesitation(Message, frozen=True, array_like=True, tag=92):
    """Sent by aibridge when a sound was found to be no interruption."""

    call_sid: str
    at_ms: int  # when the line was paused; for an echo, when the model reported it
    kind: str  # "unconfirmed": it paused the line; "echo": the model took the AI's own voice for the caller
    lasted_ms: int  # the pause; 0 for an echo


class ModelUsage(Message, frozen=True, array_like=True, tag=77):
    """Sent by aibridge when an agent has spoken in a call: the tokens of its model there.

    An agent to whom the call is handed off is told with 0 tokens first, when it takes over.
    """

    call_sid: str
    conversation: int  # of one agent, one model and one worker
    model: str
    responses: int
    text_in: int
    audio_in: int
    cached_in: int  # included in the two above
    text_out: int
    audio_out: int
    at_ms: int
    agent: str = ""  # its name


class ConversationEnded(Message, frozen=True, array_like=True, tag=78):
    """Sent by aibridge when a call is over there, with the gaps that the caller heard, wherever they arose."""

    call_sid: str
    stream_sid: str
    reason: str
    ear_gaps: int
    ear_gap_us: int  # in all
    at_ms: int


class DialBegan(Message, frozen=True, array_like=True, tag=83):
    """Sent by gateway when the carrier was told to connect the caller to somebody else."""

    call_sid: str
    to: str
    caller_id: str  # what the called party sees; "": the carrier's choice
    at_ms: int


class DialEnded(Message, frozen=True, array_like=True, tag=84):
    """Sent by gateway when the carrier said how that went."""

    call_sid: str
    outcome: str  # Twilio's DialCallStatus: completed, answered, busy, no-answer, failed, canceled; or "over"
    duration_s: int  # that the two spoke; -1: unknown
    caller_left: bool  # the caller hung up
    at_ms: int


class RecordingMove(Message, frozen=True, array_like=True, tag=79):
    """Noted by callbook itself when a recording was started, given up, or deleted."""

    call_sid: str
    state: str  # "started", "given-up", "deleted"
    recording_sid: str
    attempts: int
    error: str  # why it was given up, in words
    at_ms: int


Fact = (
    StreamBegan
    | StreamEnded
    | StreamPath
    | CallStatus
    | RecordingStatus
    | ConversationBegan
    | Turn
    | Interruption
    | Hesitation
    | ModelUsage
    | ConversationEnded
    | DialBegan
    | DialEnded
    | RecordingMove
)


class Noted(Message, frozen=True, array_like=True, tag=60):
    """A fact as callbook keeps it on its disk until it is in the database."""

    source: int  # the epoch of its sender's channel; callbook's own facts have one, too
    seq: int  # its number on that channel
    fact: Fact


class Leaving(Message, frozen=True, array_like=True, tag=61):
    """Sent by gateway and aibridge to callbook as their last message: no more facts come from this process."""
