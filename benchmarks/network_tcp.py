"""How late frames arrive over a bad path, by the TCP settings of their sender: `python -m benchmarks.network_tcp`.

Frames of a call, 20 ms apart in talkspurts that begin with the lead, are sent over real TCP (TUN devices, see
simulator.network.tun). All settings run at the same time on the same path, each with as many connections. The ear is a
playout buffer that begins with each talkspurt. Needs Linux, root and `ip`.
"""

from __future__ import annotations

import argparse
import heapq
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from shared.isolation import exact_timers
from shared.process import ConfigError, run
from simulator.network.path import PathBehaviour
from simulator.network.tun import TunNetwork, enter

from .capacity_report import machine
from .pacing_run import go_before

_MS: Final = 1_000_000
_FRAME_NS: Final = 20 * _MS
# A media message of Twilio's protocol with 160 bytes of audio.
_FRAME_BYTES: Final = 290
_HEAD: Final = struct.Struct("!II")
_SPURT_FRAMES: Final = 250
_PAUSE_NS: Final = 1_500 * _MS

# <linux/tcp.h>; Python names only some of them.
THIN_LINEAR_TIMEOUTS: Final = 16
RTO_MIN_US: Final = 45

_FLUSH: Final = -1

Option = tuple[int, int | bytes]


@dataclass(frozen=True)
class Setting:
    """Options of the sender's socket, beside TCP_NODELAY and TCP_NOTSENT_LOWAT."""

    name: str
    options: tuple[Option, ...] = ()


def _congestion(name: str) -> Option:
    return socket.TCP_CONGESTION, name.encode()


SETTINGS: Final = (
    Setting("kernel"),
    *(
        Setting(f"{congestion}{suffix}", (_congestion(congestion), *options))
        for congestion in ("bbr", "cubic", "reno")
        for suffix, options in (
            ("", ()),
            *((f"-rto{ms}", ((RTO_MIN_US, 1_000 * ms),)) for ms in (20, 40, 60, 100)),
            ("-thin", ((THIN_LINEAR_TIMEOUTS, 1),)),
            ("-rto20-thin", ((RTO_MIN_US, 20_000), (THIN_LINEAR_TIMEOUTS, 1))),
        )
    ),
)


# What four times ten connections can show without the bench being late.
USUAL: Final = ("bbr", "cubic", "bbr-rto40", "cubic-rto40")


@dataclass
class _Connection:
    setting: Setting
    sender: socket.socket
    reader: socket.socket
    lead_frames: int
    # Sent and arrived, ns, by the frame's number.
    due_ns: list[int] = field(default_factory=list)
    arrived_ns: list[int] = field(default_factory=list)
    buffer: bytearray = field(default_factory=bytearray)
    waiting: bytearray = field(default_factory=bytearray)
    # How often the socket took not all.
    full: int = 0

    def send(self, first: int, count: int) -> None:
        """These frames in one write, as the gateway sends them."""
        for number in range(first, first + count):
            self.waiting += _HEAD.pack(_FRAME_BYTES, number).ljust(_FRAME_BYTES, b".")
        self.flush()

    def flush(self) -> None:
        """A full socket takes the rest later, as a transport's buffer would hand it over."""
        try:
            while self.waiting:
                del self.waiting[: self.sender.send(self.waiting)]
        except BlockingIOError:
            self.full += 1

    def read(self) -> None:
        data = self.reader.recv(65_536)
        now_ns = time.monotonic_ns()
        buffer = self.buffer
        buffer += data
        while len(buffer) >= _HEAD.size:
            size, number = _HEAD.unpack_from(buffer)
            if len(buffer) < size:
                break
            del buffer[:size]
            assert number == len(self.arrived_ns)
            self.arrived_ns.append(now_ns)

    def gaps_ms(self) -> list[float]:
        """What an ear that begins with each talkspurt misses inside of it."""
        found: list[float] = []
        end_ns = 0
        for number, at_ns in enumerate(self.arrived_ns):
            if number % _SPURT_FRAMES == 0:
                end_ns = at_ns
            elif at_ns > end_ns:
                found.append((at_ns - end_ns) / _MS)
                end_ns = at_ns
            end_ns += _FRAME_NS
        return found


def _apply(sender: socket.socket, setting: Setting) -> None:
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 512)
    try:
        for name, value in setting.options:
            sender.setsockopt(socket.IPPROTO_TCP, name, value)
    except OSError as exc:
        raise ConfigError(f"this kernel has no {setting.name} ({exc.strerror}); choose others with --only") from None


