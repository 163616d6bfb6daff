"""`twentyms new`: a folder that `twentyms check` accepts as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from shared.process import ConfigError
from toolbox.decorator import ToolError
from twentyms import check, new


def test_a_new_folder_passes_the_check_and_its_tools_are_named(home, monkeypatch, capsys):
    assert new.main(["my-agent"]) == 0
    assert "cd my-agent\n  twentyms run" in capsys.readouterr().out
    monkeypatch.chdir(home / "my-agent")
    assert check.main([]) == 0
    assert "Tools of agent: opening_hours, repair_status" in capsys.readouterr().out


def test_the_settings_of_a_new_folder_are_private_and_kept_out_of_git(home):
    new.main(["my-agent"])
    assert (home / "my-agent" / ".env").stat().st_mode & 0o077 == 0
    assert ".env" in (home / "my-agent" / ".gitignore").read_text().split()


def test_a_folder_that_holds_something_is_left_as_it_is(home):
    with pytest.raises(ConfigError, match="is not empty; name a new folder"):
        new.main(["."])
    assert [path.name for path in home.iterdir()] == [".env"]


def test_a_place_that_cannot_be_written_is_named(home):
    with pytest.raises(ConfigError, match="cannot be made"):
        new.main(["/dev/null/my-agent"])


def test_the_tools_of_the_template_answer():
    path = Path(new.TEMPLATE) / "tools.py"
    spec = importlib.util.spec_from_file_location("template_tools", path)
    assert spec is not None
    assert spec.loader is not None
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    assert tools.opening_hours("Sunday") == "closed"
    assert tools.repair_status(1001) == "The bicycle is ready to be collected."
    with pytest.raises(ToolError, match="no repair with the number 7"):
        tools.repair_status(7)
