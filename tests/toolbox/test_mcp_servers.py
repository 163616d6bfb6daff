"""MCP servers over stdio and HTTP: their tools under their names, and a dead one costs nobody else's."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.on_a_loop import on_a_loop
from tests.toolbox.running import Toolbox, until, worker

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(90),
    # Importing it takes a second, and only the server of these tests needs it.
    pytest.mark.skipif(find_spec("mcp") is None, reason="mcp is not installed"),
]

# `died` is made when the server is told to die: it then refuses to start until the file is gone.
SERVER = """
import os, sys, time
from pathlib import Path
from mcp.server.mcpserver import MCPServer

HERE = Path(__file__).parent
if (HERE / "died").exists():
    sys.exit(1)
(HERE / "pid").write_text(str(os.getpid()))
server = MCPServer("calendar")

@server.tool()
def add(a: int, b: int) -> int:
    '''Add two numbers.'''
    return a + b

@server.tool()
def secret() -> str:
    '''Tell what the environment holds.'''
    return os.environ.get("CALENDAR_KEY", "") + os.environ.get("OTHER_KEY", "")

@server.tool()
def fails() -> str:
    '''Fail.'''
    raise ValueError("it is full")

@server.tool()
def dies() -> str:
    '''Die.'''
    os._exit(1)

@server.tool()
async def waits() -> str:
    '''Wait.'''
    import asyncio
    await asyncio.sleep(30)
    return ""

@server.tool()
def unwanted() -> str:
    '''Not used.'''
    return ""

server.run()
"""
AGENT = """
instructions = "Be kind."
[tools]
python = ["tools.py"]
[tools.mcp.calendar]
command = ["PYTHON", "server.py"]
env = { CALENDAR_KEY = "${KEY}" }
only = ["add", "secret", "fails", "dies", "waits"]
deadline_s = 2
[tools.mcp.nowhere]
url = "http://127.0.0.1:9/mcp"
"""
TOOLS = """
from twentyms import tool

@tool
def hello() -> str:
    '''Say hello.'''
    return "hello"
"""


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    directory = tmp_path_factory.mktemp("agent")
    (directory / "agent.toml").write_text(AGENT.replace("PYTHON", sys.executable))
    (directory / "server.py").write_text(SERVER)
    (directory / "tools.py").write_text(TOOLS)
    running = Toolbox(directory, KEY="k3y", OTHER_KEY="not for the server")
    yield running
    # Killed, it closes nothing in order; the server has to notice by itself.
    running.process.kill()
    running.process.wait()
    server = int((directory / "pid").read_text())
    give_up_s = time.monotonic() + 10
    while b"server.py" in cmdline(server):
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    assert "k3y" not in running.log()
    shutil.rmtree(running.run_dir)


def test_the_servers_tools_have_its_name_and_only_the_wanted_ones_are_there(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox, tools=6) as asking:
            names = ("add", "secret", "fails", "dies", "waits")
            assert asking.tools == {"hello", *(f"calendar_{name}" for name in names)}
            _, answer = await asking.call("calendar_add", a=2, b=3)
            assert (answer.outcome, answer.output) == ("done", "5")
            _, answer = await asking.call("calendar_secret")
            assert answer.output == "k3y"
            _, answer = await asking.call("calendar_fails")
            assert (answer.outcome, answer.output) == ("failed", "Error executing tool fails")

    scenario()
    assert "the MCP server nowhere cannot be used" in toolbox.log()


def test_a_server_that_dies_costs_its_own_tools_and_they_come_back_with_it(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox, tools=6) as asking:
            (toolbox.directory / "died").write_text("")
            waiting = asking.ask("calendar_waits")
            dying = asking.ask("calendar_dies")
            for call_id in (waiting, dying):
                assert (await asking.answer(call_id))[1].outcome == "crashed"
            assert (await asking.call("hello"))[1].output == "hello"
            await until(lambda: asking.tools == {"hello"})
            seconds, answer = await asking.call("calendar_add", a=2, b=3)
            assert answer.outcome in ("unavailable", "refused")
            assert seconds < 1
            (toolbox.directory / "died").unlink()
            await until(lambda: len(asking.tools) == 6, 30)
            assert (await asking.call("calendar_add", a=2, b=3))[1].output == "5"

    scenario()


def test_a_call_of_a_server_is_stopped_at_its_deadline_and_the_server_goes_on(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox, tools=6) as asking:
            pid = (toolbox.directory / "pid").read_text()
            seconds, answer = await asking.call("calendar_waits")
            assert answer.outcome == "timeout"
            assert seconds < 3
            assert (await asking.call("calendar_add", a=1, b=1))[1].output == "2"
            assert (toolbox.directory / "pid").read_text() == pid

    scenario()


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
