"""What aibridge counts. See shared/metrics.py for how it gets out."""

from __future__ import annotations

from typing import Final

from shared.metrics import Definition, Page, counter, gauge

DEFINITIONS: Final[tuple[Definition, ...]] = (
    counter("bridge_interruptions", "Times the caller's speech stopped the AI"),
    counter("bridge_protected_interruptions", "Interruptions that waited for the end of greeting protection"),
    counter("bridge_cancels", "response.cancel sent"),
    counter("bridge_cancel_not_active", "Cancels that crossed the end of their response"),
    counter("bridge_already_active", "Creates that the server refused because a response was active"),
    counter("bridge_late_deltas", "Audio deltas of cancelled responses, dropped"),
    counter("bridge_truncated_items", "Items cut to what was heard"),
    counter("bridge_deleted_items", "Items deleted because nothing of them was heard"),
    counter("bridge_errors", "Error events of the model, other than the benign ones"),
    counter("bridge_illegal_events", "Events that the conversation's state did not allow; they changed nothing"),
    counter("bridge_malformed_events", "Messages of the model that were no event"),
    counter("bridge_undecodable", "Messages of other processes that did not decode"),
    counter("bridge_dropped", "Messages to other processes that their sockets refused"),
    counter("bridge_caller_bytes_dropped", "Caller audio that came before the model was there and exceeded the bound"),
    counter("bridge_pacer_restarts", "New epochs of txpacer seen"),
    counter("bridge_sessions", "Realtime sessions", "outcome", ("opened", "refused", "lost", "closed", "unused")),
    gauge("bridge_calls", "Calls with an open media socket"),
    gauge("bridge_sessions_open", "Open Realtime sockets"),
    gauge("bridge_ready", "1 when the model has accepted key and model name"),
)


class ConversationMetrics:
    """What the pure core counts."""

    def __init__(self, page: Page) -> None:
        self.interruptions = page.counter("bridge_interruptions")
        self.protected = page.counter("bridge_protected_interruptions")
        self.cancels = page.counter("bridge_cancels")
        self.cancel_not_active = page.counter("bridge_cancel_not_active")
        self.already_active = page.counter("bridge_already_active")
        self.late_deltas = page.counter("bridge_late_deltas")
        self.truncated = page.counter("bridge_truncated_items")
        self.deleted = page.counter("bridge_deleted_items")
        self.errors = page.counter("bridge_errors")
        self.illegal = page.counter("bridge_illegal_events")
