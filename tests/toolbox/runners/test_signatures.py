"""Python functions as tools: schemas from hints and docstrings, and arguments from JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from toolbox.decorator import CallContext, Options, tool
from toolbox.runners.signatures import ArgumentsError, Signature, UnusableError

CONTEXT = CallContext("CA1", "call_1", "restaurant", "inbound", "+15550001", "+15550002", {"name": "Ann"})


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Guest(BaseModel):
    name: str
    title: str = ""


def book(
    day: str,
    guests: int,
    size: Size = Size.SMALL,
    when: Literal["noon", "evening"] = "evening",
    note: Annotated[str, Field(max_length=10)] = "",
    schema: list[Guest] | None = None,
    *,
    call: CallContext,
    same: CallContext | None = None,
) -> str:
    """Book a table.

    Say the day in English.

    Args:
        day: The day of the week.
        guests: How many come,
            children included.
    """
    return day


def signature(function: Callable[..., Any], **options: Any) -> Signature:
    return Signature(function, Options(**options))


def test_the_schema_holds_hints_defaults_and_descriptions_and_not_the_context() -> None:
    offer = signature(book, deadline_s=3, side_effect=False).offer
    assert (offer.name, offer.deadline_s, offer.side_effect) == ("book", 3, False)
    assert offer.description == "Book a table.\n\nSay the day in English."
    schema = json.loads(offer.parameters)
    assert schema["required"] == ["day", "guests"]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == ["day", "guests", "size", "when", "note", "schema"]
    assert schema["properties"]["day"] == {"description": "The day of the week.", "type": "string"}
    assert schema["properties"]["guests"]["description"] == "How many come,\nchildren included."
    assert schema["properties"]["note"] == {"default": "", "maxLength": 10, "type": "string"}
    # Pydantic's titles cost tokens; a parameter or field may have that name.
    assert schema["$defs"]["Guest"]["properties"] == {
        "name": {"type": "string"},
        "title": {"default": "", "type": "string"},
    }


def test_arguments_become_values_of_the_hinted_types_and_the_context_is_filled_in() -> None:
    arguments = '{"day": "Sunday", "guests": "4", "size": "large", "schema": [{"name": "Ann"}]}'
    assert signature(book).bind(arguments, CONTEXT) == {
        "day": "Sunday",
        "guests": 4,
        "size": Size.LARGE,
        "when": "evening",
        "note": "",
        "schema": [Guest(name="Ann")],
        "call": CONTEXT,
        "same": CONTEXT,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{}", "day: Field required; guests: Field required"),
        ('{"day": "Sunday", "guests": "many"}', "guests: Input should be a valid integer"),
        ('{"day": "Sunday", "guests": 2, "call": {}}', "call: Extra inputs"),
        ("[]", "the arguments: Input should be an object"),
        ('{"day": ', "the arguments: Invalid JSON"),
    ],
)
def test_wrong_arguments_are_explained_to_the_model(arguments: str, words: str) -> None:
    with pytest.raises(ArgumentsError, match=words):
        signature(book).bind(arguments, CONTEXT)


def undocumented(day: str) -> None:
    pass


def unhinted(day) -> None:  # type: ignore[no-untyped-def]
    """Do it."""


def unnamed(*days: str) -> None:
    """Do it."""


def misspelt(day: "Strin") -> None:  # type: ignore[name-defined]  # noqa: F821, UP037
    """Do it."""


def no_schema(day: Callable[[], None]) -> None:
    """Do it."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (undocumented, "has no docstring"),
        (unhinted, "day has no type hint"),
        (unnamed, "write each parameter out"),
        (misspelt, "type hint that cannot be read"),
        (no_schema, "has no JSON schema"),
    ],
)
def test_a_function_that_cannot_be_a_tool_says_why(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(UnusableError, match=words):
        signature(function)


def test_the_decorator_leaves_the_function_as_it_is_and_refuses_impossible_options() -> None:
    assert tool(undocumented) is undocumented
    assert tool(deadline_s=3)(undocumented) is undocumented
    with pytest.raises(ValueError, match="deadline_s"):
        tool(deadline_s=0)
    with pytest.raises(ValueError, match="cancellable"):
        tool(on_interruption="cancel", cancellable=False)
