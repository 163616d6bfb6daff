"""Tools in real calls: answers reach the model, and tools that misbehave cost nobody else anything."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from proofs.judge import judge
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

DEADLINE_S = 2
# By the name of the tool: the body of its function, and a part of the answer that the model gets.
TOOLS = {
    "answers": ("return 'open until ' + call.to_number", "open until +155502"),
    "sleeps": ("time.sleep(30)", ""),
    "raises": ("raise ValueError('no')", "ValueError"),
    "hoards": ("hoard = []\n    while True: hoard.append(bytes(10_000_000))", ""),
    "exits": ("os._exit(3)", ""),
    "spins": ("while True: pass", ""),
}
# A server of tools that ends in the middle of a call.
DYING = """
import os
from mcp.server.mcpserver import MCPServer

server = MCPServer("dying")

@server.tool()
def dies() -> str:
    '''Die.'''
    os._exit(1)

server.run("stdio")
"""
# By the agent: the table of its tools, and a part of the answer that the model gets. {here} is the agents' directory,
# {port} that of a server that answers with 100 MB.
MORE = {
    "floods": (
        f'[tools.http.floods]\ndescription = "Flood."\nurl = "http://127.0.0.1:{{port}}/"\n'
        f"allow_private = true\ndeadline_s = {DEADLINE_S}\n",
        "[cut: the answer",
    ),
    "dying_dies": (
        f'[tools.mcp.dying]\ncommand = ["{sys.executable}", "{{here}}/dying.py"]\ndeadline_s = {DEADLINE_S}\n',
        "not known whether it was carried out",
    ),
}
AGENTS = (*TOOLS, *MORE)
FLOOD_BYTES = 100_000_000
OTHERS = 20
# Calls with a problem whose carrier itself was later than this say nothing about the system; they are made again.
VOID_MS = 15
TRIES = 3


# A server of its own, so that the flood does not delay the carrier: each request gets FLOOD_BYTES, or as many as it
# takes; then the path /sent says how many that were.
FLOOD = f"""
import contextlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sent = 0

class Flood(BaseHTTPRequestHandler):
    def do_GET(self):
        global sent
        self.send_response(200)
        self.end_headers()
        if self.path == "/sent":
            self.wfile.write(str(sent).encode())
            return
        block = b"x" * 1_000_000
        with contextlib.suppress(OSError):
            for _ in range({FLOOD_BYTES} // len(block)):
                self.wfile.write(block)
                sent += len(block)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Flood)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def flood() -> Iterator[int]:
    """The port of a server that answers with 100 MB."""
    with subprocess.Popen([sys.executable, "-c", FLOOD], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.kill()


def write(agents: Path, port: int) -> None:
    (agents / "dying.py").write_text(DYING)
    for number, (name, (table, _)) in enumerate(MORE.items(), start=len(TOOLS)):
        table = table.format(here=agents, port=port)
        (agents / f"{name}.toml").write_text(
            f'instructions = "Call {name}."\ngreeting = "Hello."\nnumbers = ["+1555020{number}"]\n{table}'
        )
    (agents / "plain.toml").write_text('instructions = "Talk."\ngreeting = "Hello."\ndefault = true\n')
    for number, (name, (body, _)) in enumerate(TOOLS.items()):
        (agents / f"{name}.py").write_text(
            "import os, time\nfrom twentyms import CallContext, tool\n\n"
            f"@tool(deadline_s={DEADLINE_S})\ndef {name}(call: CallContext) -> str:\n"
            f'    """A tool."""\n    {body}\n'
        )
        (agents / f"{name}.toml").write_text(
            f'instructions = "Call {name}."\ngreeting = "Hello."\nnumbers = ["+1555020{number}"]\n'
            f'[tools]\npython = ["{name}.py"]\n'
        )


def answers(session: dict[str, Any]) -> list[str]:
    return [each["output"] for each in session["functions"] if each["type"] == "function_call_output"]


def test_tools_answer_in_time_and_those_that_misbehave_are_not_heard_in_other_calls(tmp_path: Path, flood: int) -> None:
    agents, behaviour = tmp_path / "agents", tmp_path / "behaviour.json"
    agents.mkdir()
    write(agents, flood)
    behaviour.write_text(json.dumps({"responses": [{}, {"tool_call": " ".join(AGENTS)}]}))
    with Stack(log=tmp_path / "log", env={"AGENTS_DIR": str(agents)}, model=("--behaviour", str(behaviour))) as stack:

        async def calls() -> tuple[list[CallRecord], list[CallRecord]]:
            async with Exchange() as exchange:

                async def place(script: list[Any], to_number: str, seed: int) -> CallRecord:
                    await asyncio.sleep(seed * 0.1)
                    caller = Caller(script, seed=seed, noise=True)
                    return await exchange.place_call(
                        stack.webhook_url, stack.auth_token, caller=caller, to_number=to_number
                    )

                using = [
                    place([Say("hello", AiSilent(ms=300)), HangUp(AfterAnswer(ms=14_000))], f"+1555020{number}", number)
                    for number in range(len(AGENTS))
                ]
                others = [
                    place(
                        [Say("hello", AiSilent(ms=300)), Say("hello", AiHeard(ms=1_500)), HangUp(AiHeard(ms=1_500))],
                        "+15550300",
                        number,
                    )
                    for number in range(OTHERS)
                ]
                records = await asyncio.gather(*using, *others)
                return records[: len(AGENTS)], records[len(AGENTS) :]

        for _ in range(TRIES):
            using, others = asyncio.run(calls())
            verdicts = [judge(record, stack.sessions(record.call_sid)) for record in others]
            late_ms = max(each.lag_max_ms for each in verdicts)
            if late_ms <= VOID_MS or not any(each.problems() for each in verdicts):
                break
        for (name, (_, part)), record in zip((TOOLS | MORE).items(), using, strict=True):
            (session,) = stack.sessions(record.call_sid)
            (answer,) = answers(session)
            assert part in answer, f"{name}: {answer}"
            kinds = [each["type"] for each in session["events"] if each["dir"] == "in"]
            assert kinds.count("response.create") == 2, f"{name}: the greeting, and the words about the answer"
            at_ns = {each["type"]: each["at_ns"] for each in session["events"] if each["dir"] == "in"}
            called_ns = next(
                each["at_ns"] for each in session["events"] if each["type"] == "response.function_call_arguments.done"
            )
            assert at_ns["conversation.item.create"] - called_ns < (DEADLINE_S + 1) * 1e9, name
            assert not session["errors"]
        if late_ms > VOID_MS and any(each.problems() for each in verdicts):
            pytest.skip(f"this machine is too busy: the carrier itself was {late_ms:.0f} ms late")
        for verdict in verdicts:
            assert not verdict.problems()
        silence_ms = sorted(each.silence_ms for verdict in verdicts for each in verdict.interruptions)
        assert int(get(flood, "/sent")[1]) < FLOOD_BYTES
        print(f"silence p99 {quantiles(silence_ms, n=100)[98]:.0f} ms in {len(silence_ms)} interruptions")
