"""The paths of `make bench-network`, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulator.network.path import PathBehaviour

# A burst takes this many packets: 160 ms of a call's frames.
BURST_PACKETS: Final = 8
BURST_LOSS: Final = 0.003
# How often a path behind a proxy stalls: a longer stall more rarely.
_STALL_EVERY_MS: Final = {0: 0, 150: 4_000, 400: 8_000, 1_000: 15_000}
STALLS_ROUND_TRIP_MS: Final = 60


@dataclass(frozen=True)
class NetworkPath:
    """`behind_proxy`: a proxy that reads at once and hands on late; otherwise TCP itself crosses the path."""

    name: str
    round_trip_ms: int
    loss: float = 0.0
    burst_packets: int = 1
    stall_ms: int = 0
    behind_proxy: bool = False

    @property
    def behaviour(self) -> PathBehaviour:
        return PathBehaviour(
            delay_ms=self.round_trip_ms / 2,
            loss=self.loss,
            burst_packets=self.burst_packets,
            stall_ms=self.stall_ms,
            stall_every_ms=_STALL_EVERY_MS[self.stall_ms],
        )

    @property
    def words(self) -> str:
        """For a table's reader."""
        if self.behind_proxy:
            every_s = _STALL_EVERY_MS[self.stall_ms] / 1_000
            stalls = f"stalls of {self.stall_ms} ms every {every_s:g} s" if self.stall_ms else "no stalls"
            return f"{self.round_trip_ms} ms behind a proxy, {stalls}"
        if self.burst_packets > 1:
            return f"{self.round_trip_ms} ms, bursts of {self.burst_packets}, {self.loss:.1%}"
        return f"{self.round_trip_ms} ms, {f'{100 * self.loss:g} %' if self.loss else 'no loss'}"


def _lossy(round_trip_ms: int, percent: float) -> NetworkPath:
    loss = f"-loss{percent:g}" if percent else ""
    return NetworkPath(f"{round_trip_ms}ms{loss}", round_trip_ms, percent / 100)


def _bursty(round_trip_ms: int) -> NetworkPath:
    return NetworkPath(f"{round_trip_ms}ms-bursts", round_trip_ms, BURST_LOSS, BURST_PACKETS)


def _stalling(stall_ms: int) -> NetworkPath:
    return NetworkPath(f"stalls-{stall_ms}", STALLS_ROUND_TRIP_MS, stall_ms=stall_ms, behind_proxy=True)


_ROUND_TRIPS: Final = (20, 60, 120, 200)
ALL: Final = {
    path.name: path
    for path in (
        *(_lossy(ms, percent) for ms in _ROUND_TRIPS for percent in (0, 0.5, 1, 2)),
        *(_bursty(ms) for ms in _ROUND_TRIPS),
        *(_stalling(ms) for ms in _STALL_EVERY_MS),
    )
}
# What fits into 12 minutes: each kind of trouble, and the paths that make the difference.
USUAL: Final = (
    *("20ms", "20ms-loss2", "60ms-loss1", "60ms-bursts", "120ms", "120ms-loss1", "120ms-loss2", "200ms-loss0.5"),
    *("stalls-0", "stalls-150", "stalls-400", "stalls-1000"),
)
