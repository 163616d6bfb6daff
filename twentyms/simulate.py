"""`twentyms simulate model|carrier`: run the simulated Realtime model, or place calls as Twilio does."""

from __future__ import annotations

from collections.abc import Sequence

from shared.process import ConfigError
from simulator.model import server


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError for an unknown end."""
    match list(arguments):
        case ["model", *rest]:
            server.main(rest)
            return 0
        case _:
            raise ConfigError("usage: twentyms simulate model [...]")
