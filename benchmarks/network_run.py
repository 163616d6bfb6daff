"""All systems at the same time, each over a path of its own with the same behaviour and seed."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from simulator.network.proxy import ProxyProcess
from simulator.network.tun import TunNetwork
from twentyms.stack import Stack

from .capacity_callers import ANSWER_MS, Callee
from .network_callers import Cell, measure
from .network_figures import Row, Stalls
from .network_paths import NetworkPath
from .pacing_run import go_before
from .peers.__main__ import PEERS, Peer, run_peer

# The first tag of a path over TUN devices; each system has one of its own.
_TAG: Final = 100


@dataclass(frozen=True)
class System:
    """What answers the calls: ourselves with settings, or a peer."""

    name: str
    words: str
    env: dict[str, str] = field(default_factory=dict)
    peer: Peer | None = None


def _fixed(ms: int) -> System:
    env = {name: str(ms) for name in ("TX_LEAD_MS", "TX_LEAD_MIN_MS", "TX_LEAD_MAX_MS")}
    return System(f"fixed-{ms}", f"lead {ms} ms", env)


def _peer(name: str) -> System:
    return System(name, name, peer=next(each for each in PEERS if each.name == name))


SYSTEMS: Final = {
    each.name: each
    for each in (
        _fixed(120),
        System("adaptive-180", "lead adaptive to 180 ms"),
        System("clear-600", "`clear`, lead up to 600 ms", {"BARGE_IN": "clear", "TX_LEAD_MAX_MS": "600"}),
        _peer("unpaced"),
        _peer("agent-connect"),
        _fixed(180),
    )
}
USUAL: Final = tuple(SYSTEMS)[:5]


@dataclass(frozen=True)
class _Running:
    """A system that is up: where it listens, and what the figures need."""

    callee: Callee
    port: int
    root_pid: int
    model_pid: int
    model_port: int
    metrics_dir: Path | None


def run_path(
    path: NetworkPath, systems: Sequence[System], *, calls: int, seconds: float, seed: int, tls: bool, out: Path
) -> list[Row]:
    """Carry the calls of all systems over this path. Raises ConfigError where something does not come up."""
    with ExitStack() as up:
        running = _start_all(up, systems, calls, out)
        roads = [up.enter_context(_road(path, each, number, seed=seed, tls=tls)) for number, each in enumerate(running)]
        cells = [
            Cell(
                system.name,
                path,
                calls,
                seconds,
                seed,
                each.callee,
                road.namespace,
                road.connect_to,
                each.root_pid,
                each.model_port,
                each.metrics_dir,
                road.stalls,
            )
            for system, each, road in zip(systems, running, roads, strict=True)
        ]
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(len(cells), mp_context=fresh) as pool:
            rows = list(pool.map(measure, cells))
    for row, road in zip(rows, roads, strict=True):
        row.path_late_ms, row.lost_packets = road.late_ms, road.lost
    return rows


def _start_all(up: ExitStack, systems: Sequence[System], calls: int, out: Path) -> list[_Running]:
    """All at once: a start takes seconds."""
    behaviour = out / "behaviour.json"
    behaviour.write_text(json.dumps({"answer_ms": ANSWER_MS}))
    contexts = [_running(system, behaviour, calls, out) for system in systems]
    # The threads stay until the end: the kernel ends a process with the thread that started it (die_with_parent).
    pool = up.enter_context(ThreadPoolExecutor(len(systems)))
    starts = [pool.submit(context.__enter__) for context in contexts]
    wait(starts)
    # Those that came up are stopped, also when another one did not.
    for context, start in zip(contexts, starts, strict=True):
        if start.exception() is None:
            up.push(context)
    running = [start.result() for start in starts]
    for each in running:
        go_before(each.model_pid)
    return running


@contextmanager
def _running(system: System, behaviour: Path, calls: int, out: Path) -> Iterator[_Running]:
    if system.peer is not None:
        with run_peer(system.peer, behaviour, out, host="0.0.0.0") as peer:
            yield _Running(
                Callee(peer.webhook_url, "token"), peer.port, peer.pid, peer.model_pid, peer.model_port, None
            )
        return
    env = {"GATEWAY_HOST": "0.0.0.0", "MAX_CALLS": str(calls + 10), **system.env}
    with Stack(env=env, model=("--behaviour", str(behaviour)), log=out / f"{system.name}.log") as stack:
        callee = Callee(stack.webhook_url, stack.auth_token)
        metrics = stack.run_dir / "metrics"
        yield _Running(callee, stack.gateway_port, stack.pipeline_pid, stack.model_pid, stack.model_port, metrics)


@dataclass
class _Road:
    """The way from the callers to one system. `late_ms` and `lost` are known at its end."""

    connect_to: tuple[str, int]
    namespace: str = ""
    stalls: Stalls | None = None
    late_ms: float = 0.0
    lost: int = 0


@contextmanager
def _road(path: NetworkPath, to: _Running, number: int, *, seed: int, tls: bool) -> Iterator[_Road]:
    behaviour = path.behaviour
    if path.behind_proxy:
        with ProxyProcess(("127.0.0.1", to.port), behaviour, seed=seed, tls=tls) as proxy:
            every_ms, long_ms = behaviour.stall_every_ms, behaviour.stall_ms
            stalls = Stalls(proxy.began_ns, int(every_ms * 1e6), int(long_ms * 1e6)) if every_ms else None
            road = _Road(("127.0.0.1", proxy.port), stalls=stalls)
            yield road
        road.late_ms = proxy.late_ms
        return
    with TunNetwork(behaviour, seed=seed, tag=_TAG + number, tls_to=("127.0.0.1", to.port) if tls else None) as net:
        road = _Road((net.near, to.port), net.namespace)
        if tls:
            host, _, port = net.tls.partition(":")
            road.connect_to = (host, int(port))
        yield road
    road.late_ms, road.lost = net.carried.late_ms, net.carried.lost
