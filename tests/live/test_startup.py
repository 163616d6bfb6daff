"""How processes start when something is wrong, and that they leave nothing when they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, Caller, Press
from simulator.carrier.client import place_call
from twentyms.stack import ROOT, free_port, get

EX_CONFIG = 78
EX_TEMPFAIL = 75


def environment(run_dir: Path, **changes: str) -> dict[str, str]:
    names = ("PATH", "HOME", "LANG")
    base = {name: os.environ[name] for name in names if name in os.environ}
    base |= {"RUN_DIR": str(run_dir), "ALLOW_UNSIGNED": "on", "GATEWAY_PORT": str(free_port())}
    return base | changes


def last_words(module: str, env: dict[str, str], cwd: Path) -> tuple[int, list[str]]:
    """Run a process that should give up, in an empty folder without .env: its exit status and stderr's lines."""
    impatient = (
        "import runpy; from shared import process; process.HANDOVER_S = 0.0; "
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", impatient], cwd=cwd, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=30
    )
    return done.returncode, done.stderr.decode().splitlines()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short: a socket's path has at most 107 bytes."""
    path = Path("/tmp") / f"t-{uuid.uuid4().hex[:8]}"
    yield path
    assert not path.exists()


@pytest.mark.parametrize(
    ("module", "changes", "words"),
    [
        ("gateway", {"GATEWAY_PORT": "eighty"}, "GATEWAY_PORT"),
        ("gateway", {"ALLOW_UNSIGNED": "off"}, "TWILIO_AUTH_TOKEN"),
        *((each, {"LOG_LEVEL": "VERBOSE"}, "LOG_LEVEL") for each in ("gateway", "txpacer", "aibridge", "callbook")),
        ("gateway", {"TWILIO_AUTH_TOKEN": "x"}, "PUBLIC_URL is not set"),
        ("gateway", {"TWILIO_AUTH_TOKEN": "x", "PUBLIC_URL": "http://example.com"}, "not https"),
        ("txpacer", {"TX_LEAD_MS": "1"}, "TX_LEAD_MS"),
        ("txpacer", {"RUN_DIR": "/dev/null/x"}, "RUN_DIR"),
        ("aibridge", {}, "OPENAI_API_KEY is not set"),
        ("aibridge", {"OPENAI_API_KEY": "x", "AGENT_FILE": "/dev/null/agent.toml"}, "AGENT_FILE"),
        ("aibridge", {"OPENAI_API_KEY": "x", "AGENT_FILE": "/dev/null"}, "is not an agent"),
        *((each, {"AGENTS_DIR": "/dev/null"}, "AGENTS_DIR") for each in ("aibridge", "gateway")),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_that_names_it(
    module: str, changes: dict[str, str], words: str, run_dir: Path, tmp_path: Path
) -> None:
    status, lines = last_words(module, environment(run_dir, **changes), tmp_path)
    assert status == EX_CONFIG
    assert [line for line in lines if words in line] == [line for line in lines if line.startswith(f"{module}:")]
    assert not any("Traceback" in line for line in lines)


def test_a_port_in_use_is_named(run_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        env = environment(run_dir, GATEWAY_PORT=port, GATEWAY_HOST="127.0.0.1")
        status, lines = last_words("gateway", env, tmp_path)
    assert status == EX_CONFIG
    assert "GATEWAY_PORT" in lines[-1]
    assert port in lines[-1]


def test_a_key_that_the_model_refuses_ends_aibridge_with_one_line(run_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    model = subprocess.Popen([sys.executable, "-m", "simulator.model.server", "--port", str(port)], cwd=ROOT)
    try:
        while get(port, "/healthz")[0] != 200:
            assert model.poll() is None
            time.sleep(0.02)
        env = environment(run_dir, OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", NO_PROXY="127.0.0.1")
        for changes, words in (
            ({"OPENAI_API_KEY": "sk-refused"}, "OPENAI_API_KEY"),
            ({"OPENAI_API_KEY": "sk-fine", "OPENAI_REALTIME_MODEL": "no-such-model"}, "OPENAI_REALTIME_MODEL"),
        ):
            status, lines = last_words("aibridge", env | changes, tmp_path)
            assert status == EX_CONFIG
            assert words in lines[-1]
            assert "sk-" not in lines[-1]
    finally:
        model.terminate()
        model.wait()


def test_a_model_that_cannot_be_reached_is_named_by_its_address(run_dir: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    env = environment(run_dir, OPENAI_API_KEY="sk-fine", OPENAI_BASE_URL=f"http://{address}/v1", NO_PROXY="127.0.0.1")
    command = [sys.executable, "-m", "aibridge"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        warning = next(line for line in process.stderr if b"cannot be reached" in line)
        assert address.encode() in warning
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_a_second_pacer_in_a_run_dir_gives_up_and_leaves_the_first_alone(run_dir: Path, tmp_path: Path) -> None:
    env = environment(run_dir)
    first = subprocess.Popen([sys.executable, "-m", "txpacer"], cwd=ROOT, env=env)
    try:
        while not (run_dir / "txpacer-frames.ipc").exists():
            assert first.poll() is None
            time.sleep(0.02)
        status, lines = last_words("txpacer", env, tmp_path)
        assert status == EX_TEMPFAIL
        assert "already runs" in lines[-1]
        assert (run_dir / "txpacer-frames.ipc").exists()
    finally:
        first.terminate()
        assert first.wait(10) == 0


def marked(mark: str) -> list[int]:
    """Processes whose environment holds `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def variable(pid: int, name: str) -> str:
    """A variable of a process's environment; "" when it is gone."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:
        return ""
    return dict(entry.partition("=")[::2] for entry in entries).get(name, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_twentyms_run_leaves_no_process_and_no_file_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, a closed terminal, a supervisor, and the worst."""
    mark = uuid.uuid4().hex
    port = free_port()
    env = environment(tmp_path, GATEWAY_PORT=str(port), METRICS_PORT=str(free_port()), TMPDIR=str(tmp_path), MARK=mark)
    # A shell without job control starts its commands with SIGINT ignored, and whatever they start ignores it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stack = subprocess.Popen([sys.executable, "-m", "twentyms", "run"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    while get(port, "/readyz")[0] != 200:
        assert stack.poll() is None
        time.sleep(0.05)
    processes = marked(mark)
    assert len(processes) >= 5
    run_dirs = {Path(value) for pid in processes if (value := variable(pid, "RUN_DIR")) != str(tmp_path)}
    assert any(path.glob("*.ipc") for path in run_dirs)
    stack.send_signal(number)
    stack.wait(20)
    deadline = time.monotonic() + 15
    while (marked(mark) or any(path.exists() for path in run_dirs)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(mark) == []
    assert [path for path in run_dirs if path.exists()] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.live
def test_a_call_that_is_live_at_ctrl_c_is_stored_with_its_turns_and_its_end(tmp_path: Path) -> None:
    port, token = free_port(), "no-token-is-needed"
    (tmp_path / ".env").touch()
    env = environment(tmp_path / "run", GATEWAY_PORT=str(port), METRICS_PORT=str(free_port()))
    env |= {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    twentyms = [sys.executable, "-m", "twentyms"]
    running = subprocess.Popen([*twentyms, "run"], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    while get(port, "/readyz")[0] != 200:
        assert running.poll() is None
        time.sleep(0.05)
    greeting_heard = Caller((Press("1", AiHeard(ms=4_000)),))

    async def call() -> CallRecord:
        placed = asyncio.create_task(place_call(f"http://127.0.0.1:{port}/twilio/voice", token, caller=greeting_heard))
        while not greeting_heard.is_done:  # noqa: ASYNC110  # the caller has no event for it
            await asyncio.sleep(0.05)
        running.send_signal(signal.SIGINT)
        return await placed

    heard = asyncio.run(call())
    assert running.wait(20) == 0
    command = [*twentyms, "calls", "--json", heard.call_sid]
    stored = json.loads(subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True).stdout)
    assert stored["end_reason"] == "hung-up"
    (greeting,) = stored["turns"]
    assert greeting["heard_ms"] >= 4_000
    assert {usage["model"] for usage in stored["usage"]} == {"gpt-realtime-2.1-simulated"}
