"""AGENTS_DIR, read and checked as a whole: one TOML file for each agent, named for it."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from shared.alike import nearest
from shared.process import ConfigError

from .agent_file import ALIKE, read
from .choice import Directory, FoundAgent
from .numbers import normalised

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


class AgentsError(ConfigError):
    """Agents that cannot be used: a line for each mistake of each file."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = len(problems) - 1
        super().__init__(problems[0] + (f" (and {more} more: `twentyms check` lists them)" if more else ""))
        self.problems = tuple(problems)


def read_file(path: Path, label: str) -> tuple[FoundAgent | None, list[str]]:
    """An agent, and what is wrong with its file, a line each that begins with `label`; None: it cannot be read."""
    try:
        text = path.read_bytes()
    except OSError as exc:
        return None, [f"{label}: it cannot be read ({exc.strerror}); correct its name or its permissions"]
    file, problems = read(text)
    lines = [f"{label}: {problem}" for problem in problems]
    if file is None:
        return None, lines
    return FoundAgent(path.stem, hashlib.sha256(text).hexdigest()[:12], path, file), lines


def read_directory(directory: Path) -> Directory:
    """Read and check all files. Raises AgentsError."""
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".toml" and path.name[0] != ".")
    except OSError as exc:
        raise AgentsError(
            [f"AGENTS_DIR {directory} cannot be read ({exc.strerror}); set it to a directory of agents' files"]
        ) from None
    if not paths:
        raise AgentsError([f"AGENTS_DIR {directory} holds no agent; put a file such as aibridge/agent.toml into it"])
    found: list[FoundAgent] = []
    problems: list[str] = []
    for path in paths:
        if not _NAME.fullmatch(path.stem):
            problems.append(f'{path}: the name of the file names the agent; use letters, digits, "-" and "_"')
        agent, more = read_file(path, str(path))
        problems += more
        if agent is not None:
            found.append(agent)
    problems += _shared_numbers(found)
    # Which agent is the default is known only when every file says it.
    if len(found) == len(paths) and not any(": default: " in problem for problem in problems):
        problems += _defaults(directory, found)
    if len(found) == len(paths):
        problems += unknown_colleagues(found)
    if problems:
        raise AgentsError(problems)
    by_number = {normalised(number): agent for agent in found for number in agent.file.numbers}
    default = next((agent for agent in found if agent.file.default), found[0])
    return Directory({agent.name: agent for agent in found}, default, by_number)


def _shared_numbers(found: Sequence[FoundAgent]) -> Iterator[str]:
    owners: dict[str, list[FoundAgent]] = defaultdict(list)
    for agent in found:
        for number in {normalised(number) for number in agent.file.numbers}:
            owners[number].append(agent)
    for number, agents in owners.items():
        for other in agents[1:]:
            yield f"{other.path}: numbers: {number} is {agents[0].path.name}'s, too; leave it to one of them"


def unknown_colleagues(found: Sequence[FoundAgent]) -> Iterator[str]:
    """Agents to whom one of these would hand a call off, and who are none of these, or the same agent."""
    names = [agent.name for agent in found]
    for agent in found:
        for name in agent.file.hand_off:
            if name == agent.name:
                yield f"{agent.path}: hand_off: {name} is this agent itself; take it out"
            elif name not in names:
                right = nearest(name, names, ALIKE)
                advice = f"did you mean {right}?" if right else "put its file into AGENTS_DIR, or take it out"
                yield f"{agent.path}: hand_off: there is no agent {name}; {advice}"


def _defaults(directory: Path, found: Sequence[FoundAgent]) -> Iterator[str]:
    defaults = [agent for agent in found if agent.file.default]
    if not defaults and len(found) > 1:
        yield f"AGENTS_DIR {directory}: no agent is the default; write default = true into one file"
    for other in defaults[1:]:
        yield f"{other.path}: default: {defaults[0].path.name} is the default, too; leave it to one of them"
