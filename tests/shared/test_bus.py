"""Links between real sockets on an asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from shared import bus
from shared.bus_link import Link
from shared.messages import BridgeHello, BridgeToPacer, PacerState, PacerToBridge, Speech, encode
from shared.metrics import Page, counter
from shared.process import ConfigError

PAGE = (counter("dropped", ""), counter("undecodable", ""))


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main()

    asyncio.run(bounded())


def test_messages_travel_both_ways_with_the_senders_name(context: zmq.Context[Any], tmp_path: Path) -> None:
    async def main() -> None:
        page = Page.in_memory(PAGE)
        url = bus.speech_url(tmp_path)
        answered: asyncio.Queue[Any] = asyncio.Queue()
        counts = {"dropped": page.counter("dropped"), "undecodable": page.counter("undecodable")}

        def at_router(peer: str, message: Any) -> None:
            assert router.send((PacerState(len(peer), 0),), peer)

        router = Link(bus.router(context, url, hwm=100), types=BridgeToPacer, on_message=at_router, **counts)
        dealer = Link(
            bus.dealer(context, url, name="aibridge-0", hwm=100),
            types=PacerToBridge,
            on_message=lambda peer, message: answered.put_nowait((peer, message)),
            **counts,
        )
        router.start()
        dealer.start()
        while not dealer.send((BridgeHello("aibridge-0"),)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        for _ in range(19):
            assert dealer.send((BridgeHello("aibridge-0"),))
        for _ in range(20):
            assert await answered.get() == ("", PacerState(len("aibridge-0"), 0))
        router.close()
        dealer.close()

    run(main)


def test_without_a_peer_a_send_is_refused_at_once_and_counted(context: zmq.Context[Any], tmp_path: Path) -> None:
    page = Page.in_memory(PAGE)
    counts = {"dropped": page.counter("dropped"), "undecodable": page.counter("undecodable")}
    sock = bus.dealer(context, bus.speech_url(tmp_path), name="x", hwm=10)
    link = Link(sock, types=PacerToBridge, on_message=lambda *_: None, **counts)
    assert not link.send((BridgeHello("x"),))
    assert page.counter("dropped").value == 1
    link.close()


def test_garbage_is_counted_and_later_messages_are_read(context: zmq.Context[Any], tmp_path: Path) -> None:
    async def main() -> None:
        page = Page.in_memory(PAGE)
        url = bus.speech_url(tmp_path)
        got: asyncio.Queue[Any] = asyncio.Queue()
        link = Link(
            bus.router(context, url, hwm=10),
            types=BridgeToPacer,
            on_message=lambda _, message: got.put_nowait(message),
            dropped=page.counter("dropped"),
            undecodable=page.counter("undecodable"),
        )
        link.start()
        peer = context.socket(zmq.DEALER)
        peer.connect(url)
        for data in (b"", b"garbage", encode((PacerState(1, 1),)), encode((BridgeHello("x"),))):
            peer.send(data)
        assert await got.get() == BridgeHello("x")
        assert page.counter("undecodable").value == 3
        peer.close(linger=0)
        link.close()

    run(main)


def test_a_message_whose_handler_raises_costs_no_other_message(
    context: zmq.Context[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        page = Page.in_memory(PAGE)
        url = bus.speech_url(tmp_path)
        got: asyncio.Queue[Any] = asyncio.Queue()

        def handle(_: str, message: Any) -> None:
            if message.call == 2:
                raise ValueError("what the caller said")
            got.put_nowait(message.call)

        link = Link(
            bus.router(context, url, hwm=10),
            types=BridgeToPacer,
            on_message=handle,
            dropped=page.counter("dropped"),
            undecodable=page.counter("undecodable"),
        )
        link.start()
        peer = context.socket(zmq.DEALER)
        peer.connect(url)
        peer.send(encode([Speech(call, 1, b"") for call in (1, 2, 2, 3)]))
        peer.send(encode([Speech(4, 1, b"")]))
        assert [await got.get() for _ in range(3)] == [1, 3, 4]
        assert page.counter("undecodable").value == 2
        peer.close(linger=0)
        link.close()

    run(main)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "a Speech could not be handled (ValueError at test_bus.py:" in line
    assert "what the caller said" not in line


def free_ports() -> str:
    """The base of a bus on ports that are free just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"tcp://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def _no_key_afterwards() -> Iterator[None]:
    yield
    bus.secure("")


@pytest.mark.usefixtures("_no_key_afterwards")
def test_tcp_without_a_key_is_an_error(context: zmq.Context[Any]) -> None:
    for make in (
        lambda url: bus.router(context, url, hwm=1),
        lambda url: bus.dealer(context, url, name="x", hwm=1),
    ):
        with pytest.raises(ConfigError, match="BUS_SECRET_KEY"):
            make(bus.speech_url(free_ports()))


@pytest.mark.usefixtures("_no_key_afterwards")
@pytest.mark.parametrize("key", ["#" * 40, " " * 40, "\u00fc" * 40, "short"])
def test_an_invalid_key_is_an_error_that_does_not_show_it(key: str) -> None:
    with pytest.raises(ConfigError, match="BUS_SECRET_KEY is not") as caught:
        bus.secure(key)
    assert key not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.usefixtures("_no_key_afterwards")
def test_over_tcp_only_a_peer_with_the_cells_key_is_heard(context: zmq.Context[Any]) -> None:
    base = free_ports()
    keys = [zmq.curve_keypair()[1].decode() for _ in range(2)]
    bus.secure(keys[0])
    server = bus.router(context, bus.frames_url(base), hwm=10)
    member = bus.dealer(context, bus.frames_url(base), name="member", hwm=10)
    bus.secure(keys[1])
    strangers = [bus.dealer(context, bus.frames_url(base), name="stranger", hwm=10)]
    plain = context.socket(zmq.DEALER)
    plain.connect(bus.frames_url(base))
    strangers.append(plain)  # with neither key nor CURVE
    for sock in (member, *strangers):
        sock.setsockopt(zmq.IMMEDIATE, 0)
        sock.setsockopt(zmq.SNDTIMEO, 500)
        with contextlib.suppress(zmq.Again):  # nobody shakes hands with a stranger
            sock.send(b"hello")
    assert server.poll(5_000)
    assert server.recv_multipart() == [b"member", b"hello"]
    assert not server.poll(300)
    for sock in (server, member, *strangers):
        sock.close(linger=0)


@pytest.mark.usefixtures("_no_key_afterwards")
def test_over_tcp_only_a_subscriber_with_the_cells_key_gets_copies_of_calls(context: zmq.Context[Any]) -> None:
    base = free_ports()
    keys = [zmq.curve_keypair()[1].decode() for _ in range(2)]
    bus.secure(keys[0])
    subscriber = bus.subscriber(context, bus.copies_url(base), hwm=10)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    member = bus.publisher(context, bus.copies_url(base), hwm=10)
    bus.secure(keys[1])
    stranger = bus.publisher(context, bus.copies_url(base), hwm=10)
    for _ in range(100):
        subscriber.poll(10)
        if member.poll(10):
            break
    assert member.recv() == b"\x01"
    assert not stranger.poll(300)
    for sock in (subscriber, member, stranger):
        sock.close(linger=0)
