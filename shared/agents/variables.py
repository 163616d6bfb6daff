"""`{{variables}}` in an agent's words, and their values in a call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Final

from shared.plan import CallPlan

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# These have a value in every call.
BUILT_IN: Final = ("from_number", "to_number", "direction", "agent", "date", "time", "weekday")
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PLACEHOLDER: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")


def placeholders(text: str) -> list[str]:
    """The names in the double braces of a text, each once."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(text)))


def zone(name: str) -> tzinfo:
    """The time zone of this name. Raises KeyError, ValueError or OSError. UTC exists without the system's data."""
    if name == "UTC":
        return UTC
    # The check of an agent with a time zone loads this. For the others, it would be 0.3 MB for nothing.
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def values(plan: CallPlan, agent: str, timezone: str, defaults: Mapping[str, str]) -> dict[str, str]:
    """The variables of a call: `defaults`, what the plan says of them, and those that every call has.

    Variables of the plan that the agent does not declare are left out.
    """
    made = datetime.fromtimestamp(plan.made_ms / 1_000, zone(timezone))
    return {
        **defaults,
        **{name: value for name, value in plan.variables.items() if name in defaults},
        "from_number": plan.from_number or "unknown",
        "to_number": plan.to_number or "unknown",
        "direction": plan.direction,
        "agent": agent,
        "date": f"{made:%Y-%m-%d}",
        "time": f"{made:%H:%M}",
        "weekday": _WEEKDAYS[made.weekday()],
    }


def fill(text: str, known: Mapping[str, str]) -> str:
    """Replace each `{{name}}`. An unknown name stays as it is; the check of the file finds it."""
    if "{{" not in text:
        return text
    return _PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text)
