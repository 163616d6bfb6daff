"""The options that all programs of this folder share, and their priority."""

from __future__ import annotations

import argparse
from typing import Final

from .path import PathBehaviour

# Before carrier and gateway, whose priorities are below: these programs stand for the network between two machines.
PRIORITY: Final = 60


def add_path_options(parser: argparse.ArgumentParser) -> None:
    """What `chosen_path` reads, and `--seed`."""
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="one way: half of the round trip")
    parser.add_argument("--jitter", type=float, default=0.0, metavar="MS", help="up to this much more for each packet")
    parser.add_argument("--stall", type=float, default=0.0, metavar="MS", help="nothing passes for this long")
    parser.add_argument("--stall-every", type=float, default=0.0, metavar="MS", help="how often that happens")
    parser.add_argument("--seed", type=int, default=1, help="all that is random follows from it (default 1)")
    # A proxy cannot lose bytes.
    parser.set_defaults(loss=0.0, burst=1)


def add_loss_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loss", type=float, default=0.0, help="the share of packets with which a loss begins (0 to 1)"
    )
    parser.add_argument("--burst", type=int, default=1, help="packets in a row that each loss takes")


def chosen_path(options: argparse.Namespace) -> PathBehaviour:
    return PathBehaviour(options.delay, options.jitter, options.loss, options.burst, options.stall, options.stall_every)


def path_options(behaviour: PathBehaviour) -> tuple[str, ...]:
    """The options from which `chosen_path` makes this behaviour, without those of losses."""
    return (
        *("--delay", str(behaviour.delay_ms), "--jitter", str(behaviour.jitter_ms)),
        *("--stall", str(behaviour.stall_ms), "--stall-every", str(behaviour.stall_every_ms)),
    )
