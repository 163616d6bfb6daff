"""The figures of `make bench-near-ear` as a page and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from .near_ear_corpus import Clip
from .near_ear_removal import CALLERS, NOTICED_MS
from .near_ear_trials import MISSED_MS, UNGUARDED_MINUTES, Figures, Onsets
from .network_figures import quantile

SHARES: Final = (0.5, 0.9, 0.99)
# So much later than without echo a caller over it is still heard soon.
SOON_MS: Final = 100


def page(figures: Figures, clips: Sequence[Clip], head: str) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(clip.kind for clip in clips).items())
    languages = len({clip.language for clip in clips})
    parts = [
        "# What the near ear hears",
        f"{head}. {len(clips)} clips of callers ({kinds}) in {languages} languages, each from its first sound, over "
        "recorded speech of the AI. Times count from the caller's first sound to the end of the frame with which the "
        "near ear knew. The silence follows after the lead. [near-ear.md](near-ear.md) explains it.",
        "**From the first sound until the near ear knows, ms**",
        _table(
            ("line", *(f"p{share * 100:g}" for share in SHARES), "max", f"not within {MISSED_MS} ms", "false before"),
            ((o.name, *_quantiles(o), o.missed, o.false) for o in _shown(figures.onsets)),
        ),
        "**Noise alone, while the AI speaks: what was taken for speech**",
        _table(
            ("noise", "below speech, dB", "minutes", "pauses", "longest, ms"),
            (
                (n.name, n.snr_db, f"{n.minutes:g}", len(n.pauses_ms), round(max(n.pauses_ms, default=0)))
                for n in figures.noises
            ),
        ),
        "**The AI's own voice, returned by a speakerphone**",
        _table(
            ("delay, ms", "loss, dB", "minutes", "pauses", "bursts known as echo", "pauses a minute without the guard"),
            (
                (e.delay_ms, e.loss_db, f"{e.minutes:g}", e.interruptions, e.ignored, f"{per_minute(e.unguarded):.1f}")
                for e in figures.echoes
            ),
        ),
        "**The caller over that echo, ms**",
        _table(
            (
                *("delay, ms", "loss, dB", *(f"p{share * 100:g}" for share in SHARES), "missed", "false before"),
                *("later than without echo", f"later by more than {SOON_MS} ms"),
            ),
            (
                (
                    *(d.delay_ms, d.loss_db, *_quantiles(d.onsets)[:-1], d.onsets.missed, d.onsets.false),
                    *(_later(d.later_ms), f"{sum(ms > SOON_MS for ms in d.later_ms)} of {len(d.later_ms)}"),
                )
                for d in figures.double_talk
            ),
        ),
        f"**The echo removed from what the model hears: how many of {CALLERS} callers over an AI that does not stop it "
        f"notices within {NOTICED_MS} ms**",
        _table(
            (
                *("delay, ms", "loss, dB", "removed, dB", "noticed", "with the removal"),
                *("false beginnings", "with the removal", "CPU, ms a second"),
            ),
            (
                (r.delay_ms, r.loss_db, f"{r.removed_db:.0f}", *r.noticed, *r.false, f"{r.ms:.1f}")
                for r in figures.removals
            ),
        ),
        "**CPU of a call whose AI speaks all the time**",
        _table(
            ("line", "ms for each second", "judgements of the detector in it"),
            ((c.name, f"{c.ms:.2f}", f"{c.asked:.1f}") for c in figures.costs),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def per_minute(unguarded: int) -> float:
    return unguarded / UNGUARDED_MINUTES


def _shown(onsets: Iterable[Onsets]) -> list[Onsets]:
    """The table has the quiet line and two ratios; the picture has all."""
    return [each for each in onsets if not each.noise or each.snr_db in (5, 15)]


def _quantiles(onsets: Onsets) -> list[int]:
    return [round(quantile(onsets.heard_ms, share)) for share in (*SHARES, 1.0)]


def _later(later_ms: Sequence[float]) -> str:
    return "p50 {:.0f}, p90 {:.0f}, p99 {:.0f}".format(*(quantile(later_ms, share) for share in SHARES))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    rows = list(rows)
    if not rows:
        return "Not measured in this run."
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def draw(figures: Figures, path: Path) -> None:
    """Late, missed and false over the ratio of speech to noise."""
    figure, panels = plt.subplots(1, 3, figsize=(15, 4.5))
    for name in dict.fromkeys(each.name for each in figures.noises):
        onsets = [each for each in figures.onsets if each.noise == name]
        snrs = [each.snr_db for each in onsets]
        panels[0].plot(snrs, [quantile(each.heard_ms, 0.9) for each in onsets], marker="o", markersize=3, label=name)
        panels[1].plot(snrs, [100 * each.missed / len(each.delays_ms) for each in onsets], marker="o", markersize=3)
        noises = [each for each in figures.noises if each.name == name]
        rates = [len(each.pauses_ms) * 30 / each.minutes for each in noises]
        panels[2].plot([each.snr_db for each in noises], rates, marker="o", markersize=3)
    titles = (
        "late: 9 of 10 known after, ms",
        f"missed: not known within {MISSED_MS} ms, %",
        "false: pauses in 30 minutes",
    )
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title)
        panel.set_xlabel("speech above noise, dB")
        panel.set_ylim(bottom=0)
        panel.invert_xaxis()
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
