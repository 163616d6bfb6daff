"""The metrics of a gateway. Names omit `twentyms_`; times are seconds, as Prometheus asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.metrics import (
    FACTS,
    GC_PAUSE,
    LOOP_LAG,
    LOOP_TASKS,
    REALTIME,
    Counter,
    Definition,
    Page,
    counter,
    gauge,
    histogram,
)
from shared.plan import Conference, Dial, Fallback, HangUp, Reject

from .fallback import FallbackCause
from .media_streams import Violation
from .tokens import REASONS

# Around the 20 ms of a frame, the lead (120 ms) and the stall (300 ms).
_LATENESS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_ROUND_TRIP = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
_GAP = (0.005, 0.01, 0.015, 0.019, 0.021, 0.025, 0.03, 0.04, 0.06, 0.1, 0.12, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_CALL_LENGTH = (5, 15, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)

ENDS: Final = ("stop", "lost", "hung-up")
CUTS: Final = ("idle", "unread")
PEERS: Final = ("txpacer", "aibridge")
# callbook: with STATE_URL, for stories.
LINKED: Final = (*PEERS, "callbook")
HOOKS: Final = ("voice", "status", "recording")
HANDSHAKES: Final = ("accepted", "path", "query", "signature", "not_accepting")
# By the type of the order that the voice webhook answers with; None connects the call.
ANSWERS: Final[Mapping[type, str]] = {
    type(None): "connect",
    HangUp: "hang_up",
    Reject: "reject",
    Dial: "dial",
    Conference: "conference",
    Fallback: "fallback",
}
# The webhook: the call lost its media socket there. The media socket: the other cell died after its webhook.
FROM_OTHER_CELLS: Final = ("webhook", "socket")
# "late": no answer within RECALL_S.
RECALLS: Final = ("ended", "story", "unknown", "late")
STARTS: Final = (*REASONS, "no_token", "timeout", "no_worker")

DEFINITIONS: Final[tuple[Definition, ...]] = (
    *FACTS,
    gauge("gateway_calls", "Live calls: media sockets that said `start`"),
    counter("gateway_calls_started", "Calls that began: media sockets whose `start` passed every check"),
    histogram("gateway_call_seconds", "Length of calls, `start` to the socket's end, seconds", _CALL_LENGTH),
    counter("gateway_calls_ended", "Calls that ended, by who ended them", "reason", ENDS),
    counter(
        "gateway_calls_cut", "Lost calls that the gateway gave up: nothing came, or nothing was read", "reason", CUTS
    ),
    counter(
        "gateway_calls_given_again", "Calls given to their worker again, or to another one, because their worker died"
    ),
    counter("gateway_half_open_ended", "Connections cut: request or reading took too long, or one too many"),
    counter("gateway_starts_refused", "Media sockets closed before a call began", "reason", STARTS),
    counter("gateway_handshakes", "Handshakes of media sockets, by outcome", "outcome", HANDSHAKES),
    counter("gateway_voice_answers", "Answers of the voice webhook", "answer", tuple(ANSWERS.values())),
    counter(
        "gateway_fallbacks",
        "Calls that got the fallback, by the reason",
        "why",
        tuple(cause.value for cause in FallbackCause),
    ),
    counter(
        "gateway_config_unanswered", "Calls whose worker did not answer in time for CALL_CONFIG_URL; the agent stayed"
    ),
    counter(
        "gateway_from_other_cells", "Calls that came from another cell, by what came first here", "by", FROM_OTHER_CELLS
    ),
    counter("gateway_recalls", "Returning calls for which callbook was asked, by what it knew", "outcome", RECALLS),
    counter("gateway_callbacks", "Signed callbacks that were accepted", "hook", HOOKS[1:]),
    counter("gateway_unsigned", "Webhooks refused for their signature, host or account", "hook", HOOKS),
    counter(
        "gateway_violations",
        "Messages that broke the Media Streams protocol",
        "kind",
        tuple(v.value for v in Violation),
    ),
    counter("gateway_caller_audio_bytes", "mu-law bytes received from callers"),
    counter("gateway_caller_audio_dropped_bytes", "mu-law bytes that an aibridge worker did not accept"),
    counter("gateway_marks_unknown", "Echoes by Twilio of marks that the gateway never sent"),
    counter("gateway_frames_sent", "TX_METRICS: 20 ms frames written to media sockets"),
    counter("gateway_frames_unknown_call", "Frames for unknown or ended calls, dropped"),
    histogram(
        "gateway_frame_lateness_seconds",
        "How late a frame was written to its socket, seconds",
        _LATENESS,
    ),
    histogram(
        "gateway_wire_gap_seconds",
        "Time between two frames of an utterance on the wire, seconds",
        _GAP,
    ),
    counter("tx_stall", "TX_STALL: gaps over 300 ms between two frames of one utterance on the wire"),
    counter("tx_stall_seconds", "Length of all gaps of more than 300 ms on the wire (TX_STALL) together, seconds"),
    gauge("gateway_largest_gap_seconds", "Largest gap between two writes of one utterance in the last minute"),
    histogram(
        "gateway_call_largest_gap_seconds",
        "Largest gap on the wire inside an utterance of a call",
        _GAP,
    ),
    gauge(
        "gateway_frames_per_second_per_speaking_call",
        "About 50: frames that followed another of their utterance, by the time between them, over 10 s",
    ),
    counter("gateway_wire_late", "Frames reported to txpacer because they left more than 20 ms late"),
    histogram("gateway_ping_seconds", "Round trips of WebSocket pings to the carrier, seconds", _ROUND_TRIP),
    counter("gateway_pings_unanswered", "Pings that a media socket never answered"),
    counter("gateway_slow_sends", "TX_SEND_SLOW: writes to a socket that had not taken an earlier one for 50 ms"),
    counter("gateway_bus_refused", "Sends that a full or absent peer refused", "peer", LINKED),
    counter("gateway_bus_lost", "Control messages given up because their peer stayed away", "peer", PEERS),
    counter("gateway_bus_undecodable", "Messages from a peer that are not of this version", "peer", LINKED),
    counter("gateway_bus_foreign", "Messages about a call from a worker that has lost the call, dropped"),
    counter("gateway_phone_refused", "Requests of browser phones that were refused: locked, or from another page"),
    counter("gateway_phone_notes_lost", "Notes about a phone's call that its page did not read in time"),
    gauge("gateway_calls_listened", "Calls to which somebody listens on the page of live calls, in the whole cell"),
    counter("gateway_copies_dropped", "60 ms of a call that callbook was too busy to take for somebody who listens"),
    gauge("gateway_workers_ready", "aibridge workers that can take a call"),
    gauge("gateway_pacer_up", "1 while txpacer answers"),
    counter("gateway_pacer_restarts", "Times that another incarnation of txpacer answered"),
    counter("gateway_worker_restarts", "Times that another incarnation of an aibridge worker answered"),
    gauge("gateway_bus_waiting", "Control messages that wait for a peer to take them", "peer", PEERS),
    REALTIME,
    GC_PAUSE,
    LOOP_LAG,
    LOOP_TASKS,
)


class Metrics:
    """Handles to DEFINITIONS on one page."""

    def __init__(self, page: Page) -> None:
        self.calls = page.gauge("gateway_calls")
        self.calls_started = page.counter("gateway_calls_started")
        self.call_length = page.histogram("gateway_call_seconds")
        self.calls_ended = _family(page, "gateway_calls_ended", ENDS)
        self.calls_cut = _family(page, "gateway_calls_cut", CUTS)
        self.calls_given_again = page.counter("gateway_calls_given_again")
        self.half_open_ended = page.counter("gateway_half_open_ended")
        self.starts_refused = _family(page, "gateway_starts_refused", STARTS)
        self.handshakes = _family(page, "gateway_handshakes", HANDSHAKES)
        self.voice_answers = {kind: page.counter("gateway_voice_answers", answer) for kind, answer in ANSWERS.items()}
        self.fallbacks = {cause: page.counter("gateway_fallbacks", cause.value) for cause in FallbackCause}
        self.config_unanswered = page.counter("gateway_config_unanswered")
        self.from_other_cells = _family(page, "gateway_from_other_cells", FROM_OTHER_CELLS)
        self.recalls = _family(page, "gateway_recalls", RECALLS)
        self.callbacks = _family(page, "gateway_callbacks", HOOKS[1:])
        self.unsigned = _family(page, "gateway_unsigned", HOOKS)
        self.violations = {kind: page.counter("gateway_violations", kind.value) for kind in Violation}
        self.caller_audio_bytes = page.counter("gateway_caller_audio_bytes")
        self.caller_audio_dropped_bytes = page.counter("gateway_caller_audio_dropped_bytes")
        self.marks_unknown = page.counter("gateway_marks_unknown")
        self.frames_sent = page.counter("gateway_frames_sent")
        self.frames_unknown_call = page.counter("gateway_frames_unknown_call")
        self.frame_lateness = page.histogram("gateway_frame_lateness_seconds")
        self.wire_gap = page.histogram("gateway_wire_gap_seconds")
        self.tx_stall = page.counter("tx_stall")
        self.tx_stall_seconds = page.counter("tx_stall_seconds")
        self.largest_gap = page.gauge("gateway_largest_gap_seconds")
        self.call_largest_gap = page.histogram("gateway_call_largest_gap_seconds")
        self.frame_rate = page.gauge("gateway_frames_per_second_per_speaking_call")
        self.wire_late = page.counter("gateway_wire_late")
        self.ping = page.histogram("gateway_ping_seconds")
        self.pings_unanswered = page.counter("gateway_pings_unanswered")
        self.slow_sends = page.counter("gateway_slow_sends")
        self.bus_refused = _family(page, "gateway_bus_refused", LINKED)
        self.bus_lost = _family(page, "gateway_bus_lost", PEERS)
        self.bus_undecodable = _family(page, "gateway_bus_undecodable", LINKED)
        self.bus_foreign = page.counter("gateway_bus_foreign")
        self.phone_refused = page.counter("gateway_phone_refused")
        self.phone_notes_lost = page.counter("gateway_phone_notes_lost")
        self.calls_listened = page.gauge("gateway_calls_listened")
        self.copies_dropped = page.counter("gateway_copies_dropped")
        self.workers_ready = page.gauge("gateway_workers_ready")
        self.pacer_up = page.gauge("gateway_pacer_up")
        self.worker_restarts = page.counter("gateway_worker_restarts")
        self.pacer_restarts = page.counter("gateway_pacer_restarts")
        self.bus_waiting = {peer: page.gauge("gateway_bus_waiting", peer) for peer in PEERS}
        self.realtime = page.gauge(REALTIME.name)


def _family(page: Page, name: str, values: tuple[str, ...]) -> dict[str, Counter]:
    return {value: page.counter(name, value) for value in values}
