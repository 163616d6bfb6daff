"""The rows of `make bench-network` as tables, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from .network_figures import HISTORY_MS, LEFTOVER_MS, Row, quantile
from .network_paths import ALL
from .network_run import SYSTEMS

# What each table shows of a row.
_TABLES: Final[tuple[tuple[str, Callable[[Row], str]], ...]] = (
    ("Gaps at the ear: ms in all (number, longest)", lambda row: _gaps(row)),
    ("Silent after `speech_started`, ms: p50 / 9 of 10 / max", lambda row: _silence(row.silences)),
    ("The same, a second or more after a stall", lambda row: _silence(row.silences_after_stall)),
    (
        f"What the model believes was heard: items wrong by more than {HISTORY_MS} ms (largest error, ms)",
        lambda row: f"{row.wrong_history} of {len(row.history_errors)} ({max(row.history_errors, default=0)})",
    ),
    (f"Leftovers: ms heard later than {LEFTOVER_MS} ms and half a round trip", lambda row: f"{row.leftover_ms:.0f}"),
    ("Gaps as txpacer counted them, ms", lambda row: _counted(row)),
    ("Seconds of speech heard", lambda row: f"{row.speech_s:.0f}"),
    ("CPU, ms per second of call", lambda row: f"{row.cpu_ms:.1f}"),
    ("Calls without a sound / bytes damaged / other errors", lambda row: _broken(row)),
    ("Own lateness at most, ms: carrier / model / path", lambda row: _late(row)),
)


def _gaps(row: Row) -> str:
    return f"{row.gap_ms:.0f} ({len(row.gaps)}, {max(row.gaps):.0f})" if row.gaps else "0"


def _silence(values: Sequence[float]) -> str:
    return " / ".join(f"{quantile(values, share):.0f}" for share in (0.5, 0.9, 1.0)) if values else "-"


def _counted(row: Row) -> str:
    return "-" if row.counted_gap_ms is None else f"{row.counted_gap_ms:.0f}"


def _broken(row: Row) -> str:
    return f"{row.failed_calls} / {row.damaged_bytes} / {row.errors}"


def _late(row: Row) -> str:
    lates = (row.carrier_late_ms, row.model_late_ms, row.path_late_ms)
    return " / ".join(f"{ms:.0f}" for ms in lates) + " VOID" * row.is_void


def tables(rows: Sequence[Row]) -> str:
    """Markdown: one table for each figure, paths down and systems across."""
    paths = list(dict.fromkeys(row.path for row in rows))
    systems = list(dict.fromkeys(row.system for row in rows))
    found = {(row.path, row.system): row for row in rows}
    parts = []
    for title, cell in _TABLES:
        lines = [["path", *(SYSTEMS[name].words for name in systems)]]
        for path in paths:
            cells = [cell(found[path, system]) if (path, system) in found else "" for system in systems]
            if any(each not in ("", "-") for each in cells):
                lines.append([ALL[path].words, *cells])
        if len(lines) > 1:
            parts.append(f"**{title}**\n\n{_markdown(lines)}")
    return "\n\n".join(parts) + "\n"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def write_json(rows: Sequence[Row], path: Path, **more: object) -> None:
    plain = [asdict(row) | {"gap_ms": row.gap_ms, "is_void": row.is_void} for row in rows]
    path.write_text(json.dumps({**more, "rows": plain}, indent=1) + "\n")


def draw(rows: Sequence[Row], path: Path) -> None:
    """For each path and system: the gaps in 100 s of speech, and the silence after an interruption."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    # The same rows give the same file, whose text stays text.
    mpl.rcParams.update({"svg.hashsalt": "twentyms", "svg.fonttype": "none"})
    paths = list(dict.fromkeys(row.path for row in rows))
    systems = list(dict.fromkeys(row.system for row in rows))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 1.4 + 0.55 * len(paths)), sharey=True, layout="constrained")
    high = 0.8 / len(systems)
    for number, system in enumerate(systems):
        mine = {row.path: row for row in rows if row.system == system}
        at = [place + number * high for place, name in enumerate(paths) if name in mine]
        own = [mine[name] for name in paths if name in mine]
        gaps = [100 * row.gap_ms / max(1.0, row.speech_s) for row in own]
        p50, most = ([quantile(row.silences, share) for row in own] for share in (0.5, 1.0))
        bars = left.barh(at, gaps, height=high, label=SYSTEMS[system].words.replace("`", ""))
        right.barh(at, p50, height=high, color=bars.patches[0].get_facecolor())
        right.plot(most, at, "|", color="black", markersize=5)
    left.set_xscale("symlog", linthresh=10)
    left.set(xlabel="gaps at the ear, ms in 100 s of speech", yticks=[n + 0.4 for n in range(len(paths))])
    left.set_yticklabels([ALL[name].words for name in paths])
    left.invert_yaxis()
    figure.legend(frameon=False, loc="outside upper center", ncols=len(systems))
    right.set(xlabel="silent after speech_started, ms: p50, longest")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
