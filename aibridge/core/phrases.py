"""Phrases that tell what is going on, whatever the model makes of them: the AI's goodbyes.

Phrases of all languages are looked for at once: agents switch languages in mid-call. An agent's file adds its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

# A goodbye stands at the end of what is said: within so many characters.
GOODBYE_END: Final = 90
_GOODBYES: Final = (
    # English
    "goodbye", "good-bye", "good bye", "bye", "bye-bye", "farewell", "take care", "have a great day", "have a nice day",
    "have a good day", "have a lovely day", "have a wonderful day", "have a good evening", "have a good night",
    # German
    "auf wiederhören", "auf wiedersehen", "tschüss", "tschüs", "ciao", "bis bald", "schönen tag noch", "schönen abend",
    # French
    "au revoir", "à bientôt", "bonne journée", "bonne soirée",
    # Spanish
    "adiós", "hasta luego", "hasta pronto", "que tenga un buen día",
    # Italian
    "arrivederci", "arrivederla", "buona giornata", "buona serata",
    # Portuguese
    "tchau", "adeus", "até logo", "tenha um bom dia",
    # Dutch
    "tot ziens", "dag hoor", "fijne dag",
)  # fmt: skip


def is_goodbye(text: str, more: tuple[str, ...] = ()) -> bool:
    """Whether words of the AI end with a goodbye. A question wants an answer, whatever stands before it."""
    end = text.casefold().rstrip(" \n\"')»”")[-GOODBYE_END:]
    return not end.endswith(("?", "？", "؟")) and _pattern((*_GOODBYES, *more)).search(end) is not None  # noqa: RUF001


@lru_cache
def _pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """Any of the phrases, as whole words. Scripts without spaces have no word boundaries to ask for."""
    return re.compile("|".join(_as_words(phrase.casefold().strip()) for phrase in phrases if phrase.strip()))


def _as_words(phrase: str) -> str:
    escaped = r"\s+".join(map(re.escape, phrase.split()))
    return escaped if phrase[0] > "\u0e00" else rf"\b{escaped}\b"
