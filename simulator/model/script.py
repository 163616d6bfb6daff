"""A script for the simulated model: what a model without ears can know is enough to hold a conversation.

It knows whose turn it is, that it was interrupted, which keys were pressed, which tools the session lists, and their
answers. Where it stands in its script follows from the conversation alone, so a new session that is told the history
goes on where the old one ended. `scripts/` holds the scripts, and restaurant.toml explains their keys.

A tool that the script does not know is called, too: one at each turn of the caller, before the script goes on, with
arguments that its schema permits.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from ..voice import Speech, clip
from .items import Conversation, Item
from .response import Part

SCRIPTS: Final = Path(__file__).parent.parent / "scripts"
# Ends the call; a script calls it where it says so.
ENDING: Final = "end_call"
OF_THE_PHONE: Final = frozenset((ENDING, "transfer_call", "hand_off", "send_dtmf"))
# What a client asks for in the instructions of a response, by a part of its words.
ASKED: Final = (
    ("goodbye", "script-goodbye"),
    ("still there", "still-there"),
    ("waiting for", "still-looking"),
    ("say it again", "say-again"),
    ("recorded", "call-is-recorded"),
)
# Words that begin alike are the same line, also if its end was cut off.
SAME: Final = 12
# Parts of an answer that say that the tool did not do it.
FAILED: Final = ("error", "not carried out", "not known whether", "do not fit", "stopped", "crashed", "failed")
# A key that the caller pressed is told in a message that names it so.
PRESSED: Final = "press"
# How deep arguments are made: a schema may refer to itself.
DEEPEST: Final = 8


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"part": "with"}):
    part: str
    say: str


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    say: str = ""
    tool: str = ""
    arguments: dict[str, Any] = {}
    answers: tuple[Answer, ...] = ()
    # The call is over after these words.
    ends: bool = False


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    greeting: str
    interrupted_greeting: str
    interrupted: tuple[str, ...]
    keys: str
    steps: tuple[Step, ...]
    on_keys: dict[str, Step] = {}
    tools: tuple[str, ...] = ()


@cache
def scripts() -> tuple[Script, ...]:
    """All scripts; the last one is for any session."""
    paths = sorted(SCRIPTS.glob("*.toml"), key=lambda path: path.stem == "any")
    return tuple(msgspec.convert(tomllib.loads(path.read_text()), Script) for path in paths)


def parts(
    conversation: Conversation,
    tools: Sequence[Mapping[str, Any]],
    instructions: str,
    *,
    interrupted: bool,
    draw_seed: Callable[[], int],
) -> list[Part]:
    """What the next response consists of.

    `tools` are those of the session that may be called, `instructions` those of this response alone. `interrupted`: the
    caller broke off the response before.
    """
    listed = {str(each["name"]): each for each in tools if each.get("type") == "function" and "name" in each}
    script = next(each for each in scripts() if set(each.tools) <= set(listed))
    talk = _Talk(script, list(conversation), listed, draw_seed)
    return list(talk.asked(instructions.lower()) or talk.next(interrupted))


class _Talk:
    """One conversation as the script sees it."""

    def __init__(
        self,
        script: Script,
        items: Sequence[Item],
        listed: Mapping[str, Mapping[str, Any]],
        draw_seed: Callable[[], int],
    ) -> None:
        self._script = script
        self._listed = listed
        self._draw_seed = draw_seed
        self._items = items
        self._said = [_words(item) for item in items if item.role == "assistant"]
        self._called = [item for item in items if item.type == "function_call"]

    def asked(self, instructions: str) -> list[Part]:
        """The words that a client's instructions ask for; none when they ask for nothing special."""
        if "greet the caller" in instructions:
            return [self._speech(self._script.greeting)]
        return [self._speech(line) for part, line in ASKED if part in instructions][:1]

    def next(self, interrupted: bool) -> Iterator[Part]:
        if line := self._after_tools():
            yield self._speech(line)
        elif not self._said:
            yield self._speech(self._script.greeting)
        elif interrupted:
            yield self._speech(self._interrupted())
        elif self._items[-1].type == "message" and PRESSED in _told(self._items[-1]):
            keys = _told(self._items[-1]).rpartition(" ")[2].rstrip(")")
            yield from self._carried_out(self._script.on_keys.get(keys, Step(say=self._script.keys)))
        elif unknown := self._unknown_tool():
            arguments = made_arguments(self._listed[unknown].get("parameters") or {})
            yield self._speech("tool-calling", phase="commentary")
            yield Part(call=(unknown, json.dumps(arguments)))
        else:
            yield from self._step()

    def _after_tools(self) -> str:
        """The words about the last answer that nothing was said about; empty: there is none."""
        for item in reversed(self._items):
            if item.role == "assistant":
                break
            if item.type == "function_call_output":
                return self._about(item)
        return ""

    def _about(self, answer: Item) -> str:
        call_id, output = answer.function["call_id"], answer.function["output"].lower()
        name = next((each.function["name"] for each in self._called if each.function["call_id"] == call_id), "")
        for step in (*self._script.steps, *self._script.on_keys.values()):
            for known in step.answers if step.tool == name else ():
                if known.part.lower() in output:
                    return known.say
        return "tool-failed" if any(part in output for part in FAILED) else "tool-answered"

    def _interrupted(self) -> str:
        if len(self._said) == 1:
            return self._script.interrupted_greeting
        lines = self._script.interrupted
        return lines[sum(self._is_said(line) for line in lines) % len(lines)]

    def _unknown_tool(self) -> str:
        known = {step.tool for step in self._script.steps} | OF_THE_PHONE
        called = {each.function["name"] for each in self._called}
        return next((name for name in self._listed if name not in known | called), "")

    def _step(self) -> Iterator[Part]:
        steps = [step for step in self._script.steps if not step.tool or step.tool in self._listed]
        step = next((step for step in steps if not self._is_done(step)), None)
        if step is None:  # it was the last one: begin again, or say the goodbye once more
            turns = sum(item.role == "user" for item in self._items)
            step = steps[-1] if steps[-1].ends else steps[turns % len(steps)]
        yield from self._carried_out(step)

    def _carried_out(self, step: Step) -> Iterator[Part]:
        if step.tool and step.tool not in self._listed:
            step = Step(say=self._script.keys)
        if step.say:
            yield self._speech(step.say, phase="commentary" if step.tool else "final_answer")
        if step.tool:
            yield Part(call=(step.tool, json.dumps(step.arguments)))
        if step.ends and ENDING in self._listed:
            yield Part(call=(ENDING, "{}"))

    def _is_done(self, step: Step) -> bool:
        if step.tool:
            return any(each.function["name"] == step.tool for each in self._called)
        return self._is_said(step.say)

    def _is_said(self, line: str) -> bool:
        words = clip(line).text[:SAME]
        return any(said[:SAME] == words[: len(said)] for said in self._said if said)

    def _speech(self, line: str, phase: Any = "final_answer") -> Part:
        chosen = clip(line)
        return Part(speech=Speech(chosen.text, chosen.audio, self._draw_seed(), len(chosen.audio)), phase=phase)


