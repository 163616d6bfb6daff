"""Rehearse an agent: callers of your scenarios call it, and each call is judged.

  twentyms rehearse scenarios/

A scenario is a TOML file: what a caller says, when, and what must hold (docs/rehearse.md). All processes are started
for it, with your agents, your tools and the configured model; without OPENAI_API_KEY, or with --simulated, with the
simulated one. Nothing goes to Twilio, to your webhook or into your database. Tools do what they do. --delay, --jitter
and --stall put a bad network between the callers and you.

Writes a recording and a timeline of each call, and junit.xml. Exit status: 0 when everything held.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.process import ConfigError
from simulator.network.options import add_path_options, chosen_path
from simulator.network.path import PathBehaviour

from . import here
from .arguments import Parser
from .real_model import is_real
from .rehearsal import opinion, report
from .rehearsal.scenario import Scenario, read
from .rehearsal.stage import Stage
from .rehearsal.voice import Voices


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError for a scenario or a setting that cannot be used."""
    parser = Parser("rehearse", __doc__)
    parser.add_argument("scenarios", type=Path, nargs="+", metavar="PATH", help="scenarios, or directories of them")
    parser.add_argument("--simulated", action="store_true", help="use the simulated model, whatever is configured")
    parser.add_argument("--at-once", type=int, default=8, metavar="N", help="calls at a time (default 8)")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="each scenario N times (default 1)")
    out_help = "the directory for the results (default out/rehearsal)"
    parser.add_argument("--out", type=Path, default=Path("out/rehearsal"), metavar="DIR", help=out_help)
    parser.add_argument("--judge", metavar="MODEL", help="the text model that is asked about each `opinion`")
    add_path_options(parser)
    options = parser.parse_args(arguments)
    settings = here.settings()
    simulated = options.simulated or not is_real(settings)
    scenarios = list(found(options.scenarios, times=max(1, options.times)))
    wants_opinion = any(each.expect.opinion for each in scenarios)
    if options.judge and not settings.openai_api_key:
        raise ConfigError("--judge needs OPENAI_API_KEY; set it in .env or the environment, or leave --judge out")
    voices = Voices(scenarios)
    options.out.mkdir(parents=True, exist_ok=True)
    path = chosen_path(options)
    model = "the simulated model" if simulated else settings.openai_realtime_model
    print(f"Rehearsing {len(scenarios)} calls, {options.at_once} at a time, with {model} ...", flush=True)
    with Stage(
        settings,
        here.directory(),
        options.out,
        simulated=simulated,
        network=path if path != PathBehaviour() else None,
    ) as stage:
        results = stage.perform(scenarios, voices, at_once=max(1, options.at_once))
    if options.judge:
        base_url = settings.openai_base_url
        opinion.ask(results, model=options.judge, api_key=settings.openai_api_key, base_url=base_url)
    elif wants_opinion:
        print("No opinion was asked for: name a text model with --judge.", file=sys.stderr)
    print("\n".join(report.lines(results)))
    report.write_junit(results, options.out / "junit.xml")
    if not report.write_calls(results, options.out):
        print("There are no timelines: install matplotlib with pip install 'twentyms[pictures]'", file=sys.stderr)
    bad = sum(bool(each.problems) for each in results)
    print(f"\n{len(results) - bad} of {len(results)} calls were as they should be. All of it is in {options.out}/.")
    return 1 if bad else 0


def found(paths: Sequence[Path], *, times: int = 1) -> Iterator[Scenario]:
    """The scenarios of files and directories, each as often as it says. Raises ConfigError."""
    for path in paths:
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path} holds no scenario; docs/rehearse.md shows one")
        for file in files:
            scenario = read(file)
            yield from itertools.repeat(scenario, scenario.times * times)
