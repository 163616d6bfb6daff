"""Phrases that tell what is going on, whatever the model makes of them: the AI's goodbyes, and voicemail greetings.

Phrases of all languages are looked for at once: agents switch languages in mid-call. An agent's file adds its own.
"""

from __future__ import annotations

import re
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


# Of these, a person who calls says none: "I would like to leave a message" is a caller, "after the tone" is a machine.
_VOICEMAIL: Final = (
    # English
    "after the tone", "after the beep", "at the tone", "at the beep", "record your message", "leave your message after",
    "you have reached the voicemail", "you've reached the voicemail", "mailbox is full and cannot",
    "mailbox belonging to", "to leave a callback number", "forwarded to voicemail", "forwarded to an automated voice",
    "when you are finished recording",
    # German
    "nach dem signalton", "nach dem piepton", "nach dem ton", "die mailbox von", "die mobilbox von",
    # French
    "après le bip", "après le signal sonore", "vous êtes sur la messagerie", "vous êtes bien sur le répondeur",
    # Spanish
    "después del tono", "después de la señal", "después del pitido", "ha llamado al buzón",
    # Italian
    "dopo il segnale acustico", "dopo il bip", "risponde la segreteria",
    # Portuguese
    "após o sinal", "depois do sinal", "após o bip", "sua chamada está sendo encaminhada",
    # Dutch
    "na de piep", "na de toon", "na het signaal", "u spreekt met de voicemail",
)  # fmt: skip


def is_voicemail(text: str) -> bool:
    """Whether words of the caller are a voicemail greeting."""
    return _pattern(_VOICEMAIL).search(text.casefold()) is not None


def is_goodbye(text: str, more: tuple[str, ...] = ()) -> bool:
    """Whether words of the AI end with a goodbye. A question wants an answer, whatever stands before it."""
    end = text.casefold().rstrip(" \n\"')»”")[-GOODBYE_END:]
    return not end.endswith(("?", "？", "؟")) and _pattern((*_GOODBYES, *more)).search(end) is not None  # noqa: RUF001


@lru_cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the phrases, as whole words. Scripts without spaces have no word boundaries to ask for."""
    return re.compile("|".join(_as_words(phrase.casefold().strip()) for phrase in phrases if phrase.strip()))


def _as_words(phrase: str) -> str:
    escaped = r"\s+".join(map(re.escape, phrase.split()))
    return escaped if phrase[0] > "\u0e00" else rf"\b{escaped}\b"