def _words(item: Item) -> str:
    return item.speech.text if item.speech is not None else item.transcript.strip()


def _told(item: Item) -> str:
    """The words that the client put into the conversation; none of a caller's audio."""
    return " ".join(str(part.get("text", "")) for part in item.content).lower()


def made_arguments(schema: Mapping[str, Any]) -> Any:
    """A value that a JSON schema permits: its required fields alone, with values that a reader recognises."""
    return _made(schema, schema.get("$defs", {}), "", 0)


# What a text is likely to hold, by a part of its name.
_TEXTS: Final = (
    ("day", "Saturday"),
    ("date", "2026-12-05"),
    ("time", "19:00"),
    ("mail", "ada@example.com"),
    ("phone", "+15550100"),
    ("number", "12345"),
    ("name", "Ada"),
    ("city", "Berlin"),
)
_FORMATS: Final = {
    "date": "2026-12-05",
    "time": "19:00:00",
    "date-time": "2026-12-05T19:00:00Z",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def _made(schema: Mapping[str, Any], definitions: Mapping[str, Any], name: str, depth: int) -> Any:
    if depth > DEEPEST:
        return None
    if reference := schema.get("$ref"):
        return _made(definitions.get(str(reference).rsplit("/", 1)[-1], {}), definitions, name, depth + 1)
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _made(schema[key][0], definitions, name, depth + 1)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {
                each: _made(fields.get(each, {}), definitions, each, depth + 1) for each in schema.get("required", ())
            }
        case "array":
            item = schema.get("items", {})
            return [_made(item, definitions, name, depth + 1) for _ in range(max(1, schema.get("minItems", 1)))]
        case "integer" | "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 1) + 1)
            return min(least, schema.get("maximum", least))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            text = _FORMATS.get(schema.get("format", ""))
            return text or next((text for part, text in _TEXTS if part in name.lower()), "something")
