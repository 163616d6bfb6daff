"""The results of the simulated fleet as Markdown, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from .fleet_parameters import rows
from .fleet_scenarios import SCENARIOS, Result
from .network_figures import quantile

Column = Callable[[Result], str]


def _silences(result: Result) -> str:
    silences = result.counts.silences
    if not silences:
        return "-"
    return " / ".join(f"{quantile(silences, share):.1f}" for share in (0.5, 0.99, 1.0))


_COLUMNS: Final[Mapping[str, Column]] = {
    "callers": lambda result: f"{result.counts.arrived:,}",
    "refused": lambda result: f"{result.counts.refused:,}",
    "of these, while a cell had room": lambda result: f"{result.counts.refused_with_room:,}",
    "webhooks repeated at another cell": lambda result: f"{result.counts.retried:,}",
    "fullest cell": lambda result: f"{result.most}",
    "went on in another cell": lambda result: f"{result.counts.handed_over:,}",
    "of these, without memory": lambda result: f"{result.counts.without_story:,}",
    "silence, s: p50 / p99 / longest": _silences,
    "hung up in that silence": lambda result: f"{result.counts.left_between:,}",
    "no session of the model in time": lambda result: f"{result.counts.no_model:,}",
    "greetings late, because a dial was refused": lambda result: f"{result.counts.late_greetings:,}",
}


def page(found: Mapping[str, Sequence[Result]], head: str) -> str:
    parts = [f"# A simulated fleet\n\n{head}. [fleet.md](fleet.md) says what follows from it.\n"]
    parts += ["![The same as a picture](images/fleet.svg)\n"]
    for name, results in found.items():
        question = (SCENARIOS[name].__doc__ or "").strip()
        parts.append(f"## {results[0].scenario.capitalize()}\n\n{question}\n\n{_table(results)}\n")
    parts.append("## What it was fed with\n\n" + _markdown([("parameter", "value", "source"), *rows()]) + "\n")
    return "\n".join(parts)


def _table(results: Sequence[Result]) -> str:
    cells = {title: [column(each) for each in results] for title, column in _COLUMNS.items()}
    # A column in which nothing happened says nothing; refusals do.
    told = {
        title: column
        for title, column in cells.items()
        if title == "refused" or any(value not in ("0", "-") for value in column)
    }
    for name in dict.fromkeys(name for each in results for name in each.figures):
        told[name] = [f"{each.figures[name]:,.0f}" if name in each.figures else "-" for each in results]
    lines = [("case", *told), *zip([each.case for each in results], *told.values(), strict=True)]
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(text)


def write_json(found: Mapping[str, Sequence[Result]], path: Path, **more: object) -> None:
    plain = {
        name: [
            {"case": each.case, "counts": asdict(each.counts), "live": each.live, "most": each.most, **each.figures}
            for each in results
        ]
        for name, results in found.items()
    }
    path.write_text(json.dumps({**more, "scenarios": plain}, indent=1) + "\n")


def draw(found: Mapping[str, Sequence[Result]], path: Path) -> None:
    """One plot for each scenario that changes with time, one of refusals."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    # The same results give the same file, whose text stays text.
    mpl.rcParams.update({"svg.hashsalt": "twentyms", "svg.fonttype": "none"})
    figure, places = plt.subplots(3, 2, figsize=(12, 11), layout="constrained")
    stale, new, zone, upgrade, day, cell = places.flat
    for axes, name, title in (
        (stale, "stale", "callers refused, with 3 % of room"),
        (new, "new-cell", "calls of a new cell"),
        (zone, "zone", "a zone lost: live calls"),
        (upgrade, "upgrade", "a rolling upgrade: calls of one cell"),
        (day, "day", "a day, with an upgrade at noon"),
        (cell, "cell", "a cell lost: silence until the conversation goes on"),
    ):
        axes.set_title(title, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        results = found.get(name, ())
        if name == "stale":
            axes.barh([each.case for each in results][::-1], [each.counts.refused for each in results][::-1])
            axes.set_xlabel("callers in 10 minutes")
        elif name == "new-cell":
            for each in results:
                axes.plot([sample.at_s - 60 for sample in each.samples], each.cell_calls, label=each.case)
            axes.set(xlabel="seconds after its start", xlim=(-10, 180))
        elif name == "zone":
            for each in results:
                axes.plot(
                    [sample.at_s - 60 for sample in each.samples], [s.live for s in each.samples], label=each.case
                )
            axes.set(xlabel="seconds", ylim=(0, None))
        elif name in ("upgrade", "day"):
            unit, words = (60, "minutes") if name == "upgrade" else (3_600, "hours")
            for each in results:
                at = [sample.at_s / unit for sample in each.samples]
                axes.fill_between(
                    at,
                    [s.least for s in each.samples],
                    [s.most for s in each.samples],
                    alpha=0.4,
                    label="least to most",
                )
                axes.plot(at, [s.mean for s in each.samples], label="mean")
            axes.set(xlabel=words, ylim=(0, None))
        else:
            for each in results:
                axes.hist(each.counts.silences, bins=40, histtype="step", label=each.case)
            axes.set(xlabel="seconds", ylabel="calls")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
