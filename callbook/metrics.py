"""The metrics of callbook. Names omit `twentyms_`."""

from __future__ import annotations

from typing import Final

from shared.metrics import GC_PAUSE, LOOP_LAG, LOOP_TASKS, Definition, Page, counter, gauge

from .core.prices import KINDS
from .core.story_queue import StoreState

OUTCOMES: Final = ("started", "found", "given_up")
POSTED: Final = ("delivered", "failed", "given_up")
FAILURES: Final = ("timeout", "refused", "busy", "error")
STORE_FAILURES: Final[tuple[StoreState, ...]] = tuple(state for state in StoreState if state is not StoreState.UP)

DEFINITIONS: Final[tuple[Definition, ...]] = (
    counter("callbook_facts_kept", "Facts that were put on the disk and acknowledged"),
    counter("callbook_facts_written", "Facts that are in the database"),
    counter("callbook_facts_rejected", "Poison facts: the database refused them, and they are lost"),
    counter("callbook_spool_refused", "Batches not taken because the spool was full or its disk failed"),
    counter(
        "callbook_undecodable",
        "Messages and spooled records of another version, or that could not be handled",
    ),
    counter("callbook_bus_refused", "Acknowledgements that their receiver was not there to take"),
    counter("callbook_database_failures", "Times that the database was locked, gone or refused a transaction"),
    counter("callbook_recordings", "Recordings, by how they came out", "outcome", OUTCOMES),
    counter("callbook_rest_failures", "Requests to Twilio that failed and are tried again", "why", FAILURES),
    counter("callbook_webhooks", "Webhooks to the customer", "outcome", POSTED),
    counter("callbook_traces", "Traces of calls sent to the collector", "outcome", POSTED),
    counter("callbook_calls_deleted", "Call records deleted by retention"),
    counter("callbook_deletions_failed", "Recordings that Twilio did not delete; tried again an hour later"),
    counter("callbook_tokens", "Tokens of the model, by kind, as calls' records hold them", "kind", KINDS),
    counter("callbook_cost_usd", "What these tokens cost by MODEL_PRICES, US dollars; 0 without MODEL_PRICES"),
    gauge("callbook_spool_bytes", "Bytes on disk that are not in the database yet"),
    gauge("callbook_spool_torn", "Segments of the spool that a crash cut off, since the start"),
    gauge("callbook_database_up", "1 while the database takes what is written"),
    counter("callbook_stories_written", "STATE_URL: stories and ends of calls that the store took"),
    counter("callbook_stories_outdated", "STATE_URL: stories not written, because the call went on in another cell"),
    counter("callbook_stories_dropped", "STATE_URL: stories given up because too many calls waited"),
    counter(
        "callbook_store_failures",
        "STATE_URL: stories and requests that the store did not take or answer",
        "why",
        tuple(state.value for state in STORE_FAILURES),
    ),
    counter("callbook_stories_unreadable", "STATE_URL: values in the store that this version and key cannot use"),
    gauge("callbook_store_up", "STATE_URL: 1 while the store takes what is written"),
    counter("callbook_listened", "Times that somebody began to listen to a live call"),
    gauge("callbook_listeners", "Pages that listen to a live call now"),
    counter("callbook_copies_dropped", "60 ms of a call that a page which listens did not read in time"),
    GC_PAUSE,
    LOOP_LAG,
    LOOP_TASKS,
)


class Metrics:
    """Handles to DEFINITIONS on one page."""

    def __init__(self, page: Page) -> None:
        self.kept = page.counter("callbook_facts_kept")
        self.written = page.counter("callbook_facts_written")
        self.rejected = page.counter("callbook_facts_rejected")
        self.spool_refused = page.counter("callbook_spool_refused")
        self.undecodable = page.counter("callbook_undecodable")
        self.bus_refused = page.counter("callbook_bus_refused")
        self.database_failures = page.counter("callbook_database_failures")
        self.recordings = {name: page.counter("callbook_recordings", name) for name in OUTCOMES}
        self.rest_failures = {name: page.counter("callbook_rest_failures", name) for name in FAILURES}
        self.webhooks = {name: page.counter("callbook_webhooks", name) for name in POSTED}
        self.traces = {name: page.counter("callbook_traces", name) for name in POSTED}
        self.calls_deleted = page.counter("callbook_calls_deleted")
        self.deletions_failed = page.counter("callbook_deletions_failed")
        self.tokens = {kind: page.counter("callbook_tokens", kind) for kind in KINDS}
        self.cost_usd = page.counter("callbook_cost_usd")
        self.spool_bytes = page.gauge("callbook_spool_bytes")
        self.spool_torn = page.gauge("callbook_spool_torn")
        self.database_up = page.gauge("callbook_database_up")
        self.stories_written = page.counter("callbook_stories_written")
        self.stories_outdated = page.counter("callbook_stories_outdated")
        self.stories_dropped = page.counter("callbook_stories_dropped")
        self.store_failures = {state: page.counter("callbook_store_failures", state.value) for state in STORE_FAILURES}
        self.stories_unreadable = page.counter("callbook_stories_unreadable")
        self.store_up = page.gauge("callbook_store_up")
        self.listened = page.counter("callbook_listened")
        self.listeners = page.gauge("callbook_listeners")
        self.copies_dropped = page.counter("callbook_copies_dropped")
