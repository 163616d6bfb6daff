"""The shipped rules and the dashboard's queries in a real Prometheus, during healthy calls and during harmed ones."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from shared.isolation import PACER_PRIORITY
from simulator.carrier.caller import AfterAnswer, AiHeard, Caller, HangUp, Say
from simulator.carrier.client import Exchange, sid
from simulator.network.path import PathBehaviour
from simulator.network.proxy import StallingProxy
from twentyms.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy/grafana/twentyms.json"
# A scrape and an evaluation of the rules.
SCRAPED_S = 2.5
Watch = Callable[[int], AbstractContextManager[Any]]


def caller(seed: int, words: int) -> Caller:
    """Interrupts every answer after a second."""
    steps = [Say("vm-sorry", AiHeard(ms=900)) for _ in range(words)]
    return Caller([*steps, HangUp(AiHeard(ms=1_000))], seed=seed)


def with_tools(agents: Path, **tools: str) -> str:
    """One agent with tools, by their names the body of each; returns the directory as a setting."""
    agents.mkdir()
    for name, statement in tools.items():
        (agents / f"{name}.py").write_text(
            "import pathlib, time\nfrom twentyms import tool\n\nspent = pathlib.Path(__file__).with_suffix('.spent')\n"
            "if spent.exists():\n    raise SystemExit\n\n"
            f'@tool(deadline_s=1)\ndef {name}() -> str:\n    """A tool."""\n    {statement}\n'
        )
    (agents / "agent.toml").write_text(
        'instructions = "Use your tools."\ngreeting = "Hello."\ndefault = true\n'
        f"[tools]\npython = {json.dumps([f'{name}.py' for name in tools])}\n"
    )
    return str(agents)


async def calls(
    stack: Stack, count: int, words: int, limit_s: float = 60.0, through: StallingProxy | None = None
) -> None:
    how: dict[str, Any] = {"limit_s": limit_s}
    if through is not None:
        how["connect_to"] = ("127.0.0.1", through.port)
    async with Exchange() as exchange:
        await asyncio.gather(
            *(
                exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller(seed, words), **how)
                for seed in range(count)
            )
        )


async def comes_back_late(stack: Stack) -> None:
    """A caller loses the media socket in mid-speech, and gets another one 5 s later."""
    async with Exchange() as exchange:
        caller = Caller([HangUp(AfterAnswer(ms=9_000))])
        call_sid = sid("CA")
        placed = asyncio.create_task(
            exchange.place_call(
                stack.webhook_url, stack.auth_token, caller=caller, call_sid=call_sid, connect_pause_s=5, limit_s=25
            )
        )
        await asyncio.sleep(7)
        media = exchange.socket_of(call_sid)
        assert media is not None
        media.transport.abort()
        await placed


async def comes_from_another_cell(stack: Stack) -> None:
    """Its story is not in the store."""
    async with Exchange() as exchange:
        url = f"{stack.webhook_url}?resume=1&cell=another"
        await exchange.place_call(url, stack.auth_token, caller=Caller([HangUp(AfterAnswer(ms=1_000))]), limit_s=9)


def queries() -> list[str]:
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "20s").replace("$instance", ".*")
            assert "$" not in expression
            found.append(expression)
    return found


def _realtime_is_permitted() -> bool:
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PACER_PRIORITY))
    except OSError:
        return False
    os.sched_setscheduler(0, before, os.sched_param(0))
    return True


def test_healthy_calls_fire_no_alert_and_every_query_of_the_dashboard_has_an_answer(
    tmp_path: Path, prometheus: Watch
) -> None:
    env = {"DATA_DIR": str(tmp_path / "data"), "AGENTS_DIR": with_tools(tmp_path / "agents", answers="return 'yes'")}
    behaviour = tmp_path / "model.json"
    behaviour.write_text(json.dumps({"responses": [{}, {"tool_call": "answers"}]}))
    with (
        Stack(env=env, model=("--behaviour", str(behaviour)), log=tmp_path / "log") as stack,
        prometheus(int(stack.env["METRICS_PORT"])) as watching,
    ):
        asyncio.run(calls(stack, 2, 2))
        time.sleep(SCRAPED_S)
        silent = [expression for expression in queries() if not watching.query(expression)]
        fired = watching.ever_fired()
    if not _realtime_is_permitted():
        fired -= {"RealtimeOff"}
    assert not silent
    assert not fired


def pids(log: Path) -> dict[str, int]:
    """Process ids by name, from honcho's log."""
    return {name: int(pid) for name, pid in re.findall(r"(\w+)\.1 started \(pid=(\d+)\)", log.read_text())}


async def harm(stack: Stack, processes: dict[str, int]) -> None:
    """Stop processes for a while, as an overloaded machine does, and the network to the callers, too."""
    network = StallingProxy(("127.0.0.1", stack.gateway_port), PathBehaviour(stall_ms=400, stall_every_ms=1_500))
    async with network, asyncio.TaskGroup() as group:
        calling = group.create_task(calls(stack, 3, 6, limit_s=16, through=network))
        while not calling.done():
            # txpacer for far longer than the gateway, so that interruptions are late, too.
            for name, stopped_s in (("txpacer", 0.7), ("gateway", 0.4)):
                await asyncio.sleep(0.3)
                os.kill(processes[name], signal.SIGSTOP)
                await asyncio.sleep(stopped_s)
                os.kill(processes[name], signal.SIGCONT)


def test_each_alert_fires_on_a_harmed_machine_with_a_harmed_model(tmp_path: Path, prometheus: Watch) -> None:
    pytest.importorskip("redis")
    pytest.importorskip("cryptography")
    behaviour = tmp_path / "model.json"
    # It stalls in mid-sentence and loses its socket every six seconds. A tool hangs, and then cannot
    # be loaded again.
    harmed = {"stall_at_ms": 500, "stall_ms": 800, "drop_session_at_ms": 6_000}
    behaviour.write_text(json.dumps(harmed | {"responses": [{}, {"tool_call": "hangs"}]}))
    tools = with_tools(tmp_path / "agents", hangs="spent.touch(); time.sleep(30)")
    env = {
        "DATA_DIR": str(tmp_path / "data"),
        "AGENTS_DIR": tools,
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "MAX_CALLS": "2",
        "TX_REALTIME": "off",
        "MODEL_RECONNECT_SECONDS": "2",
        "CELL": "one",
        "STATE_URL": "redis://127.0.0.1:1/0",
        "STATE_KEY": base64.b64encode(bytes(32)).decode(),
    }
    log = tmp_path / "log"
    with Stack(env=env, model=("--behaviour", str(behaviour)), log=log) as stack:
        processes = pids(log)
        with prometheus(int(stack.env["METRICS_PORT"])) as watching:
            asyncio.run(calls(stack, 1, 1, limit_s=9))
            asyncio.run(harm(stack, processes))
            asyncio.run(comes_back_late(stack))
            asyncio.run(comes_from_another_cell(stack))
            # The model is gone for good; then aibridge does not answer.
            os.kill(stack.model_pid, signal.SIGSTOP)
            asyncio.run(calls(stack, 1, 3, limit_s=9))
            os.kill(processes["aibridge"], signal.SIGSTOP)
            time.sleep(6)
            os.kill(processes["aibridge"], signal.SIGCONT)
            os.kill(stack.model_pid, signal.SIGCONT)
            fired = watching.ever_fired()
    shipped = set(re.findall(r"- alert: (\w+)", (tmp_path / "alerts.yml").read_text()))
    print(f"fired: {', '.join(sorted(fired))}")
    assert fired == shipped
