"""The picture of `make bench-pacing`: percentiles of lateness on a logarithmic scale, one panel per place."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from .pacing_run import Lateness, Measured

PERCENTILES: Final = ("p50", "p99", "p99.9", "max")
# Smaller figures are the clock's resolution.
FLOOR_MS: Final = 0.01


def _values(lateness: Lateness) -> list[float]:
    return [max(FLOOR_MS, value) for value in (lateness.p50, lateness.p99, lateness.p999, lateness.max)]


def draw(measured: list[Measured], path: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(15, 5), sharey=True)
    shades = plt.get_cmap("viridis")
    lines = sorted({each.lines for each in measured})
    for panel, place in zip(panels, ("pacer", "wire", "ear"), strict=True):
        for each in measured:
            panel.plot(
                PERCENTILES,
                _values(getattr(each, place)),
                marker="o",
                markersize=3,
                linestyle="-" if each.realtime else ":",
                color="tab:grey" if each.load == "idle" else shades(lines.index(each.lines) / max(1, len(lines))),
                alpha=0.5 if each.load == "idle" else 1.0,
                label=f"{each.load}, {each.lines} lines, {'real-time' if each.realtime else 'ordinary'}",
            )
            if place == "pacer" and each.cyclictest and each.load != "idle" and each.lines == lines[-1]:
                panel.plot(
                    PERCENTILES,
                    _values(each.cyclictest),
                    color="tab:red",
                    linestyle="-" if each.realtime else ":",
                    label=f"cyclictest, stress, {'real-time' if each.realtime else 'ordinary'}",
                )
        panel.set_yscale("log")
        panel.axhline(120, color="black", linewidth=0.8)
        panel.set_title({"pacer": "at the pacer", "wire": "on the wire", "ear": "at the ear"}[place])
        panel.grid(visible=True, which="major", alpha=0.3)
    panels[0].set_ylabel("late by, ms (line: the lead, beyond which it is heard)")
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
