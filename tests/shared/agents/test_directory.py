"""AGENTS_DIR as a whole, and the agent of a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.agents.directory import AgentsError, read_directory


def write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.toml").write_text(f'instructions = "I am {name}."\n{text}')


def problems(directory: Path) -> list[str]:
    with pytest.raises(AgentsError) as caught:
        read_directory(directory)
    return list(caught.value.problems)


def test_an_agent_hands_off_to_agents_of_the_directory_only(tmp_path: Path) -> None:
    write(tmp_path, "sales", 'default = true\n[hand_off]\noffice = ""\nofice = ""\nsales = ""\nzzz = ""')
    write(tmp_path, "office", "")
    label = f"{tmp_path}/sales.toml: hand_off: "
    assert problems(tmp_path) == [
        f"{label}there is no agent ofice; did you mean office?",
        f"{label}sales is this agent itself; take it out",
        f"{label}there is no agent zzz; put its file into AGENTS_DIR, or take it out",
    ]


@pytest.mark.parametrize(
    ("called", "agent"),
    [
        ("+15550100", "sales"),
        (" 15550100", "sales"),  # a "+" that was not escaped
        ("sip:Help@Example.com;transport=tcp", "sales"),
        ("+15550199", "office"),
        ("", "office"),
    ],
)
def test_the_called_number_chooses_the_agent(tmp_path: Path, called: str, agent: str) -> None:
    write(tmp_path, "sales", 'numbers = ["+1 (555) 0100", "sip:help@example.com"]')
    write(tmp_path, "office", 'numbers = ["0015550101"]\ndefault = true')
    (tmp_path / ".draft.toml").write_text("[[[")
    directory = read_directory(tmp_path)
    assert directory.answering(called).name == agent
    assert directory.answering("+15550101").name == "office"


def test_the_version_changes_with_the_file(tmp_path: Path) -> None:
    write(tmp_path, "a", "default = true")
    first = read_directory(tmp_path).default.version
    assert read_directory(tmp_path).default.version == first
    write(tmp_path, "a", 'default = true\nvoice = "cedar"')
    assert read_directory(tmp_path).default.version != first


def test_a_number_that_two_agents_claim_names_both(tmp_path: Path) -> None:
    write(tmp_path, "a", 'default = true\nnumbers = ["+15550100"]')
    write(tmp_path, "b", 'numbers = ["+1 555 0100"]')
    (line,) = problems(tmp_path)
    assert line == f"{tmp_path / 'b.toml'}: numbers: +15550100 is a.toml's, too; leave it to one of them"


def test_there_is_one_default(tmp_path: Path) -> None:
    write(tmp_path, "a", "")
    write(tmp_path, "b", "")
    assert problems(tmp_path) == [f"AGENTS_DIR {tmp_path}: no agent is the default; write default = true into one file"]
    write(tmp_path, "a", "default = true")
    write(tmp_path, "b", "default = true")
    (line,) = problems(tmp_path)
    assert line == f"{tmp_path / 'b.toml'}: default: a.toml is the default, too; leave it to one of them"


def test_the_only_agent_is_the_default(tmp_path: Path) -> None:
    write(tmp_path, "a", 'numbers = ["+15550100"]')
    assert read_directory(tmp_path).default.name == "a"


def test_every_mistake_of_every_file_is_a_line(tmp_path: Path) -> None:
    write(tmp_path, "a", "voise = 1\nend_call = 1")
    write(tmp_path, "b c", 'numbers = ["+15550100"]')
    write(tmp_path, "d", 'numbers = ["+15550100"]')
    lines = problems(tmp_path)
    assert [line.partition(": ")[0].rpartition("/")[2] for line in lines] == [
        "a.toml",
        "a.toml",
        "b c.toml",
        "d.toml",
        tmp_path.name,
    ]


def test_a_directory_without_agents_says_what_to_do(tmp_path: Path) -> None:
    assert problems(tmp_path)[0].startswith(f"AGENTS_DIR {tmp_path} holds no agent; put")
    assert problems(tmp_path / "none")[0].startswith(f"AGENTS_DIR {tmp_path / 'none'} cannot be read (")
