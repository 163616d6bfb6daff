"""The agents of a cell, and which of them answers a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .agent_file import AgentFile
from .numbers import normalised


@dataclass(frozen=True)
class FoundAgent:
    """An agent's file. `version` changes with its content."""

    name: str
    version: str
    path: Path
    file: AgentFile


@dataclass(frozen=True)
class Directory:
    """All agents of a directory, without a mistake in any of them."""

    agents: Mapping[str, FoundAgent]
    default: FoundAgent
    # By normalised number.
    by_number: Mapping[str, FoundAgent]

    def answering(self, number: str) -> FoundAgent:
        """The agent of a called number."""
        return self.by_number.get(normalised(number), self.default)
