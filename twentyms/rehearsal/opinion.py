"""What a text model thinks of a transcript: for what no rule can say, such as "the agent stayed polite"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from openai import AsyncOpenAI, OpenAIError
from openai.types.responses import ResponseTextConfigParam

from shared.process import ConfigError

from .judgement import Rehearsed

INSTRUCTIONS: Final = (
    "You judge the transcript of a telephone call with an AI agent. You get the transcript and one statement. Say "
    "whether the statement is true of the call, and why, in one short sentence that quotes the transcript."
)
_FORM: Final[ResponseTextConfigParam] = {
    "format": {
        "type": "json_schema",
        "name": "opinion",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"is_true": {"type": "boolean"}, "why": {"type": "string"}},
            "required": ["is_true", "why"],
            "additionalProperties": False,
        },
    }
}
# Questions that are open at a time.
AT_ONCE: Final = 8


class _Opinion(msgspec.Struct, frozen=True):
    is_true: bool
    why: str


def ask(rehearsed: Sequence[Rehearsed], *, model: str, api_key: str, base_url: str) -> None:
    """Add a problem for each statement that the model does not find true.

    Raises ConfigError when the model cannot be asked.
    """
    try:
        asyncio.run(_ask(rehearsed, model, AsyncOpenAI(api_key=api_key, base_url=base_url or None)))
    except OpenAIError as exc:
        raise ConfigError(
            f"the model {model} gave no opinion ({type(exc).__name__}); name another with --judge, or leave it out"
        ) from None


async def _ask(rehearsed: Sequence[Rehearsed], model: str, client: AsyncOpenAI) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(each: Rehearsed, statement: str) -> None:
        async with room:
            answer = await client.responses.create(
                model=model,
                instructions=INSTRUCTIONS,
                input=f"Transcript:\n{each.transcript}\n\nStatement: {statement}",
                text=_FORM,
                store=False,
            )
        try:
            opinion = msgspec.json.decode(answer.output_text, type=_Opinion)
        except msgspec.DecodeError:
            each.problems.append(f'no opinion on "{statement}": the model {model} did not answer in the asked form')
            return
        if not opinion.is_true:
            each.problems.append(f'not true: "{statement}": {opinion.why}')

    async with client:
        await asyncio.gather(*(one(each, text) for each in rehearsed for text in each.scenario.expect.opinion))
