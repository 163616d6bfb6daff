"""`twentyms rehearse` on the shipped restaurant: green as it is, and red for faults in agent, tool and settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from twentyms.here import RESTAURANT

pytestmark = [pytest.mark.live, pytest.mark.timeout(200)]

SCENARIOS: Final = RESTAURANT.parent / "scenarios"


def rehearse(
    agent: Path, out: Path, *scenarios: str, settings: dict[str, str] | None = None
) -> tuple[int, dict[str, str]]:
    """The exit status, and the problems of each scenario ("" when it held)."""
    env = {**os.environ, "AGENT_FILE": str(agent), "OPENAI_API_KEY": "", **(settings or {})}
    paths = [str(SCENARIOS / f"{name}.toml") for name in scenarios] or [str(SCENARIOS)]
    command = [sys.executable, "-m", "twentyms", "rehearse", *paths, "--out", str(out / "rehearsal"), "--at-once", "6"]
    done = subprocess.run(command, cwd=out, env=env, text=True, capture_output=True)
    junit = out / "rehearsal" / "junit.xml"
    assert junit.exists(), done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        failure = case.find("failure")
        found[case.get("name", "")] = "" if failure is None else failure.text or ""
    return done.returncode, found


@pytest.mark.slow
def test_a_rehearsal_leaves_a_table_junit_a_recording_and_a_timeline(tmp_path: Path) -> None:
    status, found = rehearse(RESTAURANT, tmp_path, "greeting")
    assert (status, found) == (0, {"greeting": ""})
    left = {path.name for path in (tmp_path / "rehearsal").iterdir()}
    assert {"01-greeting.wav", "01-greeting.png", "junit.xml", "processes.log"} <= left


@pytest.mark.slow
def test_all_scenarios_of_the_restaurant_hold(tmp_path: Path) -> None:
    status, found = rehearse(RESTAURANT, tmp_path)
    assert status == 0, {name: problem for name, problem in found.items() if problem}
    assert len(found) == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "before", "after", "settings", "scenario", "problem"),
    [
        (
            *("restaurant_tools.py", '"Saturday": "12:00 to 23:00"', '"Saturday": "closed"', {}, "opening-hours"),
            '"from noon until eleven" was not heard',
        ),
        (
            *("restaurant_tools.py", "    on = upcoming(day)", "    on = upcoming(day) + 1", {}, "book-a-table"),
            'ended with "failed", not "done"',
        ),
        (
            *("restaurant_tools.py", "    on = upcoming(day)", "    while True: pass", {}, "recordings"),
            '"is booked" was not heard',
        ),
        (
            *("restaurant.toml", 'python = ["restaurant_tools.py"]', "", {}, "speak-while-a-tool-works"),
            "opening_hours was not called",
        ),
        (
            *("restaurant.toml", "[tools]", "[rules]\ngreeting_protect_ms = 6000\n[tools]", {}),
            *("interrupt-the-greeting", '"How can I help you?" was heard'),
        ),
        (
            *("restaurant.toml", "", "", {"BARGE_IN": "drain"}, "interrupt-an-answer"),
            '"jazz" was heard',
        ),
    ],
    ids=["wrong hours", "a tool that raises", "a tool that hangs", "no tools", "a long protection", "no barge-in"],
)
def test_a_fault_in_agent_tool_or_settings_turns_its_scenario_red(
    tmp_path: Path, file: str, before: str, after: str, settings: dict[str, str], scenario: str, problem: str
) -> None:
    for each in (RESTAURANT, RESTAURANT.with_name("restaurant_tools.py")):
        shutil.copy(each, tmp_path)
    whole = (tmp_path / file).read_text()
    assert before in whole
    (tmp_path / file).write_text(whole.replace(before, after, 1))
    status, found = rehearse(tmp_path / RESTAURANT.name, tmp_path, scenario, settings=settings)
    assert status == 1
    assert problem in found[scenario]


@pytest.mark.slow
def test_the_fixture_rehearses_in_a_test_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "test_agent.py").write_text(
        f"""
def test_hours(call_agent):
    call = call_agent({str(SCENARIOS / "opening-hours.toml")!r})
    assert not call.problems
    assert [tool.name for tool in call.tools] == ["opening_hours"]
    assert "from noon" in call.heard


def test_a_table_of_steps(call_agent):
    assert call_agent({{"step": [{{"hang_up": True}}], "expect": {{"ended_by": "agent"}}}}).problems
"""
    )
    env = {**os.environ, "AGENT_FILE": str(RESTAURANT), "OPENAI_API_KEY": ""}
    command = [sys.executable, "-m", "pytest", "-q", "--simulated-model", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=env, text=True, capture_output=True)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
