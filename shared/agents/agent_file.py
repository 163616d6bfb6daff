"""The keys of an agent's file, and the check of one file: all of its mistakes at once, one line each.

aibridge/agent.toml explains each key. A key is accepted here only when it has an effect.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from shared.alike import nearest

from . import destinations
from .destinations import Destination
from .numbers import normalised, written_as_it_should_be
from .variables import BUILT_IN, NAME, placeholders, zone

# How alike a wrong key and the right one have to be (1: the same) for the one to be the other, misspelt.
ALIKE: Final = 0.5
# Names of variables are short: "nmae" and "time" are 0.5 alike, "nmae" and "name" 0.75.
VARIABLES_ALIKE: Final = 0.7
_VARIABLE_OF_ENVIRONMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# What the Realtime API takes as the label of a server.
_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
# On the grid of txpacer's ticks; the bounds of TX_LEAD_MS.
LeadMs = Annotated[int, msgspec.Meta(ge=40, le=1_000, multiple_of=10)]


class TurnDetection(msgspec.Struct, frozen=True):
    """When a caller's turn begins and ends. Fields of the other type are allowed and have no effect."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = 0.5
    prefix_padding_ms: int | None = 300
    silence_duration_ms: int | None = 500
    idle_timeout_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class AgentRules(msgspec.Struct, frozen=True):
    """What an agent does in its own way. None: as the setting of that name says."""

    greeting_protect_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    barge_in: Literal["withdraw", "drain", "clear"] | None = None
    barge_in_confirm_ms: Annotated[int, msgspec.Meta(ge=0, le=2_000)] | None = None
    barge_in_early: Literal["on", "off"] | None = None
    barge_in_early_ms: Annotated[int, msgspec.Meta(ge=100, le=2_000)] | None = None
    barge_in_short_ms: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | None = None
    barge_in_threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    echo_guard: Literal["on", "remove", "off"] | None = None
    lead_ms: LeadMs | None = None
    lead_min_ms: LeadMs | None = None
    lead_max_ms: LeadMs | None = None


class SilenceRules(msgspec.Struct, frozen=True):
    """A caller who says nothing: after how long the AI asks for them, how often, and then it says goodbye."""

    after_seconds: Annotated[int, msgspec.Meta(ge=0, le=3_600)] = 120
    nudges: Annotated[int, msgspec.Meta(ge=0, le=20)] = 1
    # After a goodbye of the AI; 0: a goodbye ends nothing.
    goodbye_seconds: Annotated[int, msgspec.Meta(ge=0, le=3_600)] = 8
    # Words of a goodbye that aibridge/core/phrases.py does not know.
    goodbyes: tuple[str, ...] = ()


class Keypad(msgspec.Struct, frozen=True):
    """Keys that the caller presses: when an entry is complete, what it stops, and who learns of it."""

    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.2, le=60)] = 2.0
    terminator: Literal["", "#", "*", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] = "#"
    length: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    interrupts: bool = False
    secret: bool = False


class ModelServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An MCP server that the model's own server reaches. Its tools run there: toolbox sees nothing of them."""

    name: str
    url: str
    # The only tools that the model may call.
    only: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    description: str = ""
    # The name of the environment variable that holds the access token.
    token_env: str = ""


