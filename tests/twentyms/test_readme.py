"""What README.md tells a stranger to write is an agent with a tool."""

from __future__ import annotations

import re
from pathlib import Path

from twentyms import check

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def test_the_agent_and_the_tool_of_the_readme_pass_the_check(home, capsys):
    (agent,), (tool,) = blocks("toml"), blocks("python")
    assert len([line for line in (agent + tool).splitlines() if line]) <= 15
    (home / "agent.toml").write_text(agent)
    (home / "my_tools.py").write_text(tool)
    (home / ".env").write_text("AGENT_FILE=agent.toml\n")
    assert check.main([]) == 0
    assert "Tools of agent: opening_hours" in capsys.readouterr().out
