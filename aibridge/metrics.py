"""The metrics of aibridge. Times are seconds; no series carries a call's id."""

from __future__ import annotations

from typing import Final

from shared.facts import LATENCY_PARTS
from shared.metrics import FACTS, GC_PAUSE, LOOP_LAG, LOOP_TASKS, REALTIME, Definition, counter, gauge, histogram

from .core.call_config import FAILURES
from .core.handover_silence import FORMER

# From speech_started to silence: the promise is 150 ms.
_SILENCE_S: Final = (0.02, 0.05, 0.08, 0.1, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18, 0.2, 0.3, 0.5, 1.0)
_ONSET_S: Final = (0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 2.0)
# "confirmed": the model reported the speech, too. "resumed": it did not, and the AI went on.
EARLY_PAUSE_OUTCOMES: Final = ("confirmed", "resumed")
_FAST_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_ERROR_S: Final = (0.0, 0.001, 0.02, 0.04, 0.08, 0.16, 0.5, 1.0, 5.0)
_RESPONSE_S: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
# From the milliseconds of the line to the seconds of a model that calls tools.
_PART_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)

# HAProxy gives up a cell within 2 s, and another cell needs up to a second.
_HANDOVER_S: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0, 20.0)

DEFINITIONS: Final[tuple[Definition, ...]] = (
    *FACTS,
    counter("aibridge_interruptions", "Times the caller's speech stopped the AI"),
    counter("aibridge_protected_interruptions", "Interruptions that waited for the end of greeting protection"),
    counter(
        "aibridge_false_alarms", "Speech of the caller that was too short for an interruption; the sentence went on"
    ),
    counter(
        "aibridge_early_pauses",
        "Pauses at the caller's first sound, by how they ended",
        "outcome",
        EARLY_PAUSE_OUTCOMES,
    ),
    counter("aibridge_echoes_ignored", "Speech that the model reported, and that was the AI's own echo"),
    counter(
        "aibridge_cancels", "Interruptions that sent a response.cancel to the model: its response was still active"
    ),
    counter("aibridge_cancels_spared", "Interruptions of a response that was no longer active: no cancel was sent"),
    counter("aibridge_cancel_not_active", "Cancels that crossed the end of their response"),
    counter("aibridge_already_active", "Creates that the server refused because a response was active"),
    counter("aibridge_late_deltas", "Audio deltas of cancelled responses, dropped"),
    counter("aibridge_excess_bytes", "Speech dropped because ten minutes of it waited to be heard already"),
    counter("aibridge_truncated_items", "Items cut to what was heard"),
    counter(
        "aibridge_farewells", "Calls that the AI ended: a silent caller, a goodbye without end_call, or too long a call"
    ),
    counter("aibridge_hand_offs", "Calls that an agent handed off to another one", "outcome", ("done", "failed")),
    counter("aibridge_voicemails", "Calls that were ended because a voicemail greeting spoke in them"),
    counter("aibridge_tools_overdue", "Calls of tools that toolbox did not answer in time"),
    counter("aibridge_deleted_items", "Items deleted because nothing of them was heard"),
    counter("aibridge_greetings", "Greetings by how they ended", "outcome", ("heard", "interrupted", "failed")),
    counter("aibridge_retries", "Responses that failed and were asked for again"),
    counter("aibridge_unanswered_withdrawals", "Withdrawals that txpacer did not answer; the ear's clock answered"),
    histogram("aibridge_cancel_seconds", "speech_started to response.cancel, seconds", _FAST_S),
    histogram("aibridge_onset_to_silence_seconds", "The caller's first sound to silence at the ear, seconds", _ONSET_S),
    histogram("aibridge_onset_to_report_seconds", "The caller's first sound to speech_started, seconds", _ONSET_S),
    histogram("aibridge_silence_seconds", "speech_started to silence at the ear, seconds", _SILENCE_S),
    histogram("aibridge_response_seconds", "speech_stopped to the first sample of the answer at the ear", _RESPONSE_S),
    histogram(
        "aibridge_latency_seconds",
        "The caller's last sound to the first sample of the answer at the ear, by part",
        _PART_S,
        "part",
        LATENCY_PARTS,
    ),
    histogram(
        "aibridge_history_error_seconds",
        "Where aibridge cut an interrupted item against the model's cut",
        _ERROR_S,
    ),
    histogram("aibridge_mark_drift_seconds", "End of an utterance by txpacer's account against Twilio's mark", _FAST_S),
    counter("aibridge_errors", "Error events of the model, other than the benign ones"),
    counter("aibridge_illegal_events", "Events that the conversation's state did not allow; they changed nothing"),
    counter("aibridge_malformed_events", "Messages of the model that were not events"),
    counter("aibridge_undecodable", "Messages of other processes that did not decode"),
    gauge("aibridge_speech_kept_bytes", "Speech that txpacer has not taken yet: it is stopped, or being restarted"),
    counter("aibridge_dropped", "Messages to other processes that their sockets refused"),
    counter("aibridge_caller_bytes_dropped", "Caller audio that waited for a session and exceeded the bound"),
    counter("aibridge_pacer_restarts", "New epochs of txpacer seen"),
    counter("aibridge_calls_back", "Calls that lost their media socket and went on at another one"),
    counter("aibridge_calls_from_other_cells", "Calls that went on here with the story that another cell had left"),
    histogram(
        "aibridge_handover_silence_seconds",
        "Silence at the ear of callers whose AI spoke when another worker, socket, gateway or cell took over, seconds",
        _HANDOVER_S,
        "from",
        FORMER,
    ),
    counter("aibridge_agents_unknown", "Calls of an agent that this worker does not have; the default answered"),
    counter("aibridge_call_configs", "Questions to CALL_CONFIG_URL", "outcome", ("used", *FAILURES)),
    counter("aibridge_sessions", "Realtime sessions", "outcome", ("opened", "refused", "lost", "closed", "unused")),
    counter("aibridge_recoveries", "Lost sessions of live calls", "outcome", ("reconnected", "fallback")),
    counter("aibridge_stalled_sessions", "Sessions given up because a response neither went on nor ended"),
    counter("aibridge_renewals", "Sessions replaced by a fresh one before their limit"),
    histogram("aibridge_recovery_seconds", "Loss of a session to its successor's readiness, seconds", _RESPONSE_S),
    gauge("aibridge_calls", "Calls with an open media socket"),
    gauge("aibridge_sessions_open", "Open Realtime sockets"),
    GC_PAUSE,
    LOOP_LAG,
    LOOP_TASKS,
    REALTIME,
    gauge("aibridge_ready", "1 when the model has accepted key and model name"),
)
