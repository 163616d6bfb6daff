"""The tools that the agents' files declare: the table `[tools]`, read, checked, and with secrets filled in.

docs/agents.md explains each key. shared/agents/agent_file.py has the other keys of an agent's file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Final, Literal

import jmespath
import msgspec
from dotenv import dotenv_values
from jmespath.exceptions import JMESPathError

from shared.agents.choice import FoundAgent
from shared.agents.directory import AgentsError, read_directory, read_file
from shared.settings import Settings

from .core import urls
from .pipe import Kind

# What the Realtime API takes as the name of a function.
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Of the system itself.
RESERVED: Final = frozenset(("end_call", "transfer_call", "send_dtmf", "hand_off"))

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")


class Limits(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What every kind of tool may say about itself."""

    deadline_s: float = 10.0
    concurrency: int = 8
    side_effect: bool | None = None
    on_interruption: Literal["continue", "cancel"] = "continue"
    cancellable: bool = True


class Parameter(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    description: str = ""
    type: Literal["string", "integer", "number", "boolean"] = "string"
    choices: list[str] = []
    optional: bool = False


class HttpTool(Limits, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A request. Parameters that the URL does not name go into its query, or as JSON into the body."""

    description: str
    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    parameters: dict[str, Parameter] = {}
    # Sent like parameters, and unknown to the model.
    hidden: dict[str, str] = {}
    headers: dict[str, str] = {}
    # JMESPath: the part of a JSON answer that the model gets. Empty: the whole answer.
    answer: str = ""
    allow_private: bool = False

    @property
    def has_side_effect(self) -> bool:
        return self.method != "GET" if self.side_effect is None else self.side_effect


class McpServer(Limits, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A server that is started (`command`) or reached (`url`). Its tools are called NAME_TOOL."""

    command: list[str] = []
    url: str = ""
    env: dict[str, str] = {}
    headers: dict[str, str] = {}
    # The only ones to use, by the server's own names. Empty: all.
    only: list[str] = []
    # Set here: its name in the file, and where a command runs.
    name: str = ""
    directory: str = ""


class Tools(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The table `[tools]`."""

    python: list[str] = []
    http: dict[str, HttpTool] = {}
    mcp: dict[str, McpServer] = {}


class Source(msgspec.Struct, frozen=True):
    """What one pool of child processes runs. Sources with the same config are one."""

    kind: Kind
    # For the log.
    label: str
    # JSON, for the child.
    config: bytes

    @property
    def key(self) -> str:
        return f"{self.kind} {self.config.decode()}"


class AgentSources(msgspec.Struct, frozen=True):
    """The tools of one agent: each source, and the prefix of its tools' names inside the source."""

    agent: str
    sources: tuple[tuple[Source, str], ...]


def name_fault(name: str, others: Container[str]) -> str:
    """Why an agent that has the tools `others` cannot have one with this name, too; empty: it can."""
    if name in others or name in RESERVED:
        return "taken"
    return "" if NAME.fullmatch(name) else "not one of letters, digits, _ and -"


def environment(directory: Path) -> dict[str, str]:
    """The variables of `.env`, overridden by those of the process."""
    return {name: value for name, value in dotenv_values(directory / ".env").items() if value} | dict(os.environ)


def _found(settings: Settings) -> list[FoundAgent]:
    """Raises AgentsError, as gateway and aibridge do for the same mistakes."""
    if settings.agents_dir is not None:
        return list(read_directory(settings.agents_dir).agents.values())
    if settings.agent_file is None:
        return []
    found, problems = read_file(settings.agent_file, f"AGENT_FILE {settings.agent_file} is not an agent")
    if found is None:
        raise AgentsError(problems)
    return [found]


def load(settings: Settings, directory: Path = Path()) -> list[AgentSources]:
    """The tools of all agents that have some. Raises AgentsError for files that cannot be used.

    `directory` holds the `.env` with the values of `${NAME}`.
    """
    declared = [found for found in _found(settings) if found.file.tools]
    variables = environment(directory) if declared else {}
    problems: list[str] = []
    checked: dict[str, tuple[Path, Tools]] = {}
    for found in declared:
        try:
            tools = _filled(msgspec.convert(found.file.tools, Tools), variables)
            _check(found.path, tools)
        except ValueError as exc:  # msgspec's errors are of this kind
            problems.append(f"{found.path}: tools: {exc}; docs/agents.md explains the keys")
        else:
            checked[found.name] = (found.path, tools)
    if problems:
        raise AgentsError(problems)
    # One child makes the requests of all agents.
    http = {f"{agent}/{tool}": each for agent, (_, tools) in checked.items() for tool, each in tools.http.items()}
    every = [_sources(name, path, tools, http) for name, (path, tools) in checked.items()]
    return [agent for agent in every if agent.sources]


def _check(path: Path, tools: Tools) -> None:
    """Raises ValueError."""
    for file in tools.python:
        if not (path.parent / file).is_file():
            raise ValueError(f"there is no file {file} beside it")
    for name, tool in tools.http.items():
        where = f"http.{name}"
        if not NAME.fullmatch(name) or name in RESERVED:
            raise ValueError(f"{where}: a name has letters, digits, _ and -, and is not one of the system's own")
        _check_limits(where, tool)
        try:
            urls.check(tool.url, tool.parameters)
            for value in tool.hidden.values():
                if unknown := set(urls.placeholders(value)) - urls.FACTS:
                    raise ValueError(f"{{{unknown.pop()}}} is not one of {', '.join(sorted(urls.FACTS))}")
        except ValueError as exc:
            raise ValueError(f"{where}: url or hidden {exc}") from None
        try:
            if tool.answer:
                jmespath.compile(tool.answer)
        except JMESPathError:
            raise ValueError(f"{where}: answer is not a JMESPath expression") from None
    for name, server in tools.mcp.items():
        where = f"mcp.{name}"
        if not NAME.fullmatch(name):
            raise ValueError(f"{where}: a name has letters, digits, _ and -")
        _check_limits(where, server)
        if bool(server.command) == bool(server.url):
            raise ValueError(f"{where}: needs either command or url")


def _check_limits(where: str, limits: Limits) -> None:
    if not 0.1 <= limits.deadline_s <= 120:
        raise ValueError(f"{where}: deadline_s has to be between 0.1 and 120")
    if not 1 <= limits.concurrency <= 1_000:
        raise ValueError(f"{where}: concurrency has to be between 1 and 1000")
    if not limits.cancellable and limits.on_interruption == "cancel":
        raise ValueError(f'{where}: on_interruption = "cancel" needs cancellable = true')


def _filled(tools: Tools, variables: Mapping[str, str]) -> Tools:
    """With the values of `${NAME}`. Raises ValueError for a variable that is not set."""

    def fill(text: str, *, is_template: bool = False) -> str:
        def value(match: re.Match[str]) -> str:
            found = variables.get(match[1])
            if not found:
                raise ValueError(f"${{{match[1]}}} is not set; set it in .env or the environment")
            return found.replace("{", "{{").replace("}", "}}") if is_template else found

        return _VARIABLE.sub(value, text)

    def all_of(texts: Mapping[str, str], *, are_templates: bool = False) -> dict[str, str]:
        return {name: fill(text, is_template=are_templates) for name, text in texts.items()}

    http = {
        name: msgspec.structs.replace(
            tool,
            url=fill(tool.url, is_template=True),
            hidden=all_of(tool.hidden, are_templates=True),
            headers=all_of(tool.headers),
        )
        for name, tool in tools.http.items()
    }
    mcp = {
        name: msgspec.structs.replace(
            server,
            command=[fill(word) for word in server.command],
            url=fill(server.url),
            headers=all_of(server.headers),
            env=all_of(server.env),
        )
        for name, server in tools.mcp.items()
    }
    return Tools(tools.python, http, mcp)


def _sources(name: str, path: Path, tools: Tools, http: Mapping[str, HttpTool]) -> AgentSources:
    sources: list[tuple[Source, str]] = []
    if tools.python:
        files = [str((path.parent / file).resolve()) for file in tools.python]
        sources.append((Source("python", ", ".join(tools.python), msgspec.json.encode(files)), ""))
    if tools.http:
        sources.append((Source("http", "the HTTP tools", msgspec.json.encode(http)), f"{name}/"))
    for server_name, server in tools.mcp.items():
        placed = msgspec.structs.replace(server, name=server_name, directory=str(path.parent.resolve()))
        sources.append((Source("mcp", f"the MCP server {server_name}", msgspec.json.encode(placed)), ""))
    return AgentSources(name, tuple(sources))
