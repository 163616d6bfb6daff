"""The command `twentyms`: everything that a user runs by hand, one verb each."""

from __future__ import annotations

import importlib
import sys
from typing import Final

from shared.process import ConfigError, run

# Each verb's module is imported when it is used: `twentyms doctor` needs no database, and `--help` needs nothing.
# A module has `main(arguments)`; its return value is the exit status.
VERBS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("twentyms.demo", "one judged call through the whole pipeline, with the simulated model"),
    "run": ("twentyms.stack", "start the pipeline; without OPENAI_API_KEY, with the simulated model"),
    "doctor": ("twentyms.doctor", "check everything that a call needs, and say what is missing"),
    "call": ("twentyms.call", "place a call to the gateway of this machine and judge it"),
    "calls": ("callbook.console", "list the newest calls, or show one whole"),
    "timeline": ("callbook.pages.picture", "draw one call as a PNG"),
    "phone": ("twentyms.phone", "print a link to the browser phone"),
    "simulate": ("twentyms.simulate", "run one end that is not ours: carrier or model"),
}


def usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    return f"usage: twentyms VERB [...]\n\n{verbs}\n\n`twentyms VERB --help` explains a verb."


def dispatch() -> None:
    """Raises ConfigError for an unknown verb."""
    match sys.argv[1:]:
        case [] | ["-h" | "--help", *_]:
            print(usage())
        case [verb, *arguments] if verb in VERBS:
            sys.exit(importlib.import_module(VERBS[verb][0]).main(arguments))
        case [verb, *_]:
            raise ConfigError(f"unknown verb {verb!r}; `twentyms --help` lists them")


def main() -> None:
    """The console script."""
    run("twentyms", dispatch)


if __name__ == "__main__":
    main()
