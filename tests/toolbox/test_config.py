"""The table `[tools]` of an agent's file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.agents.directory import AgentsError
from shared.process import ConfigError
from shared.settings import Settings
from toolbox.config import AgentSources, HttpTool, load

HTTP = '[tools.http.weather]\ndescription = "The weather"\nurl = "https://example.com/{city}"\nparameters.city = {}\n'


def declared(tmp_path: Path, tools: str, env: str = "") -> list[AgentSources]:
    path = tmp_path / "restaurant.toml"
    path.write_text('instructions = "Be kind."\n' + tools)
    (tmp_path / "tools.py").write_text("")
    (tmp_path / ".env").write_text(env)
    return load(Settings(_env_file=None, agent_file=path), tmp_path)  # type: ignore[call-arg]  # pydantic's own


@pytest.mark.parametrize("tools", ["", "[tools]\n", "[tools]\npython = []\n"])
def test_an_agent_without_tools_needs_no_process(tmp_path: Path, tools: str) -> None:
    assert declared(tmp_path, tools) == []


def test_each_kind_of_tool_is_a_source_of_its_own_and_the_agent_is_named_as_its_file(tmp_path: Path) -> None:
    mcp = '[tools.mcp.calendar]\ncommand = ["server"]\n[tools.mcp.notes]\nurl = "https://example.com/mcp"\n'
    (agent,) = declared(tmp_path, f'[tools]\npython = ["tools.py"]\n{HTTP}{mcp}')
    assert agent.agent == "restaurant"
    assert [(source.kind, prefix) for source, prefix in agent.sources] == [
        ("python", ""),
        ("http", "restaurant/"),
        ("mcp", ""),
        ("mcp", ""),
    ]


def test_values_come_from_the_environment_or_env_and_braces_in_them_are_no_placeholders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "from the environment")
    text = HTTP.replace("/{city}", "/${KEY}/{city}") + 'headers = { Authorization = "Bearer ${TOKEN}" }\n'
    (agent,) = declared(tmp_path, text, env="KEY=a{b}\nTOKEN=from the file\n")
    (tool,) = msgspec.json.decode(agent.sources[0][0].config, type=dict[str, HttpTool]).values()
    assert tool.url == "https://example.com/a{{b}}/{city}"
    assert tool.headers == {"Authorization": "Bearer from the environment"}


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ('[tools]\npython = ["missing.py"]', "there is no file missing.py beside it"),
        ("[tools]\npyhton = []", "unknown field `pyhton`"),
        ('[tools.http."two words"]\ndescription = ""\nurl = "https://example.com"', "a name has letters"),
        (HTTP.replace("weather", "end_call"), "not one of the system's own"),
        (HTTP.replace("{city}", "{town}"), "{town} is neither a parameter"),
        (HTTP + "deadline_s = 1000", "deadline_s has to be between"),
        (HTTP + "concurrency = 0", "concurrency has to be between"),
        (HTTP + 'answer = "a..b"', "answer is not a JMESPath expression"),
        (HTTP + 'headers = { a = "${MISSING_ONE}" }', "${MISSING_ONE} is not set"),
        (HTTP + 'hidden = { a = "{city}" }', "{city} is not one of"),
        (HTTP + 'on_interruption = "cancel"\ncancellable = false', "needs cancellable = true"),
        ("[tools.mcp.calendar]", "needs either command or url"),
        ('[tools.mcp.calendar]\ncommand = ["a"]\nurl = "https://example.com"', "needs either command or url"),
    ],
)
def test_a_mistake_is_named_in_one_line_with_its_file(tmp_path: Path, tools: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        declared(tmp_path, tools)
    assert words in str(raised.value)
    assert str(tmp_path / "restaurant.toml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_agent_is_refused_as_aibridge_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(AgentsError, match="it is not TOML"):
        declared(tmp_path, "]")


def test_the_tools_of_a_directory_belong_to_the_agents_of_their_files(tmp_path: Path) -> None:
    for name, tools in (("sales", HTTP), ("office", "default = true\n"), ("support", HTTP)):
        (tmp_path / f"{name}.toml").write_text('instructions = "Be kind."\n' + tools)
    agents = load(Settings(_env_file=None, agents_dir=tmp_path), tmp_path)  # type: ignore[call-arg]  # pydantic's own
    assert {agent.agent: [prefix for _, prefix in agent.sources] for agent in agents} == {
        "sales": ["sales/"],
        "support": ["support/"],
    }
    # One process makes the requests of both.
    assert len({source.key for agent in agents for source, _ in agent.sources}) == 1
