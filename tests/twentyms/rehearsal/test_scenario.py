"""Scenarios: what a file may say, the line about what it may not, and the caller that comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.process import ConfigError
from simulator.carrier.caller import AiHeard, AiSilent, HangUp, Press, Say, Wait
from twentyms.rehearsal.scenario import read, script

WHOLE = """
agent = "restaurant"

[[step]]
say = "A table for two, please."

[[step]]
say = "Wait."
when = "into"
ms = 900

[[step]]
keys = "12#"
when = "silence"

[[step]]
hang_up = true

[expect]
heard = ["booked"]
[[expect.tool]]
name = "book_table"
arguments = { guests = 2, day = "Saturday" }
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a-table.toml"
    path.write_text(text)
    return path


def test_a_scenario_is_named_after_its_file_and_becomes_the_script_of_a_caller(tmp_path: Path) -> None:
    scenario = read(written(tmp_path, WHOLE))
    assert (scenario.name, scenario.agent) == ("a-table", "restaurant")
    assert script(scenario, lambda step: step.say.encode()) == (
        Say("A table for two, please.", AiSilent(600), b"A table for two, please."),
        Say("Wait.", AiHeard(900), b"Wait."),
        Press("1", Wait(3_000)),
        Press("2", Wait(250)),
        Press("#", Wait(250)),
        HangUp(AiSilent(600)),
    )


def test_a_caller_who_is_not_told_to_hang_up_waits_for_the_agent_to_do_it_and_then_hangs_up(tmp_path: Path) -> None:
    scenario = read(written(tmp_path, '[[step]]\nsay = "Bye."'))
    assert script(scenario, lambda _: b"")[-1] == HangUp(AiSilent(8_000))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[[step]\n", "is not TOML"),
        ('name = "x"', "no [[step]] is there; say what the caller does"),
        ('[[step]]\nsays = "x"', "step.says: there is no such key; did you mean step.say?"),
        (
            '[[step]]\nsay = "x"\n[expect]\nherd = ["x"]',
            "expect.herd: there is no such key; did you mean expect.heard?",
        ),
        ('[[step]]\nsay = "x"\n[[expect.tool]]\nnme = "x"', "expect.tool.nme: there is no such key"),
        ('[[step]]\nsay = "x"\nkeys = "1"', "step 1: write one of say, wav, clip, keys and hang_up in it"),
        ('[[step]]\nwhen = "into"', "step 1: write one of say, wav, clip, keys and hang_up in it"),
        ('[[step]]\nsay = "x"\nwhen = "before"', "Invalid enum value 'before'"),
        ('[[step]]\nkeys = "1x"', "matching regex"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_the_key_and_what_to_do(tmp_path: Path, text: str, line: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_of_an_expected_tool_may_have_any_name(tmp_path: Path) -> None:
    text = '[[step]]\nsay = "x"\n[[expect.tool]]\nname = "t"\narguments = { names = { step = 1 } }'
    assert read(written(tmp_path, text)).expect.tool[0].arguments == {"names": {"step": 1}}
