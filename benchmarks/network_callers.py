"""The callers of one system over one path: a process of its own, whose media sockets cross the path."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from callbook.exporter import PagesCollector
from shared.audio import FRAME_BYTES
from shared.isolation import exact_timers
from simulator.carrier.call import CallRecord
from simulator.network.tun import enter

from .capacity_callers import Callee, carry
from .capacity_run import fetch_sessions
from .capacity_usage import Usage, cpu, tree
from .network_figures import Row, Stalls
from .network_paths import NetworkPath
from .pacing_run import go_before

# Gaps that may yet prove longer are counted within two seconds.
_COUNTED_S: Final = 2.5


@dataclass(frozen=True)
class Cell:
    """One system on one path; everything that the process of its callers needs to know.

    `namespace`: where the callers are ("": on this side). `connect_to`: what they dial. `metrics_dir`: None for a peer.
    """

    system: str
    path: NetworkPath
    calls: int
    seconds: float
    seed: int
    callee: Callee
    namespace: str
    connect_to: tuple[str, int]
    root_pid: int
    model_port: int
    metrics_dir: Path | None
    stalls: Stalls | None


def measure(cell: Cell) -> Row:
    """Carry the calls, and judge them."""
    exact_timers()
    row = Row(cell.system, cell.path.name, cell.calls)
    processes = tree(cell.root_pid)
    usage: dict[str, tuple[float, Usage]] = {}
    counted_before = _counted_gap_ms(cell.metrics_dir)
    records: list[CallRecord] = []

    def at(moment: str) -> None:
        usage[moment] = (time.monotonic(), cpu(processes))

    def run() -> None:
        go_before()
        if cell.namespace:
            enter(cell.namespace)
        records.extend(carry(cell.callee, cell.calls, cell.seconds, seed=cell.seed, at=at, connect_to=cell.connect_to))

    # Only that thread is in the namespace: the model's records are on this side.
    carrying = threading.Thread(target=run)
    carrying.start()
    carrying.join()
    if len(records) < cell.calls:
        raise RuntimeError(f"the callers of {cell.system} on {cell.path.name} failed; their error stands above")
    time.sleep(_COUNTED_S)
    if cell.metrics_dir is not None:
        row.counted_gap_ms = _counted_gap_ms(cell.metrics_dir) - counted_before
    (began, before), (ended, after) = usage["begin"], usage["end"]
    row.cpu_ms = 1_000 * sum(after.since(before).values()) / (cell.calls * (ended - began))
    row.hear(cell.path, records, _sessions(cell, records), cell.stalls)
    return row


def _sessions(cell: Cell, records: Sequence[CallRecord]) -> list[list[dict[str, Any]]]:
    if cell.metrics_dir is not None:
        return [fetch_sessions(cell.model_port, f"?request_id={each.call_sid}") for each in records]
    sessions = fetch_sessions(cell.model_port)
    return [match_by_audio(each.ear.audio, sessions) for each in records]


def match_by_audio(heard: bytes, sessions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The session whose audio the ear got first: a peer does not tell the model which call it is."""
    first = heard[:FRAME_BYTES]
    return [each for each in sessions if first and any(first in item["audio"] for item in each["items"])]


def _counted_gap_ms(metrics_dir: Path | None) -> float:
    """The gaps at the ear that txpacer has counted so far."""
    if metrics_dir is None:
        return 0.0
    samples = (sample for family in PagesCollector(metrics_dir).collect() for sample in family.samples)
    return sum(1_000 * each.value for each in samples if each.name == "twentyms_tx_ear_gap_seconds_sum")
