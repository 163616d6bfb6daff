"""The README has the commands that the walk in an empty Debian carries out."""

from __future__ import annotations

from proofs.first_hour import ROOT, blocks, commands

README = (ROOT / "README.md").read_text()


def test_the_readme_begins_with_a_demo_and_a_run_and_goes_on_with_an_agent_of_ones_own():
    run_it, make_it_yours = blocks(README, "sh")[:2]
    assert commands(run_it) == ["make demo", "make run"]
    assert commands(make_it_yours) == ["twentyms new my-agent", "cd my-agent", "twentyms run"]


def test_the_readme_has_one_agent_and_one_tool_to_write():
    assert len(blocks(README, "toml")) == len(blocks(README, "python")) == 1
    assert "def opening_hours(" in blocks(README, "python")[0]
