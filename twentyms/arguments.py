"""The arguments of a verb."""

from __future__ import annotations

from shared import arguments


class Parser(arguments.Parser):
    """`text` is the verb's help, printed as it stands."""

    def __init__(self, verb: str, text: str | None) -> None:
        super().__init__(f"twentyms {verb}", text)
