"""Stories in a real redis-server: written encrypted and for a time, read back within a deadline, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

pytest.importorskip("cryptography")
pytest.importorskip("redis")

import redis
import redis.asyncio

from callbook import stories as module
from callbook.core.story_queue import StoreState
from callbook.metrics import DEFINITIONS, Metrics
from callbook.sealing import Seals
from callbook.store import Store
from callbook.stories import HANDED_ON_LIFE_S, STORY_LIFE_S, Kept, Stories
from proofs.redis_server import PROGRAM, RedisServer
from shared import bus
from shared.bus_link import Link
from shared.liveness import RECALL_S
from shared.messages import CallClosed, CallElsewhere, CallRecalled, KeepStory, RecallCall, StoreHello, StoreToGateway
from shared.metrics import Page
from shared.plan import Dial, HangUp

KEY = bytes(range(32))
WORDS = b"the caller's words"
DIAL = Dial("+15005550006")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts a redis-server with the given options."""
    if PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed: apt-get install redis-server")
        warnings.warn("redis-server is not installed, so no test writes a story to a store", stacklevel=1)
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(tmp_path, *options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


class Cell:
    """A callbook's Stories, and the link of the one gateway beside it."""

    def __init__(self, directory: Path, url: str, *, name: str = "a", key: bytes = KEY) -> None:
        self.metrics = Metrics(Page.in_memory(DEFINITIONS))
        self._context: zmq.Context[Any] = zmq.Context()
        place = bus.stories_url(directory / name)
        (directory / name).mkdir()
        self.stories = Stories(
            self._context, place, store=Store(url), seals=Seals(key), cell=name, metrics=self.metrics
        )
        self.hellos: list[StoreHello] = []
        self.recalled: list[CallRecalled] = []
        self.elsewhere: list[CallElsewhere] = []
        self._got: dict[type, list[Any]] = {
            StoreHello: self.hellos,
            CallRecalled: self.recalled,
            CallElsewhere: self.elsewhere,
        }
        self._gateway = Link(
            bus.dealer(self._context, place, name="gateway-0", hwm=bus.STORIES_HWM),
            types=StoreToGateway,
            on_message=lambda _, message: self._got[type(message)].append(message),
            dropped=self.metrics.bus_refused,
            undecodable=self.metrics.undecodable,
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.create_task(self.stories.run())
        self._gateway.start()
        await until(lambda: self._gateway.send((StoreHello(1),)) and self.hellos)

    async def close(self) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._gateway.close()
        self._context.destroy(linger=0)

    async def keep(self, *messages: KeepStory | CallClosed) -> None:
        """Returns when the store has them."""
        written = self.metrics.stories_written.value + len({message.call_id for message in messages})
        self.send(*messages)
        await until(lambda: self.metrics.stories_written.value >= written)

    def send(self, *messages: KeepStory | CallClosed | StoreHello) -> None:
        assert self._gateway.send(messages)

    async def recall(self, call_id: str) -> CallRecalled | None:
        """The answer that comes in time for the webhook."""
        self.recalled.clear()
        assert self._gateway.send((RecallCall(call_id),))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECALL_S):
                while not self.recalled:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        return self.recalled[0] if self.recalled else None

    def failures(self, state: StoreState) -> float:
        return self.metrics.store_failures[state].value

    @property
    def is_up(self) -> bool:
        return self.metrics.store_up.value == 1


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def cell(directory: Path, url: str, *, name: str = "a", key: bytes = KEY) -> AsyncIterator[Cell]:
    started = Cell(directory, url, name=name, key=key)
    await started.start()
    try:
        yield started
    finally:
        await started.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_another_cell_reads_the_newest_story_and_when_this_cell_was_last_alive(servers, short_path):
    server = servers()

    async def scenario() -> None:
        async with cell(short_path, server.url) as a, cell(short_path, server.url, name="b") as b:
            await a.keep(KeepStory("CA1", b"old"))
            await a.keep(KeepStory("CA1", WORDS))
            told_ms = time.time_ns() // 1_000_000
            await until(lambda: time.time_ns() // 1_000_000 > told_ms + 100)
            a.send(StoreHello(1))
            await asyncio.sleep(2 * module.BEAT_S)
            recalled = await b.recall("CA1")
            assert recalled is not None
            assert recalled == CallRecalled("CA1", False, WORDS, HangUp(), "a", recalled.left_ms)
            assert told_ms + 100 <= recalled.left_ms <= told_ms + 200
            assert await b.recall("CA2") == CallRecalled("CA2", False, b"")

    run(scenario)


def test_the_store_sees_neither_words_nor_calls_and_keeps_them_for_five_minutes(servers, short_path):
    server = servers()

    async def scenario() -> None:
        async with cell(short_path, server.url) as a:
            await a.keep(KeepStory("CA1", WORDS))
            await a.keep(CallClosed("CA2", HangUp()))
            await a.keep(CallClosed("CA3", DIAL, WORDS))
        held = redis.Redis.from_url(server.url)
        lives = {}
        for name in held.scan_iter():
            assert not any(word in name + held.get(name) for word in (WORDS, b"CA1", b"CA2", b"CA3", b"5005550006"))
            lives.setdefault(name.split(b":")[1], []).append(held.ttl(name))
        held.close()
        assert STORY_LIFE_S - 5 < min(lives[b"story"]) <= STORY_LIFE_S
        assert HANDED_ON_LIFE_S - 5 < max(lives[b"story"]) <= HANDED_ON_LIFE_S
        assert all(0 < life <= STORY_LIFE_S for life in lives[b"ended"] + lives[b"cell"])

    run(scenario)


def test_a_call_that_ended_on_purpose_is_told_with_its_order_and_without_its_story(servers, short_path):
    server = servers()

    async def scenario() -> None:
        async with cell(short_path, server.url) as a, cell(short_path, server.url, name="b") as b:
            await a.keep(KeepStory("CA1", WORDS))
            await a.keep(CallClosed("CA1", HangUp()))
            assert await b.recall("CA1") == CallRecalled("CA1", True, b"", HangUp(), "a", 0)

    run(scenario)


def test_a_call_that_was_handed_on_has_its_story_when_it_comes_back_and_is_live_when_it_goes_on(servers, short_path):
    server = servers()

    async def scenario() -> None:
        async with cell(short_path, server.url) as a, cell(short_path, server.url, name="b") as b:
            await a.keep(CallClosed("CA1", DIAL, WORDS))
            recalled = await b.recall("CA1")
            assert recalled is not None
            assert (recalled.ended, recalled.order, recalled.story) == (True, DIAL, WORDS)
            await asyncio.sleep(0.002)
            await b.keep(KeepStory("CA1", b"later"))
            recalled = await a.recall("CA1")
            assert recalled is not None
            assert (recalled.ended, recalled.story, recalled.cell) == (False, b"later", "b")

    run(scenario)


def test_a_cell_that_was_cut_off_overwrites_nothing_of_a_call_that_went_on_in_another_cell(servers, short_path):
    server = servers()

    async def scenario() -> None:
        async with cell(short_path, server.url) as a, cell(short_path, server.url, name="b") as b:
            await a.keep(KeepStory("CA1", b"before the cut", 1_000))
            await b.keep(KeepStory("CA1", WORDS, 2_000))
            for message in (KeepStory("CA1", b"old", 1_000), CallClosed("CA1", HangUp(), b"", 1_000)):
                a.elsewhere.clear()
                a.send(message)
                await until(lambda: a.elsewhere)
                assert a.elsewhere == [CallElsewhere("CA1", 1_000)]
                recalled = await a.recall("CA1")
                assert recalled is not None
                assert (recalled.ended, recalled.story, recalled.cell) == (False, WORDS, "b")
            assert a.metrics.stories_outdated.value == 2
            # It comes back to the first cell, on a later media socket.
            await a.keep(KeepStory("CA1", b"newest", 3_000))
            recalled = await b.recall("CA1")
            assert recalled is not None
            assert recalled.story == b"newest"
            assert b.elsewhere == []

    run(scenario)


def test_all_calls_of_a_dead_cell_are_recalled_at_once(servers, short_path):
    server = servers()

    async def scenario() -> None:
        calls = [f"CA{number}" for number in range(200)]
        async with cell(short_path, server.url) as a, cell(short_path, server.url, name="b") as b:
            for first in range(0, 200, 50):
                await a.keep(*(KeepStory(call, WORDS) for call in calls[first : first + 50]))
            assert b._gateway.send(RecallCall(call) for call in calls)
            await until(lambda: len(b.recalled) == 200)
            assert {recalled.call_id for recalled in b.recalled if recalled.story == WORDS} == set(calls)
            assert all(b.failures(state) == 0 for state in b.metrics.store_failures)

    run(scenario)


def test_a_frozen_store_costs_the_answer_and_afterwards_the_gateways_tell_all_again(
    servers, short_path, caplog, monkeypatch
):
    monkeypatch.setattr("callbook.store.WRITE_S", 0.2)
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    caplog.set_level("INFO", "callbook")
    server = servers()

    async def scenario() -> None:
        async with cell(short_path, server.url) as a:
            await a.keep(KeepStory("CA1", WORDS))
            server.freeze()
            began = time.monotonic()
            assert await a.recall("CA1") is None
            assert time.monotonic() - began < RECALL_S + 0.1
            await until(lambda: a.failures(StoreState.SLOW) >= 2 and not a.is_up)
            a.hellos.clear()
            a.send(KeepStory("CA2", WORDS), StoreHello(1))
            await until(lambda: a.hellos)  # the loop goes on meanwhile
            epoch = a.hellos[0].epoch
            server.thaw()
            await until(lambda: a.is_up)
            a.hellos.clear()
            a.send(StoreHello(1))
            await until(lambda: a.hellos)
            assert a.hellos[0].epoch != epoch
            # An answer that came too late is nobody else's.
            for _ in range(3):
                assert await a.recall("CA3") == CallRecalled("CA3", False, b"")
                recalled = await a.recall("CA1")
                assert recalled is not None
                assert recalled.story == WORDS

    run(scenario)
    assert [record.message.partition(": calls")[0] for record in caplog.records] == [
        f"the store at 127.0.0.1:{server.port} is slow",
        f"the store at 127.0.0.1:{server.port} is back; it was slow",
    ]


def test_a_store_that_is_gone_and_comes_back_empty_knows_no_call_until_the_gateways_told_all_again(
    servers, short_path, monkeypatch
):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    server = servers()

    async def scenario() -> None:
        async with cell(short_path, server.url) as a:
            await a.keep(KeepStory("CA1", WORDS))
            epoch = a.hellos[-1].epoch
            server.kill()
            assert await a.recall("CA1") is None
            await until(lambda: a.failures(StoreState.GONE) >= 2 and not a.is_up)
            server.start()
            await until(lambda: a.is_up)
            assert await a.recall("CA1") == CallRecalled("CA1", False, b"")
            a.send(StoreHello(1))
            await until(lambda: a.hellos[-1].epoch != epoch)

    run(scenario)


def test_a_full_store_is_told_from_one_that_is_gone_and_still_answers(servers, short_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    server = servers("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")

    async def scenario() -> None:
        async with cell(short_path, server.url) as a:
            await a.keep(KeepStory("CA1", WORDS))
            for number in range(30):
                a.send(KeepStory(f"CB{number}", os.urandom(200_000)))
                await asyncio.sleep(0.005)
            await until(lambda: a.failures(StoreState.FULL) and not a.is_up)
            recalled = await a.recall("CA1")
            assert recalled is not None
            assert recalled.story == WORDS

    run(scenario)


def test_a_wrong_password_is_refused_and_the_log_does_not_tell_it(servers, short_path, caplog):
    server = servers("--requirepass", "right")

    async def scenario() -> None:
        url = server.url.replace("redis://", "redis://:wrong-password@")
        async with cell(short_path, url) as a:
            await until(lambda: a.failures(StoreState.REFUSED) and not a.is_up)
            assert await a.recall("CA1") is None

    run(scenario)
    assert f"the store at 127.0.0.1:{server.port} is refused" in caplog.text
    assert "wrong-password" not in caplog.text


def test_what_a_lying_store_returns_is_counted_and_taken_for_nothing(servers, short_path):
    server = servers()

    async def scenario() -> None:
        seals = Seals(KEY)
        name, other = seals.name("story", "CA1"), seals.name("story", "CA2")
        kept = msgspec.msgpack.encode(Kept("a", 1, WORDS))
        lies = {
            "garbage": b"\x01" + os.urandom(500),
            "another key": Seals(bytes(32)).seal(name, kept),
            "another call's": seals.seal(other, kept),
            "another version's": b"\x02" + seals.seal(name, kept)[1:],
            "no message": seals.seal(name, b"\xc1"),
            "too large": os.urandom(2_000_000),
        }
        async with cell(short_path, server.url) as a, redis.asyncio.Redis.from_url(server.url) as held:
            for count, lie in enumerate(lies.values(), 1):
                await held.set(name, lie)
                assert await a.recall("CA1") == CallRecalled("CA1", False, b"")
                assert a.metrics.stories_unreadable.value == count
            await held.delete(name)
            await held.lpush(name, "a list")
            assert await a.recall("CA1") == CallRecalled("CA1", False, b"")
            # An older version's: fewer fields.
            await held.set(name, seals.seal(name, msgspec.msgpack.encode(["b", 7, WORDS])))
            await held.delete(seals.name("cell", "b"))
            assert await a.recall("CA1") == CallRecalled("CA1", False, WORDS, HangUp(), "b", 7)

    run(scenario)


class Network:
    """Forwards to a store, until `cut`: what was connected before it is silent for ever, or was reset meanwhile."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._open: list[asyncio.StreamWriter] = []
        self._lost: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Network:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut(resets=True)
        self._server.close()

    def cut(self, *, resets: bool) -> None:
        self._lost.update(self._open)
        for writer in self._open if resets else ():
            if writer.is_closing():
                continue
            linger = struct.pack("ii", 1, 0)  # a reset in place of a FIN
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        await asyncio.gather(self._forward(reader, store_writer, writer), self._forward(store_reader, writer, writer))

    async def _forward(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, key: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await source.read(65_536):
                if key not in self._lost:
                    to.write(part)
        to.close()


@pytest.mark.parametrize("resets", [True, False], ids=["reset", "silent"])
def test_a_call_is_recalled_although_every_connection_was_lost_while_nobody_read(servers, short_path, resets):
    server = servers()

    async def scenario() -> None:
        async with Network(server.port) as network, cell(short_path, network.url) as a:
            calls = [f"CA{number}" for number in range(5)]
            await a.keep(*(KeepStory(call, WORDS) for call in calls))
            for lost in range(3):
                a.recalled.clear()
                assert a._gateway.send(RecallCall(call) for call in calls)
                began = time.monotonic()
                await until(lambda: len(a.recalled) == len(calls))
                assert time.monotonic() - began < RECALL_S, lost
                assert all(recalled.story == WORDS for recalled in a.recalled)
                network.cut(resets=resets)
                await asyncio.sleep(0.01)

    run(scenario)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$99999999999\r\n", b"*-7\r\n", b"", b"\x00" * 5_000]
)
def test_a_server_that_is_no_store_costs_nothing_but_the_answer(answer, short_path, monkeypatch):
    monkeypatch.setattr("callbook.store.WRITE_S", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                writer.write(answer)
                if not answer:
                    break
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with cell(short_path, f"redis://127.0.0.1:{port}/0") as a:
            recalled = await a.recall("CA1")
            assert recalled is None or recalled == CallRecalled("CA1", False, b"")
            await until(lambda: not a.is_up)
        server.close()

    run(scenario)
