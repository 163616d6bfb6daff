"""The URL of an HTTP tool: a template whose placeholders are arguments, or facts of the phone call."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

# Facts of the phone call that a template may name.
FACTS: Final = frozenset(("call.call_sid", "call.from_number", "call.to_number", "call.agent", "call.digits"))


def placeholders(template: str) -> Iterator[str]:
    """The names in `{}`. Raises ValueError for braces that do not match, and for conversions and formats."""
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if form or conversion or not name:
            raise ValueError(f"{{{name}}} has to be the name of a parameter and nothing else")
        yield name


def check(template: str, parameters: Mapping[str, object]) -> None:
    """Raises ValueError unless it is http(s), its host is fixed, and its placeholders are known."""
    names = set(placeholders(template))
    unknown = sorted(names - parameters.keys() - FACTS)
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} is neither a parameter nor one of {', '.join(sorted(FACTS))}")
    parts = urlsplit(template)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("has to begin with http:// or https:// and a host")
    # Whoever talks to the agent must not choose the server.
    if "{" in parts.netloc:
        raise ValueError("must not have a placeholder in its host")
    if parts.username or parts.password:
        raise ValueError("must not hold a password; use headers")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The URL. Raises ValueError for a value that would be another path: empty, `.` or `..`."""
    path, _, query = template.partition("?")
    for name in placeholders(path):
        if not values[name].strip("."):
            raise ValueError(f"{name} is not a name")
    quoted = {name: quote(value, safe="") for name, value in values.items()}
    url = substitute(path, quoted)
    return f"{url}?{substitute(query, quoted)}" if query else url


def substitute(text: str, values: Mapping[str, str]) -> str:
    """`text` with a value in the place of each `{name}`."""
    return "".join(
        literal + (values[name] if name is not None else "") for literal, name, _, _ in string.Formatter().parse(text)
    )
