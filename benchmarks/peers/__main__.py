"""`make bench-peers`: one table from one run, with the same callers and the same model for every system.

Each peer is installed from PyPI into an environment of its own. A small app in this folder drives it, in the
configuration of its documentation. blind.py judges all systems in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.capacity_callers import ANSWER_MS, Callee
from benchmarks.capacity_figures import Figures
from benchmarks.capacity_report import machine, table, write_json
from benchmarks.capacity_run import REST_S, Bench, fetch_sessions, forget_settings
from benchmarks.pacing_run import go_before
from shared.process import ConfigError, die_with_parent, run
from simulator.carrier.call import CallRecord
from twentyms.stack import ROOT, Stack, free_port, get

from .blind import hear

HERE: Final = Path(__file__).parent
START_S: Final = 60.0


@dataclass(frozen=True)
class Peer:
    """A peer: its name, what pip installs for it, and the app that drives it."""

    name: str
    requirements: tuple[str, ...]
    app: str


_SERVER: Final = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0")
PEERS: Final = (
    Peer("unpaced", ("websockets==17.4", *_SERVER), "unpaced.py"),
    Peer("openai-agents", ("openai-agents[voice]==0.24.0", *_SERVER), "openai_agents.py"),
    Peer("agent-connect", ("twilio-agent-connect[server,openai-realtime]==2.5.0", *_SERVER), "agent_connect.py"),
    Peer("pipecat", ("pipecat-ai[openai,websocket]==1.14.0", *_SERVER), "pipecat_bot.py"),
)


def install(peer: Peer, directory: Path) -> Path:
    """The Python of the peer's environment, which is made when it does not exist."""
    python = directory / peer.name / "bin" / "python"
    wanted = "\n".join(peer.requirements)
    stamp = directory / peer.name / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing {', '.join(peer.requirements)} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(directory / peer.name)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, *peer.requirements], check=True)
        stamp.write_text(wanted)
    return python


def version(peer: Peer, python: Path) -> str:
    """The peer's name and its installed version."""
    name = peer.requirements[0].partition("[")[0].partition("=")[0]
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    found = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    return f"{peer.name} {found}" if peer.name in name else f"{peer.name} ({name} {found})"


@contextmanager
def _process(command: list[str], env: dict[str, str], log: IO[bytes], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that answers /healthz on `port`. Raises ConfigError when it does not answer."""
    process = subprocess.Popen(
        command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
    )
    try:
        deadline = time.monotonic() + START_S
        while get(port, "/healthz")[0] != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConfigError(f"{' '.join(command)} did not come up; see {log.name}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Judge:
    """Gives the blind judge the sessions of each step: those that opened since the step before."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, figures: Figures, bench: Bench, records: list[CallRecord]) -> None:
        sessions = [s for s in fetch_sessions(bench.model_port) if s["session_id"] not in self._seen]
        self._seen |= {s["session_id"] for s in sessions}
        hear(figures, records, [s for s in sessions if s["items"]])


def measure(bench: Bench, chosen: argparse.Namespace) -> list[Figures]:
    # Carrier and model stand for other machines: they run at a higher priority than every measured system.
    go_before(bench.model_pid)
    go_before()
    rest_kb = bench.warm_up(seed=1)
    done: list[Figures] = []
    for calls in chosen.calls:
        figures = bench.step(calls, chosen.seconds, rest_kb=rest_kb, seed=calls)
        if done:
            figures.follow(done[-1])
        done.append(figures)
        print(f"{bench.system}: {calls} calls, {done[-1].cpu_total_ms:.1f} ms", file=sys.stderr, flush=True)
        time.sleep(REST_S)
    return done


@dataclass(frozen=True)
class RunningPeer:
    """A peer that is up, with a simulated model of its own."""

    webhook_url: str
    port: int
    pid: int
    model_port: int
    model_pid: int


@contextmanager
def run_peer(peer: Peer, behaviour: Path, out: Path, *, host: str = "127.0.0.1") -> Iterator[RunningPeer]:
    """Install the peer below `out`, and run it there on `host`. Raises ConfigError when it does not come up."""
    python = install(peer, out)
    port, model_port = free_port(), free_port()
    base = {**os.environ, "NO_PROXY": "127.0.0.1,localhost", "OPENAI_API_KEY": "sk-simulated"}
    env = base | {
        "HOST": host,
        "PORT": str(port),
        "MODEL_URL": f"ws://127.0.0.1:{model_port}/v1/realtime?model=gpt-realtime-2.1",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    model = [sys.executable, "-m", "simulator.model.server", "--port", str(model_port), "--behaviour", str(behaviour)]
    with (
        (out / f"{peer.name}.log").open("wb") as log,
        _process(model, base, log, model_port) as served,
        _process([str(python), str(HERE / peer.app)], env, log, port) as app,
    ):
        yield RunningPeer(f"http://127.0.0.1:{port}/twilio/voice", port, app.pid, model_port, served.pid)


def measure_peer(peer: Peer, chosen: argparse.Namespace, behaviour: Path) -> list[Figures]:
    with run_peer(peer, behaviour, chosen.out) as up:
        bench = Bench(
            version(peer, install(peer, chosen.out)),
            Callee(up.webhook_url, "token"),
            up.pid,
            up.model_pid,
            up.model_port,
            os.getpid(),
            _Judge(),
        )
        return measure(bench, chosen)


def measure_ourselves(chosen: argparse.Namespace, behaviour: Path) -> list[Figures]:
    env = {"MAX_CALLS": str(max(chosen.calls) + 10), "DATA_DIR": str(behaviour.parent / "data")}
    with Stack(env=env, model=("--behaviour", str(behaviour)), log=chosen.out / "twentyms.log") as stack:
        bench = Bench(
            "twentyms",
            Callee(stack.webhook_url, stack.auth_token),
            stack.pipeline_pid,
            stack.model_pid,
            stack.model_port,
            os.getpid(),
            _Judge(),
            stack.run_dir / "metrics",
            int(stack.env["METRICS_PORT"]),
        )
        return measure(bench, chosen)


def main() -> None:
    names = ["twentyms", *(peer.name for peer in PEERS)]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path, default=Path("out/peers"), help="environments, logs and peers.json")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    chosen.out = chosen.out.absolute()
    chosen.out.mkdir(parents=True, exist_ok=True)
    forget_settings()
    for peer in PEERS:
        if peer.name in chosen.only:
            install(peer, chosen.out)
    begun = machine()
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        behaviour = Path(directory) / "behaviour.json"
        behaviour.write_text(json.dumps({"answer_ms": ANSWER_MS}))
        if "twentyms" in chosen.only:
            rows += measure_ourselves(chosen, behaviour)
        for peer in PEERS:
            if peer.name in chosen.only:
                rows += measure_peer(peer, chosen, behaviour)
    more: dict[str, Any] = {"begun": begun, "seconds": chosen.seconds}
    write_json(rows, chosen.out / "peers.json", **more)
    if chosen.json:
        print((chosen.out / "peers.json").read_text(), end="")
        return
    print(f"{begun} at the start")
    for calls in chosen.calls:
        print("\n" + table([figures for figures in rows if figures.calls == calls], named=True))


if __name__ == "__main__":
    run("bench-peers", main)