class AgentFile(msgspec.Struct, frozen=True):
    """An agent as its file describes it. The defaults are those of agent.toml, its words apart."""

    instructions: str
    voice: str = "marin"
    greeting: str = ""
    greeting_file: str = ""
    fallback: str = ""
    fallback_file: str = ""
    language: str = "en"
    transcription_model: str = "gpt-transcribe"
    reasoning_effort: Literal["", "minimal", "low", "medium", "high", "xhigh"] = "low"
    end_call: bool = True
    send_dtmf: bool = False
    # What becomes of a call in which a voicemail greeting speaks.
    voicemail: Literal["ignore", "end"] = "ignore"
    recording: Literal["default", "on", "off"] = "default"
    recording_notice: str = ""
    recording_notice_file: str = ""
    # The called numbers that this agent answers, and whether it answers all others.
    numbers: tuple[str, ...] = ()
    default: bool = False
    # Empty: the setting's. `api_key_env` is the name of the environment variable that holds the key.
    model: str = ""
    base_url: str = ""
    api_key_env: str = ""
    # For {{date}} and {{time}}.
    timezone: str = "UTC"
    # The variables that CALL_CONFIG_URL may set, with their values when it does not.
    variables: dict[str, str] = {}
    turn_detection: TurnDetection = TurnDetection()
    rules: AgentRules = AgentRules()
    silence: SilenceRules = SilenceRules()
    keypad: Keypad = Keypad()
    # 0: as long as the caller wants.
    max_call_minutes: Annotated[float, msgspec.Meta(ge=0, le=1_440)] = 0
    # While a tool works and nobody speaks, the model says so after this; 0: it does not.
    filler_after_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 3.0
    # By name, whom `transfer_call` may call; and the agents to whom `hand_off` may give the call, with when to do so.
    transfer: dict[str, Destination] = {}
    hand_off: dict[str, str] = {}
    mcp: tuple[ModelServer, ...] = ()
    # toolbox/config.py reads and checks it.
    tools: dict[str, Any] = {}


_TABLES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "turn_detection": TurnDetection,
    "rules": AgentRules,
    "silence": SilenceRules,
    "keypad": Keypad,
}
# Tables of tables, each of this kind.
_TABLES_BY_NAME: Final[Mapping[str, type[msgspec.Struct]]] = {"transfer": Destination}
# Words that only the model speaks or reads can hold variables.
_WORDS: Final = ("instructions", "greeting")
_FIXED_WORDS: Final = ("recording_notice", "fallback")


def read(text: bytes) -> tuple[AgentFile | None, list[str]]:
    """The agent in a file's text, and a line `key: what; what to do` for each mistake.

    With mistakes, the agent has the keys that are good, for the checks of the directory; None: it is not TOML.
    """
    try:
        table = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        return None, [f"it is not TOML ({exc}); compare it with aibridge/agent.toml"]
    fields, problems = _fields(AgentFile, table, "")
    if "instructions" not in table:
        problems.append("instructions: missing; say here what the model is")
    agent = AgentFile(**({"instructions": "?"} | fields))
    wrong = table.keys() - fields.keys()
    # What follows from a key that is wrong itself is not a mistake of its own.
    if "api_key_env" not in wrong:
        problems += _mistakes(agent)
    if "variables" not in wrong:
        problems += _mistakes_with_variables(agent)
    return agent, problems


