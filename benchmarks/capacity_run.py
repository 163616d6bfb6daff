"""One step of a bench: carry the calls, weigh the processes, judge what was heard."""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.samples import Sample

from shared.metrics import PagesCollector
from simulator.carrier import CallRecord
from simulator.stack import get

from .capacity_callers import Callee, carry
from .capacity_figures import Figures
from .capacity_usage import Usage, cpu, memory_kb, tree

# The histograms that say how late frames left: name of the series, name in the figures.
_LATENESS = {
    "twentyms_pacer_lateness_seconds": "txpacer",
    "twentyms_gateway_frame_lateness_seconds": "gateway",
}


@dataclass(frozen=True)
class Bench:
    """What is measured, and with what. Processes by their pids, metrics only where there are pages."""

    system: str
    callee: Callee
    root_pid: int
    model_pid: int
    model_port: int
    bench_pid: int
    judge: Callable[[Figures, Bench, list[CallRecord]], None]
    metrics_dir: Path | None = None

    def rest_kb(self) -> float:
        return sum(memory_kb(tree(self.root_pid)).values())

    def step(self, calls: int, seconds: float, *, rest_kb: float, seed: int) -> Figures:
        """Carry `calls` calls, all of them live for `seconds`, and judge them."""
        processes = tree(self.root_pid)
        others = {self.model_pid: "model", self.bench_pid: "carrier"}
        usage: dict[str, tuple[Usage, Usage]] = {}
        pages: dict[str, dict[str, dict[float, float]]] = {}
        memory: dict[str, float] = {}

        def at(moment: str) -> None:
            if moment == "memory":
                memory.update(memory_kb(processes))
                pages["end"] = self._lateness()
                return
            usage[moment] = (cpu(processes), cpu(others))

        pages["begin"] = self._lateness()
        records = carry(self.callee, calls, seconds, seed=seed, at=at)
        figures = Figures(self.system, calls, seconds)
        call_seconds = calls * seconds
        own, bench = (after.since(before) for before, after in zip(usage["begin"], usage["end"], strict=True))
        figures.cpu_ms = {name: 1_000 * used / call_seconds for name, used in own.items()}
        figures.bench_cpu_ms = {name: 1_000 * used / call_seconds for name, used in bench.items()}
        figures.rest_mb = rest_kb / 1_024
        figures.memory_mb = {name: kb / 1_024 for name, kb in memory.items()}
        figures.call_kb = (sum(memory.values()) - rest_kb) / calls
        for name, buckets in pages["end"].items():
            counts = {bound: count - pages["begin"].get(name, {}).get(bound, 0) for bound, count in buckets.items()}
            if max(counts.values(), default=0):
                figures.lateness[name] = (_bound(counts, 0.5), _bound(counts, 0.99), _bound(counts, 0.999))
        self.judge(figures, self, records)
        return figures

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
    """The bucket's bound, ms, that at least `share` of the observations do not exceed."""
    total = max(counts.values())
    return min(bound for bound, count in counts.items() if count >= share * total)


def hear_exactly(figures: Figures, bench: Bench, records: list[CallRecord]) -> None:
    """Judge each call by its own sessions, which aibridge names by the header X-Client-Request-Id."""
    figures.hear(records, [fetch_sessions(bench.model_port, f"?request_id={each.call_sid}") for each in records])


def fetch_sessions(model_port: int, query: str = "") -> list[dict[str, Any]]:
    """The model server's records; each item's audio is decoded once more, as bytes, under `audio`."""
    sessions: list[dict[str, Any]] = json.loads(get(model_port, f"/simulator/sessions{query}")[1])
    for session in sessions:
        for item in session["items"]:
            item["audio"] = a2b_base64(item["audio_b64"])
    return sessions
