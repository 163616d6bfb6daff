"""What the conversation counts. aibridge/metrics.py defines each metric."""

from __future__ import annotations

from shared.metrics import Page


class ConversationMetrics:
    """One worker's, shared by its calls. Times in seconds."""

    def __init__(self, page: Page) -> None:
        self.interruptions = page.counter("bridge_interruptions")
        self.protected = page.counter("bridge_protected_interruptions")
        self.early_confirmed = page.counter("bridge_early_pauses", "confirmed")
        self.early_resumed = page.counter("bridge_early_pauses", "resumed")
        self.echoes = page.counter("bridge_echoes_ignored")
        self.false_alarms = page.counter("bridge_false_alarms")
        self.cancels = page.counter("bridge_cancels")
        self.cancels_spared = page.counter("bridge_cancels_spared")
        self.cancel_not_active = page.counter("bridge_cancel_not_active")
        self.already_active = page.counter("bridge_already_active")
        self.late_deltas = page.counter("bridge_late_deltas")
        self.excess_bytes = page.counter("bridge_excess_bytes")
        self.truncated = page.counter("bridge_truncated_items")
        self.deleted = page.counter("bridge_deleted_items")
        self.farewells = page.counter("bridge_farewells")
        self.hand_offs = {outcome: page.counter("bridge_hand_offs", outcome) for outcome in ("done", "failed")}
        self.voicemails = page.counter("bridge_voicemails")
        self.tools_overdue = page.counter("bridge_tools_overdue")
        self.greetings_heard = page.counter("bridge_greetings", "heard")
        self.greetings_interrupted = page.counter("bridge_greetings", "interrupted")
        self.greetings_failed = page.counter("bridge_greetings", "failed")
        self.retries = page.counter("bridge_retries")
        self.unanswered_withdrawals = page.counter("bridge_unanswered_withdrawals")
        self.cancel = page.histogram("bridge_cancel_seconds")
        self.onset_to_silence = page.histogram("bridge_onset_to_silence_seconds")
        self.onset_to_report = page.histogram("bridge_onset_to_report_seconds")
        self.silence = page.histogram("bridge_silence_seconds")
        self.response = page.histogram("bridge_response_seconds")
        self.history_error = page.histogram("bridge_history_error_seconds")
        self.mark_drift = page.histogram("bridge_mark_drift_seconds")
        self.errors = page.counter("bridge_errors")
        self.illegal = page.counter("bridge_illegal_events")
        self.reconnected = page.counter("bridge_recoveries", "reconnected")
        self.fallbacks = page.counter("bridge_recoveries", "fallback")
        self.stalled = page.counter("bridge_stalled_sessions")
        self.renewals = page.counter("bridge_renewals")
        self.recovery = page.histogram("bridge_recovery_seconds")
