"""What the conversation counts. aibridge/metrics.py defines each metric."""

from __future__ import annotations

from shared.facts import LATENCY_PARTS
from shared.metrics import Histogram, Page

from .handover_silence import FORMER


class ConversationMetrics:
    """One worker's, shared by its calls. Times in seconds."""

    def __init__(self, page: Page) -> None:
        self.interruptions = page.counter("aibridge_interruptions")
        self.protected = page.counter("aibridge_protected_interruptions")
        self.early_confirmed = page.counter("aibridge_early_pauses", "confirmed")
        self.early_resumed = page.counter("aibridge_early_pauses", "resumed")
        self.echoes = page.counter("aibridge_echoes_ignored")
        self.false_alarms = page.counter("aibridge_false_alarms")
        self.cancels = page.counter("aibridge_cancels")
        self.cancels_spared = page.counter("aibridge_cancels_spared")
        self.cancel_not_active = page.counter("aibridge_cancel_not_active")
        self.already_active = page.counter("aibridge_already_active")
        self.late_deltas = page.counter("aibridge_late_deltas")
        self.excess_bytes = page.counter("aibridge_excess_bytes")
        self.truncated = page.counter("aibridge_truncated_items")
        self.deleted = page.counter("aibridge_deleted_items")
        self.farewells = page.counter("aibridge_farewells")
        self.hand_offs = {outcome: page.counter("aibridge_hand_offs", outcome) for outcome in ("done", "failed")}
        self.voicemails = page.counter("aibridge_voicemails")
        self.tools_overdue = page.counter("aibridge_tools_overdue")
        self.greetings_heard = page.counter("aibridge_greetings", "heard")
        self.greetings_interrupted = page.counter("aibridge_greetings", "interrupted")
        self.greetings_failed = page.counter("aibridge_greetings", "failed")
        self.retries = page.counter("aibridge_retries")
        self.unanswered_withdrawals = page.counter("aibridge_unanswered_withdrawals")
        self.cancel = page.histogram("aibridge_cancel_seconds")
        self.onset_to_silence = page.histogram("aibridge_onset_to_silence_seconds")
        self.onset_to_report = page.histogram("aibridge_onset_to_report_seconds")
        self.silence = page.histogram("aibridge_silence_seconds")
        self.response = page.histogram("aibridge_response_seconds")
        # In the order of LATENCY_PARTS.
        self.latency = [page.histogram("aibridge_latency_seconds", part) for part in LATENCY_PARTS]
        self.handover_silence: dict[str, Histogram] = {
            former: page.histogram("aibridge_handover_silence_seconds", former) for former in FORMER
        }
        self.history_error = page.histogram("aibridge_history_error_seconds")
        self.mark_drift = page.histogram("aibridge_mark_drift_seconds")
        self.errors = page.counter("aibridge_errors")
        self.illegal = page.counter("aibridge_illegal_events")
        self.reconnected = page.counter("aibridge_recoveries", "reconnected")
        self.fallbacks = page.counter("aibridge_recoveries", "fallback")
        self.stalled = page.counter("aibridge_stalled_sessions")
        self.renewals = page.counter("aibridge_renewals")
        self.recovery = page.histogram("aibridge_recovery_seconds")
