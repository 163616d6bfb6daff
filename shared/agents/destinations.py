"""To whom an agent may pass its callers on: the tables [transfer.NAME] and [hand_off] of its file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec

from .numbers import normalised, written_as_it_should_be

# The model reads these names, and names one of them.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


class Destination(msgspec.Struct, frozen=True):
    """Somebody to whom `transfer_call` connects the caller."""

    # A number with its country, or a SIP address.
    to: str = ""
    # When to do so, for the model.
    description: str = ""
    # What the called party sees: the caller's number where the carrier permits it, or the number that was called.
    caller_id: Literal["caller", "own"] = "caller"
    # How long their phone rings.
    timeout_s: Annotated[int, msgspec.Meta(ge=5, le=120)] = 20

    @property
    def address(self) -> str:
        """`to` as the carrier takes it."""
        address = normalised(self.to)
        return f"sip:{address}" if "@" in address else address


def mistakes(transfer: Mapping[str, Destination], hand_off: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the destinations of one file."""
    for name, destination in transfer.items():
        if not NAME.fullmatch(name):
            yield f'transfer: "{name}" is not a name; write letters, digits, "-" and "_"'
        if not destination.to:
            yield f"transfer.{name}.to: missing; write a number with its country, or a SIP address"
        elif not written_as_it_should_be(destination.to):
            yield (
                f'transfer.{name}.to: "{destination.to}" is not a whole number; write it with its country: '
                '"+15550100", or a SIP address'
            )
    for name in hand_off:
        if not NAME.fullmatch(name):
            yield f'hand_off: "{name}" is not the name of an agent; write the name of its file without .toml'
