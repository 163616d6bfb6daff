"""The descriptors and connections of processes, as the kernel lists them."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path

from callbook.database import SQLITE_CONNECTIONS_MAX
from proofs.cell_processes import LIVES, Process, connections, excess, lives


def test_descriptors_are_counted_by_their_kind(tmp_path: Path) -> None:
    own = Process(os.getpid(), "tests", 1)
    before = own.descriptors()
    with socket.socket(), (tmp_path / "a1").open("w"), (tmp_path / "a22").open("w"):
        more = own.descriptors() - before
    assert sorted(more.values()) == [1, 2]
    assert more["socket:[N]"] == 1
    assert own.descriptors() == before


def test_descriptors_are_too_many_beyond_the_idle_ones_and_beyond_a_databases_connections() -> None:
    kinds = Counter({"/run/data/calls.db": 1, "socket:[N]": 3})
    assert excess(kinds, kinds) == Counter()
    grown = Counter({"/run/data/calls.db": SQLITE_CONNECTIONS_MAX, "socket:[N]": 4, "/run/spool": 1})
    assert excess(grown, kinds) == Counter({"socket:[N]": 1, "/run/spool": 1})
    for file in ("calls.db", "calls.db-wal", "calls.db-shm"):
        assert excess(Counter({f"/run/data/{file}": SQLITE_CONNECTIONS_MAX + 1}), kinds).total() == 1
    assert excess(Counter({"socket:[N]": 6}), kinds, children=2) == Counter({"socket:[N]": 1})


def test_a_gauge_that_is_missing_is_noticed() -> None:
    lines = [f'twentyms_{name}{{process="p"}} 0.0' for name in LIVES]
    assert set(lives("\n".join(["# HELP x y", *lines])).values()) == {0.0}
    assert lives("\n".join(lines[1:])) == {}
    assert lives("") == {}


def test_a_connection_is_identified_by_the_ports_of_both_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port, client_port = server.getsockname()[1], client.getsockname()[1]
        taken, _ = server.accept()
        with taken:
            found = connections(os.getpid())
            assert {port, client_port} <= found.own
            assert {port, client_port} <= found.others
        client.close()
        assert client_port not in connections(os.getpid()).own
