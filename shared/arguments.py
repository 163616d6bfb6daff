"""The arguments of a command: a help text to read, and one line for what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Final, NoReturn

from . import alike

# The shell's own status for a command that was called in the wrong way.
EX_USAGE: Final = 2


class Parser(argparse.ArgumentParser):
    """`command` is what the user types, and `text` its help, printed as it stands."""

    def __init__(self, command: str, text: str | None) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=command, description=text, formatter_class=layout, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line; a misspelt option is named with the nearest right one."""
        wrong = message.removeprefix("unrecognized arguments: ")
        if wrong != message:
            message = f"unknown argument {wrong}{nearest(wrong.split()[0], self._option_string_actions)}"
        self.exit(EX_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The question to ask after a wrong word, or ""."""
    found = alike.nearest(wrong, known)
    return f", did you mean {found}?" if found else ""
