"""The port of HAProxy's agent check, over a real socket."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from gateway.agent_port import AgentPort
from gateway.port import listen


# The gateway runs on uvloop, whose transports are not asyncio's.
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_each_connection_gets_one_line_of_its_moment_and_is_closed(run):
    async def scenario():
        lines = iter(("ready up 75%", "drain"))
        listener = listen("127.0.0.1", 0)
        port = AgentPort(listener, lambda: next(lines))
        await port.start()
        answers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            answers.append(await asyncio.wait_for(reader.read(), 5))
            writer.close()
        port.close()
        assert answers == [b"ready up 75%\n", b"drain\n"]

    run(scenario())


def test_two_gateways_of_a_cell_serve_one_port_and_the_one_that_lives_answers():
    async def scenario():
        first = listen("127.0.0.1", 0, shared=True)
        address = first.getsockname()
        second = listen(*address, shared=True)
        ports = [AgentPort(first, lambda: "drain"), AgentPort(second, lambda: "ready up 1%")]
        for port in ports:
            await port.start()
        ports[0].close()
        for _ in range(4):
            reader, writer = await asyncio.open_connection(*address)
            assert await asyncio.wait_for(reader.read(), 5) == b"ready up 1%\n"
            writer.close()
        ports[1].close()

    asyncio.run(scenario())
