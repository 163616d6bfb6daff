"""`make bench-near-ear`: what the near ear misses, how late it is, and what it takes for speech.

The real near ear with its real detectors hears a corpus of speech, noise and echo (near_ear_corpus.py), 20 ms at a
time, offline and as fast as the machine can.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from aibridge import canceller, detectors
from aibridge.core.near_ear.detection import Sensitivity
from shared.process import run

from . import near_ear_corpus as corpus
from .capacity_report import machine
from .near_ear_removal import Removals
from .near_ear_report import draw, page
from .near_ear_trials import Figures, Trials

DELAYS_MS: Final = (60, 200, 350)
LOSSES_DB: Final = (6, 12, 20)
PARTS: Final = ("quiet", "echo", "removal", "noise", "cost")
SNRS_DB: Final = (20, 15, 10, 5)
# Shorter trials are a curve's; the figures that are promised are those of 15 dB of noise and 12 dB of echo.
SHORTER: Final = 6
# Of the clips, so many are heard in noise.
EVERY: Final = 4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_ear", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="of noise, and of echo, each (default 30)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--clips", type=int, default=0, help="of the corpus; 0, the default: all")
    parser.add_argument("--threshold", type=float, default=0.5, help="of the detector (default 0.5)")
    parser.add_argument("--seed", type=int, default=1, help="of noise, echo paths and instants (default 1)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="for bench-near-ear.md and .svg")
    chosen = parser.parse_args()
    if lack := corpus.missing():
        parser.error(f"the corpus is incomplete, it lacks {', '.join(lack)}; run: {corpus.NEEDED}")
    found = detectors.load()
    if found is None:
        parser.error("install the detectors: pip install -e '.[near-ear]'")
    begun, since = machine(), time.monotonic()
    sensitivity = Sensitivity(threshold=chosen.threshold)
    trials = Trials(found, sensitivity, clips=chosen.clips, seed=chosen.seed)
    figures = Figures()

    def say(what: str) -> None:
        print(f"{time.monotonic() - since:.0f} s: {what}", file=sys.stderr, flush=True)

    say(f"{len(trials.clips)} clips")
    if "quiet" in chosen.parts:
        figures.onsets.append(trials.onsets("quiet line"))
    for loss_db in LOSSES_DB if "echo" in chosen.parts else ():
        for delay_ms in DELAYS_MS:
            minutes = chosen.minutes if loss_db == 12 else chosen.minutes / SHORTER
            figures.echoes.append(trials.echo(delay_ms, loss_db, minutes=minutes))
            figures.double_talk.append(trials.double_talk(delay_ms, loss_db))
        say(f"echo of -{loss_db} dB")
    if "removal" in chosen.parts and (cancels := canceller.load()) is not None:
        removals = Removals(found, cancels, trials.clips, corpus.ai_speech())
        for loss_db in LOSSES_DB:
            for delay_ms in DELAYS_MS:
                path = trials.path(delay_ms, loss_db)
                figures.removals.append(removals.trial(delay_ms, loss_db, path, seed=chosen.seed))
        say("removal of the echo")
    for noise in corpus.NOISES if "noise" in chosen.parts else ():
        for snr_db in SNRS_DB:
            minutes = chosen.minutes if snr_db == 15 else chosen.minutes / SHORTER
            figures.noises.append(trials.noise(noise, snr_db, minutes=minutes))
            figures.onsets.append(trials.onsets(f"{noise}, {snr_db} dB", noise=noise, snr_db=snr_db, every=EVERY))
        say(f"noise: {noise}")
    if "cost" in chosen.parts:
        figures.costs = trials.costs()
    command = f"python -m benchmarks.near_ear --minutes {chosen.minutes:g} --seed {chosen.seed}"
    command += f" --parts {' '.join(chosen.parts)}" * (set(chosen.parts) != set(PARTS))
    command += f" --clips {chosen.clips}" * bool(chosen.clips)
    command += f" --threshold {chosen.threshold:g}" * (chosen.threshold != 0.5)
    head = f"`{command}` on {begun} at the start; it took {(time.monotonic() - since) / 60:.0f} minutes"
    chosen.out.mkdir(parents=True, exist_ok=True)
    text = page(figures, trials.clips, head)
    (chosen.out / "bench-near-ear.md").write_text(text)
    draw(figures, chosen.out / "bench-near-ear.svg")
    print(text, end="")


if __name__ == "__main__":
    run("bench-near-ear", main)
