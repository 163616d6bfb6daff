"""A bench's figures as a table for the terminal, a picture and JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from .capacity_figures import Figures, Spread

_CPU: Final = "CPU ms per second of call, all processes"
_MEMORY: Final = "all processes with their calls, MB (PSS)"
# The rows of the table. `-` stands for a figure that was not measured.
_ROWS: Final[tuple[tuple[str, Callable[[Figures], str]], ...]] = (
    ("calls", lambda f: str(f.calls)),
    (_CPU, lambda f: f"{f.cpu_total_ms:.2f}{' UNSTEADY' * f.is_unsteady}"),
    ("memory per call, kB (PSS)", lambda f: f"{f.call_kb:.0f}"),
    ("  per call more than the step before", lambda f: _number(f.further_call_kb)),
    ("all processes at rest, MB (PSS)", lambda f: f"{f.rest_mb:.0f}"),
    (_MEMORY, lambda f: f"{sum(f.memory_mb.values()):.0f}"),
    ("the AI is heard, share of the time", lambda f: f"{100 * f.talk_share:.0f} %"),
    ("gaps at the ear (ms in all, longest)", lambda f: f"{f.gaps} ({f.gap_ms:.0f}, {f.gap_max_ms:.0f})"),
    ("wire gaps over 100 ms (longest)", lambda f: f"{f.wire_gaps_100} ({f.wire_gap_max_ms:.0f})"),
    ("txpacer late, p50 / p99 / p99.9 below", lambda f: _bounds(f, "txpacer")),
    ("gateway late, p50 / p99 / p99.9 below", lambda f: _bounds(f, "gateway")),
    ("interruptions", lambda f: str(f.interruptions)),
    ("silent after speech_started, p50 / p99 / max", lambda f: _spread(f.silence)),
    ("history error, p99 / max", lambda f: _late(f.history_error)),
    ("speech_stopped to answer, p50 / p99 (300 the model's)", lambda f: _punctual(f, f.response)),
    ("start to first sample beyond the model, p50 / p99", lambda f: _punctual(f, f.start)),
    ("caller's last frame to the model, p50 / p99", lambda f: _punctual(f, f.turn_in)),
    ("first delta to first frame, p50 / p99", lambda f: _punctual(f, f.turn_out)),
    (
        "bytes damaged / items cut / turns unanswered",
        lambda f: " / ".join(map(_number, (f.damaged_bytes, f.cuts, f.unanswered))),
    ),
    ("calls without a sound / errors", lambda f: f"{f.failed_calls} / {f.errors}"),
    ("the bench late: times over 5 ms, longest", lambda f: _lag(f)),
    ("stolen by the host", lambda f: f"{f.steal:.1f} %"),
    ("the bench's own CPU, carrier / model", lambda f: " / ".join(f"{v:.2f}" for v in f.bench_cpu_ms.values())),
)


def _spread(spread: Spread) -> str:
    return f"{spread.p50:.0f} / {spread.p99:.0f} / {spread.max:.0f}" if spread.n else "-"


def _punctual(figures: Figures, spread: Spread) -> str:
    void = " VOID" if figures.is_late else ""
    return f"{spread.p50:.1f} / {spread.p99:.1f}{void}" if spread.n else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _late(spread: Spread) -> str:
    return f"{spread.p99:.0f} / {spread.max:.0f}" if spread.n else "-"


def _bounds(figures: Figures, name: str) -> str:
    return " / ".join(f"{bound:g}" for bound in figures.lateness[name]) if name in figures.lateness else "-"


def _lag(figures: Figures) -> str:
    void = " VOID" if figures.is_void else ""
    times = figures.carrier_lag.n + figures.model_lag.n
    return f"{times}, {max(figures.carrier_lag.max, figures.model_lag.max):.0f}{void}"


def table(all_figures: Sequence[Figures], *, named: bool = False) -> str:
    """One column per step, times in ms; with `named`, the columns are headed by the systems' names."""
    rows = [[title, *(cell(figures) for figures in all_figures)] for title, cell in _ROWS]
    _insert(rows, _MEMORY, [(f.memory_mb, "{:.1f}") for f in all_figures])
    _insert(rows, _CPU, [(f.cpu_ms, "{:.2f}") for f in all_figures])
    if named:
        rows.insert(0, ["", *(figures.system for figures in all_figures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _insert(rows: list[list[str]], title: str, steps: Sequence[tuple[dict[str, float], str]]) -> None:
    """Insert a row for each process after the row of all processes."""
    at = next(number for number, row in enumerate(rows) if row[0] == title)
    names = list(dict.fromkeys(name for each, _ in steps for name in each))
    rows[at + 1 : at + 1] = [
        [f"  {name}", *(form.format(each[name]) if name in each else "-" for each, form in steps)] for name in names
    ]


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    cores = sum(line.startswith("processor") for line in lines)
    load = Path("/proc/loadavg").read_text().split()[0]
    return f"{cores} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, load {load}"


def write_json(all_figures: Sequence[Figures], path: Path, **more: object) -> None:
    rows = [
        asdict(figures) | {"cpu_total_ms": figures.cpu_total_ms, "is_void": figures.is_void, "is_late": figures.is_late}
        for figures in all_figures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **more, "steps": rows}, indent=1) + "\n")


def draw(all_figures: Sequence[Figures], path: Path) -> None:
    """CPU by process, time to silence and gaps over the number of calls."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    calls = [figures.calls for figures in all_figures]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    names = sorted(
        {name for figures in all_figures for name in figures.cpu_ms},
        key=lambda name: -sum(figures.cpu_ms.get(name, 0) for figures in all_figures),
    )
    at = range(len(calls))
    below = [0.0] * len(calls)
    for name in names:
        heights = [figures.cpu_ms.get(name, 0.0) for figures in all_figures]
        if sum(heights) < 0.05:
            continue
        left.bar(at, heights, bottom=below, label=name, width=0.6)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    for x, total in zip(at, below, strict=True):
        left.text(x, total, f"{total:.1f}", ha="center", va="bottom")
    left.set(xticks=list(at), xticklabels=calls, xlabel="calls at once", ylabel="ms of CPU per second of call")
    left.margins(y=0.12)
    left.legend(frameon=False)
    right.plot(calls, [f.silence.p50 for f in all_figures], "o-", label="silence after an interruption, p50")
    right.plot(calls, [f.silence.p99 for f in all_figures], "o-", label="the same, p99")
    right.plot(calls, [f.gap_ms for f in all_figures], "s-", label="gaps at the ear, all together")
    right.plot(calls, [f.turn_out.p99 for f in all_figures], "^-", label="first delta to first frame, p99")
    right.set(xlabel="calls at once", ylabel="ms", ylim=(0, None))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
