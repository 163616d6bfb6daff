"""Two numbers, two agents: real processes, real time."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from proofs.cell_processes import processes
from proofs.judge import judge
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(90)]

CALLS = 20
STAGGER_S = 2.0
NUMBERS = {"sales": "+15550100", "office": "+15550199"}


def write(directory: Path, name: str, voice: str, more: str = "") -> None:
    (directory / f"{name}.toml").write_text(
        f'''
        instructions = "You are the {name} of {{{{to_number}}}}, for {{{{name}}}}."
        greeting = "Hello from {name}."
        voice = "{voice}"
        {more}
        [variables]
        name = "anybody"
        '''
    )


def reload(stack: Stack) -> None:
    for each in processes(stack.run_dir):
        if each.name in ("gateway", "aibridge"):
            os.kill(each.pid, signal.SIGHUP)


class Config(BaseHTTPRequestHandler):
    """What CALL_CONFIG_URL leads to: it knows every caller's name, and is down for callers of +15550199."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["call_inbound"]
        if asked["to_number"] == NUMBERS["office"]:
            self.send_error(500)
            return
        self.send_response(200)
        self.end_headers()
        said = {"call_inbound": {"dynamic_variables": {"name": f"Ada of {asked['from_number']}"}}}
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def config_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Config) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def caller_number(number: int) -> str:
    return f"+1500555{number:04}"


def wait_for(log: Path, words: str, count: int) -> None:
    while log.read_text().count(words) < count:
        time.sleep(0.05)


def test_each_of_twenty_calls_gets_the_agent_of_its_number_and_a_live_one_keeps_it(
    tmp_path: Path, config_url: str
) -> None:
    agents, log = tmp_path / "agents", tmp_path / "log"
    agents.mkdir()
    write(agents, "sales", "cedar", 'numbers = ["+1 (555) 0100"]\nmodel = "gpt-realtime-2.1-mini"')
    write(agents, "office", "marin", "default = true\n[rules]\ngreeting_protect_ms = 0")
    secret = "whsec_" + base64.b64encode(bytes(16)).decode()
    env = {"AGENTS_DIR": str(agents), "CALL_CONFIG_URL": config_url, "WEBHOOK_SECRET": secret}
    with Stack(log=log, env=env) as stack:

        async def calls() -> tuple[list[CallRecord], list[CallRecord]]:
            async with Exchange() as exchange:

                async def one(number: int, agent: str) -> CallRecord:
                    await asyncio.sleep(number * STAGGER_S / CALLS)
                    script = [Say("hello", AiSilent(ms=300)), HangUp(AiHeard(ms=1_500))]
                    return await exchange.place_call(
                        stack.webhook_url,
                        stack.auth_token,
                        caller=Caller(script, seed=number, noise=True),
                        from_number=caller_number(number),
                        to_number=NUMBERS[agent],
                    )

                early = [asyncio.ensure_future(one(number, list(NUMBERS)[number % 2])) for number in range(CALLS)]
                await asyncio.sleep(STAGGER_S)
                write(agents, "sales", "coral", 'numbers = ["+1 (555) 0100"]')
                (agents / "office.toml").write_text("broken")
                reload(stack)
                await asyncio.to_thread(wait_for, log, "SIGHUP: the agents stay as they were", 2)
                late = await one(CALLS, "sales")
                write(agents, "office", "marin", "default = true")
                reload(stack)
                await asyncio.to_thread(wait_for, log, "SIGHUP: the agents were read again", 2)
                last = await one(CALLS + 1, "sales")
                return list(await asyncio.gather(*early)), [late, last]

        first, reloaded = asyncio.run(calls())
        expected = [("cedar", "sales") if number % 2 == 0 else ("marin", "office") for number in range(CALLS)]
        expected += [("cedar", "sales"), ("coral", "sales")]
        for number, (record, (voice, agent)) in enumerate(zip([*first, *reloaded], expected, strict=True)):
            (session,) = stack.sessions(record.call_sid)
            assert not judge(record, [session]).problems()
            assert session["voice"] == voice
            name = f"Ada of {caller_number(number)}" if agent == "sales" else "anybody"
            assert session["instructions"] == f"You are the {agent} of {NUMBERS[agent]}, for {name}."

        def kept(call_sid: str) -> dict[str, Any]:
            told: dict[str, Any] = json.loads(get(int(stack.env["METRICS_PORT"]), f"/api/calls/{call_sid}")[1])
            return told

        sales, office = (kept(record.call_sid) for record in first[:2])
    assert (sales["agent"], sales["model"]) == ("sales", "gpt-realtime-2.1-mini")
    assert office["agent"] == "office"
