"""Reading the agents of a worker, with their recordings, models and keys; and the rules of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeVar

from shared.agents.agent_file import AgentFile, AgentRules
from shared.agents.choice import FoundAgent
from shared.agents.directory import AgentsError, read_directory, read_file, unknown_colleagues
from shared.settings import WITHDRAW_LEAD_MAX_MS, Settings, secret

from .core.agent import Agent, Agents
from .core.keypad import KeypadRules
from .core.near_ear.detection import Sensitivity
from .core.rules import Rules
from .core.silence import Patience
from .core.tones import make_all
from .recording import read_recording

N = TypeVar("N", int, float)
DEFAULT_FILE: Final = Path(__file__).with_name("agent.toml")


def load(settings: Settings, directory: Path = Path()) -> Agents:
    """Read the agents of AGENTS_DIR, or the one of AGENT_FILE. Raises AgentsError with all mistakes.

    `directory` holds the `.env` with the keys.
    """
    if settings.agents_dir is not None:
        found = read_directory(settings.agents_dir)
        files, default_name = list(found.agents.values()), found.default.name
        labels = {agent.name: str(agent.path) for agent in files}
    else:
        only = _one(settings.agent_file or DEFAULT_FILE)
        files, default_name = [only], only.name
        labels = {only.name: f"AGENT_FILE {only.path} is not an agent"}
    problems: list[str] = []
    agents: dict[str, Agent] = {}
    keys: dict[str, str] = {}
    for file in files:
        agent, wrong = _complete(file, settings)
        agents[file.name] = agent
        problems += [f"{labels[file.name]}: {each}" for each in wrong]
        for key, variable in (
            ("api_key_env", agent.api_key_env),
            *(("mcp: token_env", server.token_env) for server in agent.mcp),
        ):
            if variable and not keys.get(variable):
                keys[variable] = secret(variable, directory)
                if not keys[variable]:
                    where = f"{labels[file.name]}: {key}: {variable}"
                    problems.append(f"{where} has no value; set it in .env or the environment")
    if problems:
        raise AgentsError(problems)
    if any(agent.send_dtmf for agent in agents.values()):
        make_all()
    return Agents(agents, agents[default_name], keys)


def _one(path: Path) -> FoundAgent:
    found, problems = read_file(path, f"AGENT_FILE {path} is not an agent")
    if found is not None:
        problems += unknown_colleagues([found])
    if found is None or problems:
        raise AgentsError(problems)
    return found


def _complete(found: FoundAgent, settings: Settings) -> tuple[Agent, list[str]]:
    """The agent with its recordings and its model, and what is wrong with it beside its file."""
    file = found.file
    problems = [*_wrong_rules(file.rules, settings)]
    audio: dict[str, Any] = {}
    for key, kept in (
        ("greeting_file", "greeting_audio"),
        ("recording_notice_file", "notice_audio"),
        ("fallback_file", "fallback_audio"),
    ):
        name = getattr(file, key)
        if not name:
            continue
        path = found.path.parent / name
        try:
            audio[kept] = read_recording(path)
        except OSError as exc:
            problems.append(f"{key}: {path} cannot be read ({exc.strerror}); correct the name")
        except ValueError as exc:
            problems.append(f"{key}: {path} cannot be played: {exc}; convert it")
    fields = {name: getattr(file, name) for name in file.__struct_fields__} | {
        "model": file.model or settings.openai_realtime_model,
        "base_url": file.base_url or settings.openai_base_url,
        # toolbox tells what became of them.
        "tools": {},
        "has_tools": bool(file.tools),
    }
    return Agent(**fields, name=found.name, version=found.version, **audio), problems


def rules_of(agent: AgentFile, settings: Settings) -> Rules:
    """The rules of a conversation: the agent's own, and the settings where the agent has none."""
    own, silence, keypad = agent.rules, agent.silence, agent.keypad
    start, least, most = lead_ms(own, settings)
    short_ms = _or(own.barge_in_short_ms, settings.barge_in_short_ms)
    is_early = (own.barge_in_early or settings.barge_in_early) == "on"
    guard = own.echo_guard or settings.echo_guard
    has_lead = not own.lead_ms is own.lead_min_ms is own.lead_max_ms is None
    return Rules(
        protect_ns=_or(own.greeting_protect_ms, settings.greeting_protect_ms) * 1_000_000,
        barge_in=own.barge_in or settings.barge_in,
        confirm_ns=_or(own.barge_in_confirm_ms, settings.barge_in_confirm_ms) * 1_000_000,
        early_ns=_or(own.barge_in_early_ms, settings.barge_in_early_ms) * 1_000_000 if is_early else 0,
        sensitivity=Sensitivity(
            threshold=_or(own.barge_in_threshold, settings.barge_in_threshold),
            short_ns=short_ms * 1_000_000,
            guards_echo=guard != "off",
            removes_echo=guard == "remove",
            only_guards=not is_early and not short_ms,
        ),
        lead_ns=start * 1_000_000,
        own_lead_ms=(start, least, most) if has_lead else None,
        reconnect_ns=settings.model_reconnect_seconds * 1_000_000_000,
        renew_ns=int(settings.model_session_minutes * 60e9),
        patience=Patience(
            silence.after_seconds * 1_000_000_000,
            silence.nudges,
            int(agent.max_call_minutes * 60e9),
            silence.goodbye_seconds * 1_000_000_000,
            silence.goodbyes,
            agent.voicemail == "end",
        ),
        sends_dtmf=agent.send_dtmf,
        keypad=KeypadRules(
            int(keypad.timeout_seconds * 1e9), keypad.terminator, keypad.length, keypad.interrupts, keypad.secret
        ),
    )


def needs_near_ear(agents: Agents, settings: Settings) -> bool:
    """Whether a call of any agent listens to the caller itself. An agent that is read later does not count."""
    rules = [rules_of(agent, settings) for agent in agents.by_name.values()]
    return any(each.early_ns or each.sensitivity.guards_echo for each in rules)


def removes_echo(agents: Agents, settings: Settings) -> bool:
    """Whether the model of any agent hears no echo. An agent that is read later does not count."""
    return any(rules_of(agent, settings).sensitivity.removes_echo for agent in agents.by_name.values())


def lead_ms(own: AgentRules, settings: Settings) -> tuple[int, int, int]:
    """Where the lead starts, and between what it adapts. What the agent does not say gives way to what it says."""
    least, most = settings.lead_bounds_ms
    start = own.lead_ms
    if start is None:
        start = max(settings.lead_ms, own.lead_min_ms or 0)
        start = start if own.lead_max_ms is None else min(start, own.lead_max_ms)
    return start, _or(own.lead_min_ms, min(least, start)), _or(own.lead_max_ms, max(most, start))


def _or(own: N | None, setting: N) -> N:
    return setting if own is None else own


def _wrong_rules(own: AgentRules, settings: Settings) -> list[str]:
    start, least, most = lead_ms(own, settings)
    if not least <= start <= most:
        return [f"rules.lead_ms: {start} must lie between lead_min_ms {least} and lead_max_ms {most}; change one"]
    if most > WITHDRAW_LEAD_MAX_MS and (own.barge_in or settings.barge_in) == "withdraw":
        return [
            f'rules.lead_max_ms: {most} is too long for barge_in = "withdraw", which stops the AI within the lead; '
            f'use {WITHDRAW_LEAD_MAX_MS} at most, or barge_in = "clear"'
        ]
    return []