def _connect(net: TunNetwork, settings: list[Setting], each: int, leads: list[int]) -> list[_Connection]:
    listener = socket.create_server((net.near, 0), backlog=1_000)
    address = listener.getsockname()
    readers: list[socket.socket] = []

    def dial() -> None:
        enter(net.namespace)
        readers.extend(socket.create_connection(address) for _ in range(len(settings) * each * len(leads)))

    dialling = threading.Thread(target=dial)
    dialling.start()
    connections: list[_Connection] = []
    senders: dict[tuple[str, int], socket.socket] = {}
    wanted = len(settings) * each * len(leads)
    while len(senders) < wanted:
        sender, peer = listener.accept()
        senders[peer] = sender
    dialling.join()
    wishes = [(setting, lead) for _ in range(each) for lead in leads for setting in settings]
    for (setting, lead), reader in zip(wishes, readers, strict=True):
        sender = senders[reader.getsockname()]
        _apply(sender, setting)
        sender.setblocking(False)
        connections.append(_Connection(setting, sender, reader, lead // 20))
    return connections


def _send_all(connections: list[_Connection], seconds: float) -> float:
    """Returns how late this loop was, ms, at most."""
    begin_ns = time.monotonic_ns() + 200 * _MS
    # (when, connection, the frame's number, or that a full socket may have room again).
    due: list[tuple[int, int, int]] = []
    for index in range(len(connections)):
        # Each connection has its own phase.
        heapq.heappush(due, (begin_ns + index * 7_919_000 % _FRAME_NS + index % 40 * 80 * _MS, index, 0))
    end_ns = begin_ns + int(seconds * 1e9)
    late_ns = 0
    while due[0][0] < end_ns:
        at_ns, index, frame = heapq.heappop(due)
        now_ns = time.monotonic_ns()
        if now_ns < at_ns:
            time.sleep((at_ns - now_ns) / 1e9)
            now_ns = time.monotonic_ns()
        late_ns = max(late_ns, now_ns - at_ns)
        connection = connections[index]
        if frame < 0:
            connection.flush()
            if connection.waiting:
                heapq.heappush(due, (at_ns + _MS, index, _FLUSH))
            continue
        into = frame % _SPURT_FRAMES
        burst = connection.lead_frames if into == 0 else 1
        connection.due_ns += [at_ns] * burst
        connection.send(frame, burst)
        if connection.waiting:
            heapq.heappush(due, (at_ns + _MS, index, _FLUSH))
        frame += burst
        pause_ns = _PAUSE_NS if frame % _SPURT_FRAMES == 0 else 0
        heapq.heappush(due, (at_ns + _FRAME_NS + pause_ns, index, frame))
    return late_ns / _MS


def _read_all(connections: list[_Connection], over: threading.Event) -> None:
    epoll = select.epoll()
    by_fd = {each.reader.fileno(): each for each in connections}
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    while not over.is_set():
        for fd, _ in epoll.poll(0.1):
            by_fd[fd].read()


def _row(name: str, lead: int, connections: list[_Connection]) -> list[str]:
    late = sorted(
        (at - due) / _MS for each in connections for due, at in zip(each.due_ns, each.arrived_ns, strict=False)
    )
    gaps = [ms for each in connections for ms in each.gaps_ms()]
    speech_s = sum(len(each.arrived_ns) for each in connections) / 50
    p99, p999 = (late[int(share * len(late))] for share in (0.99, 0.999))
    per_175 = sum(gaps) * 175 / speech_s
    return [
        name,
        str(lead),
        f"{speech_s:.0f}",
        f"{p99:.0f}",
        f"{p999:.0f}",
        f"{late[-1]:.0f}",
        str(len(gaps)),
        f"{sum(gaps):.0f}",
        f"{max(gaps, default=0):.0f}",
        f"{per_175:.0f}",
        str(sum(each.full for each in connections)),
    ]


def main() -> None:
    names = [each.name for each in SETTINGS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_tcp", description=__doc__)
    parser.add_argument("--delay", type=float, default=60.0, metavar="MS", help="one way (default 60)")
    parser.add_argument("--loss", type=float, default=0.01, help="share of packets (default 0.01)")
    parser.add_argument("--burst", type=int, default=1, help="packets that each loss takes (default 1)")
    parser.add_argument("--connections", type=int, default=10, help="for each setting (default 10)")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--lead", type=int, nargs="+", default=[180], metavar="MS")
    parser.add_argument("--seed", type=int, default=1)
    route_help = "words for `ip route change`, such as 'reordering 1', for all connections"
    parser.add_argument("--route", default="", metavar="WORDS", help=route_help)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=list(USUAL), metavar="SETTING", help=", ".join(names)
    )
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = [each for each in SETTINGS if each.name in chosen.only]
    behaviour = PathBehaviour(delay_ms=chosen.delay, loss=chosen.loss, burst_packets=chosen.burst)
    with TunNetwork(behaviour, seed=chosen.seed, tag=200) as net:
        if chosen.route:
            command = ["ip", "route", "change", net.far, "dev", net.near_device, "src", net.near]
            subprocess.run([*command, *chosen.route.split()], check=True)
        connections = _connect(net, settings, chosen.connections, chosen.lead)
        exact_timers()
        go_before()
        over = threading.Event()
        reading = threading.Thread(target=_read_all, args=(connections, over))
        reading.start()
        late_ms = _send_all(connections, chosen.seconds)
        time.sleep(2 + 8 * chosen.delay / 1_000)
        over.set()
        reading.join()
    head = ["setting", "lead", "speech s", "p99", "p99.9", "max", "gaps", "ms", "longest", "ms in 175 s", "full"]
    rows = [head]
    for setting in settings:
        for lead in chosen.lead:
            mine = [each for each in connections if each.setting is setting and each.lead_frames == lead // 20]
            rows.append(_row(setting.name, lead, mine))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(machine())
    route = f", route {chosen.route}" if chosen.route else ""
    print(f"{2 * chosen.delay:.0f} ms round trip, loss {chosen.loss:.1%} of {chosen.burst}, seed {chosen.seed}{route}")
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]))
    print(f"The sender was {late_ms:.0f} ms late at most.")


if __name__ == "__main__":
    run("network-tcp", main)