def _fields(kind: type[msgspec.Struct], table: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], list[str]]:
    """The valid fields of a table, and a line for each other key."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in table.items():
        if key not in types:
            right = nearest(key, types, ALIKE)
            advice = f"did you mean {prefix}{right}?" if right else "take it out; docs/agents.md has the keys"
            problems.append(f"{prefix}{key}: there is no such key; {advice}")
        elif not prefix and key in _TABLES and isinstance(value, dict):
            fields, more = _fields(_TABLES[key], value, f"{key}.")
            problems += more
            if not more:
                found[key] = _TABLES[key](**fields)
        elif not prefix and key in _TABLES_BY_NAME and _is_table_of_tables(value):
            found[key], more = _by_name(_TABLES_BY_NAME[key], key, value)
            problems += more
        else:
            try:
                found[key] = msgspec.convert(value, types[key])
            except msgspec.ValidationError as exc:
                problems.append(f"{prefix}{key}: {exc}; {_advice(types[key])}")
    return found, problems


def _is_table_of_tables(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def _by_name(
    kind: type[msgspec.Struct], key: str, tables: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, msgspec.Struct], list[str]]:
    """The valid tables of a table of tables, and a line for each wrong key in them."""
    found: dict[str, msgspec.Struct] = {}
    problems: list[str] = []
    for name, table in tables.items():
        fields, more = _fields(kind, table, f"{key}.{name}.")
        problems += more
        if not more:
            found[name] = kind(**fields)
    return found, problems


def _advice(kind: Any) -> str:
    """How a value of this type is written."""
    choices = [choice for part in (kind, *get_args(kind)) for choice in get_args(part) if isinstance(choice, str)]
    if choices:
        return "write one of " + ", ".join(f'"{choice}"' for choice in choices)
    text = str(kind)
    for part, advice in (
        ("ModelServer", "write name, url and only under [[mcp]]"),
        ("dict", "write a table of texts in quotes"),
        ("tuple", 'write a list of texts in quotes: ["...", "..."]'),
        ("bool", "write true or false"),
        ("float", "write a number"),
        ("int", "write a whole number within these bounds"),
        ("str", "write a text in quotes"),
    ):
        if part in text:
            return advice
    return "write it as a table"


def _mistakes(agent: AgentFile) -> Iterator[str]:
    """What is wrong with values that are valid by themselves."""
    if not agent.instructions.strip():
        yield "instructions: empty; say here what the model is"
    for number in agent.numbers:
        if not written_as_it_should_be(number):
            yield f'numbers: "{number}" is not a whole number; write it with its country: "+15550100", or a SIP address'
    if len({normalised(number) for number in agent.numbers}) < len(agent.numbers):
        yield "numbers: a number stands there twice; take one out"
    if agent.base_url:
        parts = urlsplit(agent.base_url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            yield "base_url: not a URL; write it as https://host/v1"
        elif not agent.api_key_env:
            yield "base_url: needs api_key_env, or it would get the key of OPENAI_API_KEY; name the variable of its key"
    if agent.api_key_env and not _VARIABLE_OF_ENVIRONMENT.fullmatch(agent.api_key_env):
        yield "api_key_env: not the name of an environment variable; write the key into .env, and its name here"
    for server in agent.mcp:
        if not _LABEL.fullmatch(server.name):
            yield f'mcp: "{server.name}" is not a name; write letters, digits, "-" and "_"'
        if urlsplit(server.url).scheme not in ("http", "https") or not urlsplit(server.url).hostname:
            yield f"mcp: the url of {server.name} is not a URL; write it as https://host/path"
        if server.token_env and not _VARIABLE_OF_ENVIRONMENT.fullmatch(server.token_env):
            yield f"mcp: token_env of {server.name} is not the name of an environment variable"
    if len({server.name for server in agent.mcp}) < len(agent.mcp):
        yield "mcp: a name stands there twice; give each server its own"
    try:
        zone(agent.timezone)
    except (KeyError, OSError, ValueError):
        yield f'timezone: "{agent.timezone}" is not known here; write a name such as "Europe/Berlin"'
    if agent.voicemail == "end" and not agent.transcription_model:
        yield "voicemail: greetings are recognised by their words; name a transcription_model"
    yield from destinations.mistakes(agent.transfer, agent.hand_off)
    if agent.keypad.secret and not agent.tools:
        yield "keypad.secret: nobody would get the keys, because only tools do; declare a tool that reads them"
    for words in ("greeting", "recording_notice"):
        if getattr(agent, f"{words}_file") and not getattr(agent, words):
            yield f"{words}_file: its words are missing; write them into {words}, for the model to know"


def _mistakes_with_variables(agent: AgentFile) -> Iterator[str]:
    for name in agent.variables:
        if not NAME.fullmatch(name):
            yield f'variables: "{name}" is not a name; write letters, digits and "_"'
        elif name in BUILT_IN:
            yield f"variables: {name} has a value in every call; take it out"
    known = [*BUILT_IN, *agent.variables]
    for key in _WORDS:
        for name in placeholders(getattr(agent, key)):
            if name not in known:
                right = nearest(name, known, VARIABLES_ALIKE)
                advice = f"did you mean {right}? Or declare" if right else "declare"
                yield f'{key}: {{{{{name}}}}} is not a variable; {advice} it: [variables] {name} = "its default"'
    if agent.greeting_file and placeholders(agent.greeting):
        yield "greeting_file: a recording says the same to everyone; take the variables out of greeting"
    for key in _FIXED_WORDS:
        if placeholders(getattr(agent, key)):
            yield f"{key}: variables have no effect here; take them out"
