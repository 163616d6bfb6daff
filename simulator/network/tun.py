"""Real TCP over a bad path: two TUN devices, one in a network namespace of its own, and a program between them.

`twentyms simulate network tun --delay 60 --loss 0.01` sets the path up, prints one line of JSON (namespace, near and
far address), carries packets until Ctrl-C, and prints what it carried and lost. What runs in the namespace reaches the
near address over the path. Needs Linux, root and `ip` (iproute2).

The kernel's own netem would do the same; many kernels, those of containers and small virtual machines, lack it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Final

from shared.isolation import exact_timers, realtime
from shared.process import ConfigError, die_with_parent

from .options import PRIORITY, add_loss_options, add_path_options, chosen_path, path_options
from .path import Path, PathBehaviour
from .tls import ends_tls, free_port, speaks_tls

# linux/if_tun.h: a device of IP packets, without a header of its own before each.
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_CLONE_NEWNET: Final = 0x40000000
_PACKET_MAX: Final = 2_048
# Where the TLS proxy of a namespace listens. Every namespace has all ports to itself.
_FRONT_PORT: Final = 8_080
PROXY: Final = "twentyms simulate network proxy"


class Wire:
    """Carries packets between two descriptors, each direction over a Path of its own."""

    def __init__(self, near_fd: int, far_fd: int, towards_far: Path, towards_near: Path) -> None:
        self._ways = {near_fd: (far_fd, towards_far), far_fd: (near_fd, towards_near)}
        # (arrival, order, descriptor, packet); the order breaks ties.
        self._under_way: list[tuple[int, int, int, bytes]] = []
        self._order = 0
        self.carried = 0
        self.lost = 0
        # How much later than the path says a packet was handed over, at most: this program's own lateness.
        self.late_ns = 0

    def serve(self, stop_fd: int) -> None:
        """Return when `stop_fd` becomes readable."""
        fds = [*self._ways, stop_fd]
        while True:
            now_ns = time.monotonic_ns()
            wait_s = max(0, self._under_way[0][0] - now_ns) / 1e9 if self._under_way else None
            readable, _, _ = select.select(fds, (), (), wait_s)
            if stop_fd in readable:
                return
            for fd in readable:
                self._take(fd)
            self._hand_over()

    def _take(self, fd: int) -> None:
        onto, path = self._ways[fd]
        while True:
            try:
                packet = os.read(fd, _PACKET_MAX)
            except BlockingIOError:
                return
            at_ns = path.carry(time.monotonic_ns())
            if at_ns is None:
                self.lost += 1
            else:
                self._order += 1
                heapq.heappush(self._under_way, (at_ns, self._order, onto, packet))

    def _hand_over(self) -> None:
        now_ns = time.monotonic_ns()
        while self._under_way and self._under_way[0][0] <= now_ns:
            at_ns, _, fd, packet = heapq.heappop(self._under_way)
            self.late_ns = max(self.late_ns, now_ns - at_ns)
            # A device whose queue is full drops, as any network does.
            with contextlib.suppress(OSError):
                os.write(fd, packet)
            self.carried += 1


def open_device(name: str) -> int:
    """A TUN device; its descriptor gives and takes one IP packet at a time, without waiting. Raises OSError."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return fd


