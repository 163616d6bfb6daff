"""One step of a bench: carry the calls, measure the processes, judge what was heard."""

from __future__ import annotations

import json
import os
import threading
import time
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.samples import Sample

from callbook.exporter import PagesCollector
from shared.settings import NAMES
from simulator.carrier.call import CallRecord
from twentyms.stack import get

from .capacity_callers import Callee, carry
from .capacity_figures import Figures
from .capacity_usage import Usage, cpu, memory_kb, tree
from .pacing_run import steal

# The first calls import and allocate what later calls share. Ten calls meet all of it.
WARM_UP_CALLS: Final = 10
WARM_UP_S: Final = 12.0
# The processes come to rest within this, after the start and between two steps.
REST_S: Final = 2.0
SCRAPE_S: Final = 5.0

# The histograms of how late frames left: name of the series, name in the figures.
_LATENESS = {
    "twentyms_tx_lateness_seconds": "txpacer",
    "twentyms_gateway_frame_lateness_seconds": "gateway",
}


def forget_settings() -> None:
    """Remove the user's settings from the environment: the bench measures the defaults, with data of its own."""
    for name in NAMES:
        os.environ.pop(name.upper(), None)


@dataclass(frozen=True)
class Bench:
    """The measured system. Processes go by their pids; metrics exist only where there are pages."""

    system: str
    callee: Callee
    root_pid: int
    model_pid: int
    model_port: int
    bench_pid: int
    judge: Callable[[Figures, Bench, list[CallRecord]], None]
    metrics_dir: Path | None = None
    # The port whose /metrics is scraped during the measurement, as Prometheus would; 0: none.
    metrics_port: int = 0

    def rest_kb(self) -> float:
        return sum(memory_kb(tree(self.root_pid)).values())

    def warm_up(self, *, seed: int) -> float:
        """The memory of all processes, kB, after a few calls have imported and allocated what later calls share."""
        time.sleep(REST_S)
        self.step(WARM_UP_CALLS, WARM_UP_S, rest_kb=0, seed=seed)
        time.sleep(REST_S)
        return self.rest_kb()

    def step(
        self,
        calls: int,
        seconds: float,
        *,
        rest_kb: float,
        seed: int,
        during: Callable[[dict[int, str]], None] | None = None,
    ) -> Figures:
        """Carry `calls` calls, all of them live for `seconds`, and judge them.

        When those seconds begin, `during` is called with the processes, in a thread.
        """
        processes = tree(self.root_pid)
        others = {self.model_pid: "model", self.bench_pid: "carrier"}
        usage: dict[str, tuple[float, tuple[int, int], Usage, Usage]] = {}
        pages: dict[str, dict[str, dict[float, float]]] = {}
        memory: dict[str, float] = {}
        watchers = [threading.Thread(target=during, args=(processes,))] if during else []
        over = threading.Event()
        if self.metrics_port:
            watchers.append(threading.Thread(target=self._scrape, args=(over,)))

        def at(moment: str) -> None:
            if moment == "memory":
                memory.update(memory_kb(processes))
                pages["end"] = self._lateness()
                figures.is_unsteady = tree(self.root_pid).keys() != processes.keys()
                return
            usage[moment] = (time.monotonic(), steal(), cpu(processes), cpu(others))
            if moment == "begin":
                for watcher in watchers:
                    watcher.start()
            else:
                over.set()

        figures = Figures(self.system, calls, seconds)
        pages["begin"] = self._lateness()
        records = carry(self.callee, calls, seconds, seed=seed, at=at)
        for watcher in watchers:
            watcher.join()
        (began, stolen_before, *before), (ended, stolen_after, *after) = usage["begin"], usage["end"]
        figures.seconds = ended - began
        stolen, passed = (late - early for early, late in zip(stolen_before, stolen_after, strict=True))
        figures.steal = 100 * stolen / max(1, passed)
        self.judge(figures, self, records)
        own, bench = (late.since(early) for early, late in zip(before, after, strict=True))
        figures.weigh(own, bench, memory, rest_kb)
        for name, buckets in pages["end"].items():
            counts = {bound: count - pages["begin"].get(name, {}).get(bound, 0) for bound, count in buckets.items()}
            if max(counts.values(), default=0):
                figures.lateness[name] = (_bound(counts, 0.5), _bound(counts, 0.99), _bound(counts, 0.999))
        return figures

    def _scrape(self, over: threading.Event) -> None:
        while not over.wait(SCRAPE_S):
            get(self.metrics_port, "/metrics")

    def _lateness(self) -> dict[str, dict[float, float]]:
        """Cumulative counts by upper bound in ms."""
        found: dict[str, dict[float, float]] = {}
        if self.metrics_dir is None:
            return found
        for family in PagesCollector(self.metrics_dir).collect():
            if family.name not in _LATENESS:
                continue
            for sample in family.samples:
                self._add(found.setdefault(_LATENESS[family.name], {}), sample)
        return found

    @staticmethod
    def _add(counts: dict[float, float], sample: Sample) -> None:
        if sample.name.endswith("_bucket"):
            bound_ms = 1_000 * float(sample.labels["le"])
            counts[bound_ms] = counts.get(bound_ms, 0) + sample.value


def _bound(counts: dict[float, float], share: float) -> float:
    """The smallest bucket's bound, ms, that at least `share` of the observations do not exceed."""
    total = max(counts.values())
    return min(bound for bound, count in counts.items() if count >= share * total)


def hear_exactly(figures: Figures, bench: Bench, records: list[CallRecord]) -> None:
    """Judge each call by its own sessions, which aibridge names by the header X-Client-Request-Id."""
    figures.hear(records, [fetch_sessions(bench.model_port, f"?request_id={each.call_sid}") for each in records])


def fetch_sessions(model_port: int, query: str = "") -> list[dict[str, Any]]:
    """The model server's records, with each item's audio as bytes under `audio`."""
    sessions: list[dict[str, Any]] = json.loads(get(model_port, f"/simulator/sessions{query}")[1])
    for session in sessions:
        for item in session["items"]:
            item["audio"] = a2b_base64(item["audio_b64"])
    return sessions
