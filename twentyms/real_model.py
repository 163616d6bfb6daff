"""Whether a real model answers: it needs a key, OPENAI_API_KEY or an agent's own."""

from __future__ import annotations

from shared.agents.directory import AgentsError, read_directory, read_file
from shared.settings import Settings, secret

from . import here


def is_real(settings: Settings) -> bool:
    """Whether OPENAI_API_KEY, or a variable that an agent names in `api_key_env`, has a value."""
    return bool(settings.openai_api_key) or any(
        secret(name, here.directory()) for name in _own_keys(settings).values() if name
    )


def without_key(settings: Settings) -> list[str]:
    """The agents that need OPENAI_API_KEY where it is not set."""
    return [] if settings.openai_api_key else [name for name, key in _own_keys(settings).items() if not key]


def _own_keys(settings: Settings) -> dict[str, str]:
    """What each agent's `api_key_env` names. Empty for agents that cannot be read: the processes say why."""
    if settings.agents_dir is not None:
        try:
            found = list(read_directory(settings.agents_dir).agents.values())
        except AgentsError:
            found = []
    else:
        only = read_file(settings.agent_file, "")[0] if settings.agent_file is not None else None
        found = [only] if only is not None else []
    return {agent.name: agent.file.api_key_env for agent in found}