def enter(namespace: str) -> None:
    """Move the calling thread into a network namespace: sockets that it opens from now on belong there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with FilePath("/var/run/netns", namespace).open() as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")


def missing() -> str:
    """What this machine lacks for a path over TUN devices; "" when nothing."""
    if sys.platform != "linux":
        return "TUN devices and network namespaces are Linux's"
    if os.geteuid():
        return "only root may make TUN devices and network namespaces"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened"
    try:
        subprocess.run(["ip", "-V"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "the command `ip` (Debian's iproute2) is not installed"
    return ""


def _ip(*arguments: str, namespace: str = "") -> None:
    subprocess.run(["ip", *(("-n", namespace) if namespace else ()), *arguments], check=True)


def near_device(tag: int) -> str:
    """The name of the device that stays in this namespace."""
    return f"tms{tag}n"


@contextmanager
def devices(tag: int) -> Iterator[tuple[str, str, str, int, int]]:
    """Namespace, near and far address, and both descriptors, until the end. `tag` (0 to 255) tells paths apart."""
    namespace, near, far = f"twentyms-{tag}", f"10.213.{tag}.1", f"10.213.{tag}.2"
    near_name, far_name = near_device(tag), f"tms{tag}f"
    _ip("netns", "add", namespace)
    fds: list[int] = []
    try:
        fds = [open_device(near_name), open_device(far_name)]
        _ip("link", "set", far_name, "netns", namespace)
        for name, own, other, where in ((near_name, near, far, ""), (far_name, far, near, namespace)):
            _ip("addr", "add", own, "peer", other, "dev", name, namespace=where)
            _ip("link", "set", name, "up", "txqueuelen", "10000", namespace=where)
        _ip("link", "set", "lo", "up", namespace=namespace)
        yield namespace, near, far, fds[0], fds[1]
    finally:
        for fd in fds:
            os.close(fd)
        _ip("netns", "delete", namespace)


@contextmanager
def tls_across(namespace: str, near: str, to: tuple[str, int]) -> Iterator[str]:
    """TLS over the path, ended on this side before `to`. Yields what to dial in the namespace, in plain text.

    Raises ConfigError without HAProxy.
    """
    between, front = (near, free_port()), ("127.0.0.1", _FRONT_PORT)
    with TemporaryDirectory(prefix="tls-") as directory, ExitStack() as up:
        up.enter_context(ends_tls(FilePath(directory), between, to))
        up.enter_context(speaks_tls(FilePath(directory), front, between, namespace=namespace))
        yield f"{front[0]}:{front[1]}"


@dataclass(frozen=True)
class Carried:
    """What a path did with its packets, and how late it handed one over at most."""

    carried: int
    lost: int
    late_ms: float


class TunNetwork:
    """A context manager: the path is there inside. `near` and `far` are the addresses of its ends.

    `near_device` is the name of this side's device. `carried` tells after the end what the path did.
    """

    def __init__(
        self, behaviour: PathBehaviour, *, seed: int = 1, tag: int = 1, tls_to: tuple[str, int] | None = None
    ) -> None:
        """`tls_to`: carry TLS over the path to this address; `tls` is then what to dial in the namespace."""
        self._command = [sys.executable, "-m", __name__, *path_options(behaviour)]
        self._command += ["--loss", str(behaviour.loss), "--burst", str(behaviour.burst_packets)]
        self._command += ["--seed", str(seed), "--tag", str(tag)]
        if tls_to is not None:
            self._command += ["--tls-to", f"{tls_to[0]}:{tls_to[1]}"]
        self.namespace = self.near = self.far = self.tls = ""
        self.near_device = near_device(tag)
        self.carried = Carried(0, 0, 0.0)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> TunNetwork:
        """Raises ConfigError where the machine does not permit it."""
        if lack := missing():
            raise ConfigError(f"{lack}; a proxy that stalls works everywhere: {PROXY}")
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ConfigError("the path between two TUN devices did not come up; its error stands above")
        ready = json.loads(line)
        self.namespace, self.near, self.far = ready["namespace"], ready["near"], ready["far"]
        self.tls = ready.get("tls", "")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            out, _err = self._process.communicate()
            if out:
                self.carried = Carried(**json.loads(out))


def main(arguments: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None) -> None:
    """Carry packets until SIGTERM or SIGINT. `parser` replaces this program's name and description.

    Raises ConfigError where the machine does not permit it.
    """
    parser = parser or argparse.ArgumentParser(prog="python -m simulator.network.tun", description=__doc__)
    add_path_options(parser)
    add_loss_options(parser)
    tls_help = (
        "carry TLS over the path to this address; what runs in the namespace dials `tls` of the JSON, in plain text"
    )
    parser.add_argument("--tls-to", default="", metavar="HOST:PORT", help=tls_help)
    parser.add_argument("--tag", type=int, default=1, help="0 to 255: tells several paths of one machine apart")
    options = parser.parse_args(arguments)
    if options.tls_to and not options.tls_to.rpartition(":")[2].isdigit():
        parser.error(f"--tls-to {options.tls_to} is not HOST:PORT")
    if lack := missing():
        raise ConfigError(f"{lack}; a proxy that stalls works everywhere: {PROXY}")
    behaviour = chosen_path(options)
    die_with_parent()
    stop_read, stop_write = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(stop_write, b"."))
    exact_timers()
    realtime("auto", PRIORITY)
    with ExitStack() as up:
        namespace, near, far, near_fd, far_fd = up.enter_context(devices(options.tag))
        began_ns = time.monotonic_ns()
        wire = Wire(
            near_fd,
            far_fd,
            Path(behaviour, seed=2 * options.seed, began_ns=began_ns),
            Path(behaviour, seed=2 * options.seed + 1, began_ns=began_ns),
        )
        ready = {"namespace": namespace, "near": near, "far": far}
        if options.tls_to:
            host, _, port = options.tls_to.rpartition(":")
            ready["tls"] = up.enter_context(tls_across(namespace, near, (host, int(port))))
        print(json.dumps(ready), flush=True)
        wire.serve(stop_read)
    print(json.dumps(asdict(Carried(wire.carried, wire.lost, wire.late_ns / 1e6))), flush=True)


if __name__ == "__main__":
    from shared.process import run

    run("network", main)
