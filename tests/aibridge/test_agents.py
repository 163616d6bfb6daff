"""The agents of a worker: files with their recordings, keys and rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from aibridge import agents
from aibridge.core.agent import Agent
from aibridge.core.rules import Line
from aibridge.core.silence import Patience
from shared.agents.agent_file import AgentFile, AgentRules, SilenceRules
from shared.agents.directory import AgentsError
from shared.process import ConfigError
from shared.settings import Settings
from simulator.voice import VOICES, clip


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[call-arg]


def load(directory: Path, text: str) -> Agent:
    path = directory / "agent.toml"
    path.write_text('instructions = "Be kind."\n' + text)
    return agents.load(settings(agent_file=path), directory).default


def test_the_defaults_of_the_code_are_those_of_the_shipped_file() -> None:
    shipped = agents.load(settings()).default
    words = {name: getattr(shipped, name) for name in ("instructions", "greeting", "name", "version")}
    assert Agent(**words, model=settings().openai_realtime_model) == shipped


def test_a_greeting_file_is_read_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "hello.wav").write_bytes((VOICES / "demo-congrats.wav").read_bytes())
    loaded = load(tmp_path, 'greeting = "Well done."\ngreeting_file = "hello.wav"\n')
    assert loaded.script().greeting == Line("Well done.", clip("demo-congrats").audio)


def test_a_notice_file_may_come_with_a_greeting_file(tmp_path: Path) -> None:
    (tmp_path / "hello.wav").write_bytes((VOICES / "demo-congrats.wav").read_bytes())
    words = 'greeting = "Well done."\ngreeting_file = "hello.wav"\nrecording_notice = "Recorded."\n'
    assert load(tmp_path, words).script(recorded=True).notice == Line("Recorded.")  # the model says it
    notice = load(tmp_path, words + 'recording_notice_file = "hello.wav"\n').script(recorded=True).notice
    assert notice == Line("Recorded.", clip("demo-congrats").audio)


@pytest.mark.parametrize(
    "text",
    [
        'greeting_file = "hello.wav"',
        'recording_notice_file = "hello.wav"',
        'greeting = "Hi."\ngreeting_file = "missing.wav"',
        'greeting = "Hi."\ngreeting_file = "agent.toml"',
        'greeting_audio = "aGk="',
        "voice = 3",
        "unknown = 1",
        "[[[",
        'api_key_env = "NO_SUCH_KEY"',
        "[rules]\nlead_min_ms = 200\nlead_ms = 100",
        "[rules]\nlead_max_ms = 400",
    ],
)
def test_an_invalid_agent_file_is_refused_in_one_line_with_advice(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"AGENT_FILE.* is not an agent: .*;") as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.toml").write_text(f'instructions = "I am {name}."\n{text}')


def test_every_mistake_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a", 'default = true\nfallback = "x"\nfallback_file = "missing.wav"')
    write(tmp_path, "b", 'api_key_env = "NO_SUCH_KEY"\n[rules]\nlead_max_ms = 400')
    with pytest.raises(AgentsError) as caught:
        agents.load(settings(agents_dir=tmp_path), tmp_path)
    places = [problem.split(": ")[:2] for problem in caught.value.problems]
    assert places == [
        [str(tmp_path / "a.toml"), "fallback_file"],
        [str(tmp_path / "b.toml"), "rules.lead_max_ms"],
        [str(tmp_path / "b.toml"), "api_key_env"],
    ]
    assert "(and 2 more" in str(caught.value)


def test_an_agent_has_its_own_model_server_and_key_or_those_of_the_settings(tmp_path: Path) -> None:
    write(tmp_path, "own", 'model = "m"\nbase_url = "https://host/v1"\napi_key_env = "HOST_KEY"')
    write(tmp_path, "plain", "default = true")
    (tmp_path / ".env").write_text("HOST_KEY=s3cret\n")
    known = agents.load(settings(agents_dir=tmp_path), tmp_path)
    own = known.by_name["own"]
    assert (own.model, own.base_url, known.keys[own.api_key_env]) == ("m", "https://host/v1", "s3cret")
    assert (known.default.name, known.default.model, known.default.base_url) == ("plain", "gpt-realtime-2.1", "")
    assert b"s3cret" not in own.told()


def test_a_successor_has_the_agent_of_the_story_with_its_recordings_if_the_file_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "sorry.ulaw").write_bytes(b"sorry")
    write(tmp_path, "sales", 'default = true\nfallback = "Sorry."\nfallback_file = "sorry.ulaw"')
    before = agents.load(settings(agents_dir=tmp_path))
    assert before.of_story(before.default.told()) == before.default
    write(tmp_path, "sales", 'default = true\nvoice = "cedar"')
    after = agents.load(settings(agents_dir=tmp_path))
    assert after.of_story(before.default.told()) == msgspec.structs.replace(before.default, fallback_audio=b"")
    assert after.of_story(b"") is None


def with_rules(own: AgentRules) -> AgentFile:
    return AgentFile(instructions="Be kind.", rules=own)


def test_an_agent_says_how_long_its_callers_may_be_silent_and_its_calls_last() -> None:
    own = AgentFile(instructions="Be kind.", silence=SilenceRules(20, 3, 6, ("Pfiat di",)), max_call_minutes=2.5)
    assert agents.rules_of(own, settings()).patience == Patience(20 * 10**9, 3, 150 * 10**9, 6 * 10**9, ("Pfiat di",))


def test_a_rule_that_an_agent_does_not_have_is_as_the_setting_says() -> None:
    ours = settings(greeting_protect_ms=700, barge_in="drain", tx_lead_ms=100)
    rules = agents.rules_of(with_rules(AgentRules(barge_in_confirm_ms=300)), ours)
    assert (rules.protect_ns, rules.barge_in, rules.confirm_ns) == (700_000_000, "drain", 300_000_000)
    assert (rules.lead_ns, rules.own_lead_ms) == (100_000_000, None)
    rules = agents.rules_of(with_rules(AgentRules(greeting_protect_ms=0, barge_in="clear")), ours)
    assert (rules.protect_ns, rules.barge_in) == (0, "clear")


@pytest.mark.parametrize(
    ("own", "lead"),
    [
        (AgentRules(lead_ms=160), (160, 60, 180)),
        (AgentRules(lead_ms=50), (50, 50, 180)),
        (AgentRules(lead_min_ms=140), (140, 140, 180)),
        (AgentRules(lead_max_ms=100), (100, 60, 100)),
        (AgentRules(lead_ms=120, lead_min_ms=120, lead_max_ms=120), (120, 120, 120)),
        (AgentRules(lead_ms=400, barge_in="clear"), (400, 60, 400)),
    ],
)
def test_a_bound_of_the_lead_that_an_agent_does_not_have_gives_way_to_one_that_it_has(
    own: AgentRules, lead: tuple[int, int, int]
) -> None:
    assert agents.rules_of(with_rules(own), settings()).own_lead_ms == lead
