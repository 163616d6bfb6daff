"""A real toolbox process, and a worker's link to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import zmq

from aibridge.tools_link import ToolsLink
from shared import bus
from shared.liveness import HELLO_S
from shared.messages import CallTool, ToolAnswered
from shared.metrics import Page, counter
from shared.plan import CallPlan

ROOT = Path(__file__).resolve().parents[2]
PLAN = CallPlan(from_number="+15550001111", to_number="+15550002222", agent="agent")


class Toolbox:
    """`python -m toolbox` with one agent, whose file is `directory`/agent.toml. `env` adds to its environment."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.directory = directory
        # Short: a socket's path has at most 107 bytes.
        self.run_dir = Path("/tmp") / f"t-{uuid.uuid4().hex[:8]}"
        self.log_path = directory / "log"
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "RUN_DIR": str(self.run_dir),
            "AGENT_FILE": str(directory / "agent.toml"),
            "PYTHONPATH": str(ROOT),
            **env,
        }
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            command = [sys.executable, "-m", "toolbox"]
            return subprocess.Popen(command, cwd=self.directory, env=self._env, stdout=log, stderr=log)

    def restart(self) -> None:
        """As a supervisor does when it was killed."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def children(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
        left = list(self.run_dir.rglob("*"))
        shutil.rmtree(self.run_dir, ignore_errors=True)
        assert not left


class Worker:
    """Asks for tools as an aibridge worker does. `answers` has every answer, with its time."""

    def __init__(self, context: zmq.Context[Any], run_dir: Path, name: str) -> None:
        self.page = Page.in_memory([counter("dropped", ""), counter("undecodable", "")])
        self.answers: dict[str, list[tuple[float, ToolAnswered]]] = {}
        self.link = ToolsLink(
            context,
            bus.toolbox_url(run_dir),
            name=name,
            on_answer=lambda answer: self.answers.setdefault(answer.call_id, []).append((time.monotonic(), answer)),
            on_tools=lambda _: None,
            dropped=self.page.counter("dropped"),
            undecodable=self.page.counter("undecodable"),
        )

    @property
    def tools(self) -> set[str]:
        return {spec.name for spec in self.link.tools("agent")}

    def ask(self, tool: str, *, call_id: str = "", call_sid: str = "CA1", asked_of: int = 0, **arguments: Any) -> str:
        """Ask for a call, and return its id."""
        call_id = call_id or uuid.uuid4().hex
        self.link.call(CallTool(call_sid, call_id, "agent", tool, json.dumps(arguments), PLAN, asked_of))
        return call_id

    async def answer(self, call_id: str) -> tuple[float, ToolAnswered]:
        await until(lambda: call_id in self.answers)
        return self.answers[call_id][0]

    async def call(self, tool: str, **arguments: Any) -> tuple[float, ToolAnswered]:
        """How long the answer took, in seconds, and the answer."""
        began = time.monotonic()
        at, answer = await self.answer(self.ask(tool, **arguments))
        return at - began, answer


async def until(condition: Callable[[], object], timeout_s: float = 15) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def worker(toolbox: Toolbox, name: str = "aibridge-0", *, tools: int = 1) -> AsyncIterator[Worker]:
    """A worker that says hello, and that knows at least `tools` tools."""
    context: zmq.Context[Any] = zmq.Context()
    made = Worker(context, toolbox.run_dir, name)
    made.link.start()

    async def hello() -> None:
        while True:
            made.link.hello()
            await asyncio.sleep(HELLO_S)

    saying = asyncio.create_task(hello())
    try:
        await until(lambda: len(made.tools) >= tools)
        yield made
    finally:
        saying.cancel()
        made.link.close()
        context.destroy(linger=0)
