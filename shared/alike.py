"""The right word for a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# How alike two words have to be (1: the same) for the one to be the other, misspelt.
ALIKE: Final = 0.6


def nearest(wrong: str, known: Iterable[str], alike: float = ALIKE) -> str:
    """The known word that is most like the wrong one, or ""."""
    # Not at the top of the file: a process whose settings are right has no misspelt word.
    import difflib

    return next(iter(difflib.get_close_matches(wrong, list(known), 1, alike)), "")
