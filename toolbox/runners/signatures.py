"""A Python function as a tool: its schema from type hints and docstring, and its arguments from JSON."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from ..decorator import CallContext, Options
from ..pipe import Offer


class UnusableError(ValueError):
    """The function cannot be a tool; the text says why."""


class ArgumentsError(ValueError):
    """The model's arguments do not fit; the text tells the model how."""


class Signature:
    """`offer` is what the model is told; `bind` makes the arguments of a call. Raises UnusableError."""

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        name = options.name or getattr(function, "__name__", "")
        parsed = docstring_parser.parse(inspect.getdoc(function) or "")
        if not parsed.description:
            raise UnusableError(f"{name} has no docstring, so the model cannot know when to call it")
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError) as exc:
            raise UnusableError(f"{name} has a type hint that cannot be read: {exc}") from None
        described = {each.arg_name: each.description for each in parsed.params if each.description}
        self._context: list[str] = []
        # By its name: the field that holds it. A field's own name must not be one of BaseModel's.
        self._fields: dict[str, str] = {}
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise UnusableError(f"{name}: {parameter} cannot be filled by name; write each parameter out")
            if parameter.name not in hints:
                raise UnusableError(f"{name}: {parameter.name} has no type hint")
            hint = hints[parameter.name]
            # Optional or annotated, too: the model must not be able to say who calls.
            if hint is CallContext or CallContext in typing.get_args(hint):
                self._context.append(parameter.name)
                continue
            default = ... if parameter.default is parameter.empty else parameter.default
            field = f"field_{len(fields)}"
            self._fields[parameter.name] = field
            fields[field] = (hint, Field(default, alias=parameter.name, description=described.get(parameter.name)))
        try:
            self._model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
            schema = self._model.model_json_schema()
        except PydanticUserError as exc:
            raise UnusableError(f"{name}: a type hint has no JSON schema: {exc.message}") from None
        schema.pop("description", None)
        self.offer = Offer(
            name,
            parsed.description.strip(),
            json.dumps(_without_titles(schema)),
            options.deadline_s,
            options.concurrency,
            options.side_effect,
            options.on_interruption,
            options.cancellable,
        )

    def bind(self, arguments: str, context: CallContext) -> dict[str, Any]:
        """The keyword arguments. Raises ArgumentsError."""
        try:
            values = self._model.model_validate_json(arguments or "{}")
        except ValidationError as exc:
            wrong = (
                f"{'.'.join(map(str, error['loc'])) or 'the arguments'}: {error['msg']}"
                for error in exc.errors(include_url=False, include_input=False, include_context=False)
            )
            raise ArgumentsError("; ".join(wrong)) from None
        bound = {name: getattr(values, field) for name, field in self._fields.items()}
        return bound | dict.fromkeys(self._context, context)


# Keys of a schema whose value maps names to schemas.
_NAMED: Final = frozenset(("properties", "$defs"))


def _without_titles(schema: Any) -> Any:
    """Without pydantic's titles, which repeat the names and cost tokens."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: _without_titles(each) for name, each in value.items()} if key in _NAMED else _without_titles(value)
        for key, value in schema.items()
        if key != "title"
    }
