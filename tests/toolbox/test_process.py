"""The process: small where there are no tools, and one that explains what is wrong with them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from callbook.exporter import PagesCollector
from tests.on_a_loop import on_a_loop
from tests.toolbox.running import Toolbox, until, worker

pytestmark = pytest.mark.live

AGENT = 'instructions = "Be kind."\n'
TOOLS = '[tools]\npython = ["tools.py"]\n'
FILE = """
from twentyms import tool

@tool
def hello() -> str:
    '''Say hello.'''
    return "hello"
"""


def wait(condition: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def proportional_kb(pid: int) -> int:
    """Memory with its share of what other processes use, too."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def test_without_tools_it_is_a_process_of_a_few_megabytes_until_an_agent_gets_some(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(AGENT)
    (tmp_path / "tools.py").write_text(FILE)
    toolbox = Toolbox(tmp_path)
    cmdline = Path(f"/proc/{toolbox.process.pid}/cmdline")
    wait(lambda: b"toolbox.idle" in cmdline.read_bytes())
    time.sleep(0.2)
    assert proportional_kb(toolbox.process.pid) < 10_000
    assert not toolbox.run_dir.exists()
    (tmp_path / "agent.toml").write_text(AGENT + TOOLS)
    toolbox.process.send_signal(signal.SIGHUP)

    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            assert (await asking.call("hello"))[1].output == "hello"

    scenario()
    toolbox.stop()


def test_a_reload_brings_new_tools_and_keeps_the_old_ones_when_there_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(AGENT + TOOLS)
    (tmp_path / "tools.py").write_text(FILE)
    toolbox = Toolbox(tmp_path)

    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            (tmp_path / "tools.py").write_text(FILE.replace("hello()", "goodbye()"))
            toolbox.process.send_signal(signal.SIGHUP)
            await until(lambda: asking.tools == {"goodbye"})
            assert (await asking.call("goodbye"))[1].output == "hello"
            (tmp_path / "agent.toml").write_text(AGENT + TOOLS + "pyhton = []\n")
            toolbox.process.send_signal(signal.SIGHUP)
            await until(lambda: "SIGHUP: the agents stay as they were" in toolbox.log())
            assert (await asking.call("goodbye"))[1].output == "hello"
        await until(lambda: len(toolbox.children()) == 1)
        metrics = {each.name: each for each in PagesCollector(toolbox.run_dir / "metrics").collect()}
        done = {sample.labels["tool"]: sample.value for sample in metrics["twentyms_toolbox_done"].samples}
        # The names of the start; later ones are counted together.
        assert done == {"hello": 0, "other": 2}

    scenario()
    toolbox.stop()


# A file of tools that cannot be used, and what the log says of it.
BROKEN = [
    ("import no_such_module\n", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
    ("def\n", "line 1: SyntaxError"),
    ("x = 1\n", "no function has @tool"),
    (FILE.replace("    '''Say hello.'''\n", ""), "hello has no docstring"),
    ("import sys\nsys.exit(3)\n", "line 2: SystemExit"),
]


def test_each_file_of_tools_that_cannot_be_used_is_explained_in_one_line_and_costs_no_other_agent(
    tmp_path: Path,
) -> None:
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "agent.toml").write_text(AGENT + "default = true\n" + TOOLS)
    (agents / "tools.py").write_text(FILE)
    for number, (file, _) in enumerate(BROKEN):
        (agents / f"agent{number}.toml").write_text(AGENT + TOOLS.replace("tools.py", f"broken{number}.py"))
        (agents / f"broken{number}.py").write_text(file)
    toolbox = Toolbox(tmp_path, AGENTS_DIR=str(agents), AGENT_FILE="")

    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            assert (await asking.call("hello"))[1].output == "hello"

    scenario()
    for number, (_, words) in enumerate(BROKEN):
        (line,) = (line for line in toolbox.log().splitlines() if f"broken{number}.py cannot be used" in line)
        assert f"broken{number}.py" in line.partition("cannot be used")[2]
        assert words in line
    assert "Traceback" not in toolbox.log()
    toolbox.stop()


def test_a_file_that_could_not_be_imported_is_tried_again_by_itself(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(AGENT + TOOLS)
    (tmp_path / "tools.py").write_text("import no_such_module\n")
    toolbox = Toolbox(tmp_path)
    wait(lambda: "0 tools of 1 agent" in toolbox.log())
    (tmp_path / "tools.py").write_text(FILE)

    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            assert (await asking.call("hello"))[1].output == "hello"

    scenario()
    toolbox.stop()


def test_a_declaration_that_cannot_be_used_ends_it_with_the_status_of_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(AGENT + "[tools]\npyhton = []\n")
    toolbox = Toolbox(tmp_path)
    assert toolbox.process.wait(20) == 78
    (line,) = toolbox.log().splitlines()
    assert line.startswith("toolbox: ")
    assert "unknown field `pyhton`" in line
