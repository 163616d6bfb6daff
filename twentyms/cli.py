"""The command `twentyms`: everything that a user runs by hand, one verb each."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

from shared.process import run

from .arguments import EX_USAGE, nearest

# A verb's module is imported when the verb is used: `twentyms doctor` needs no database, and `--help` needs nothing.
# Each module has `main(arguments)`, which returns the exit status.
VERBS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("twentyms.demo", "carry one call through the whole pipeline, with the simulated model, and judge it"),
    "new": ("twentyms.new", "make a folder with an agent of your own: its file, tools and settings, ready to run"),
    "run": ("twentyms.run", "start all processes; without OPENAI_API_KEY, with the simulated model"),
    "check": ("twentyms.check", "check settings, agents and tools, without starting anything or asking anyone"),
    "doctor": ("twentyms.doctor", "try everything that a call needs, and say what to do about what is missing"),
    "call": ("twentyms.call", "place a call to the gateway of this machine, and judge what the caller heard"),
    "calls": ("twentyms.calls", "list the newest calls, or show one with its transcript"),
    "timeline": ("twentyms.timeline", "draw one call as a PNG: who spoke when, and what was heard"),
    "rehearse": ("twentyms.rehearse", "let callers of your scenarios call your agent, and judge each call"),
    "phone": ("twentyms.phone", "print the link to the browser phone"),
    "simulate": ("twentyms.simulate", "run one of the two ends that are not ours: carrier or model"),
}
# What a shell says of a program that SIGINT or SIGPIPE ended.
EX_INTERRUPTED: Final = 130
EX_PIPE: Final = 141


def usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: twentyms VERB [...]\n\nAnswers phone calls from Twilio with an OpenAI Realtime voice.\n\n"
        f"{verbs}\n\n`twentyms VERB --help` explains a verb.\n"
        "Exit status: 0 all is well, 1 it is not, 2 wrong arguments, 78 a setting is wrong."
    )


def version() -> str:
    from importlib import metadata  # 30 ms that no other verb needs

    return metadata.version("twentyms")


def dispatch() -> None:
    status = 0
    try:
        match sys.argv[1:]:
            case [] | ["-h" | "--help" | "help", *_]:
                print(usage())
            case ["-V" | "--version", *_]:
                print(f"twentyms {version()}")
            case [verb, *arguments] if verb in VERBS:
                status = importlib.import_module(VERBS[verb][0]).main(arguments)
            case [wrong, *_]:
                print(f"twentyms: unknown verb {wrong}{nearest(wrong, VERBS)}; see twentyms --help", file=sys.stderr)
                status = EX_USAGE
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = EX_INTERRUPTED
    except BrokenPipeError:  # `twentyms calls | head`; Python would try to write the rest at its end
        os._exit(EX_PIPE)
    sys.exit(status)


def main() -> None:
    """The console script."""
    run("twentyms", dispatch)


if __name__ == "__main__":
    main()
