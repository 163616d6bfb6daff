"""Which handshakes of media sockets are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from .conftest import CONNECTED

INVALID_UTF8 = Frame(Opcode.TEXT, b"\xff").serialize(mask=True)
UNMASKED = Frame(Opcode.TEXT, b"{}").serialize(mask=False)


@pytest.mark.parametrize(
    ("target", "signature", "status", "outcome"),
    [
        ("/twilio/elsewhere", None, 404, "path"),
        ("/twilio/media?token=1", None, 400, "query"),
        ("/twilio/media", "wrong", 403, "signature"),
        ("/twilio/media", "", 403, "signature"),
    ],
)
def test_a_handshake_is_refused_before_anything_is_allocated(run, target, signature, status, outcome):
    async def scenario(cell):
        with pytest.raises(InvalidStatus) as caught:
            async with cell.twilio.socket(target, signature):
                pass
        assert caught.value.response.status_code == status
        assert handshakes(cell) == {outcome: 1}

    run(scenario)


def handshakes(cell: Any) -> dict[str, float]:
    return {outcome: c.value for outcome, c in cell.gateway.metrics.handshakes.items() if c.value}


def test_a_signed_but_malformed_handshake_is_refused(run):
    async def scenario(cell):
        url = "ws" + cell.twilio.origin.removeprefix("http") + "/twilio/media"
        reader, writer = await asyncio.open_connection("127.0.0.1", cell.twilio.port)
        writer.write(
            b"GET /twilio/media HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: no key\r\nX-Twilio-Signature: %b\r\n\r\n"
            % cell.twilio.sign(url, {}).encode()
        )
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400")
        writer.close()
        assert handshakes(cell) == {}
        async with cell.twilio.socket():
            await cell.until(lambda: handshakes(cell) == {"accepted": 1})

    run(scenario)


def test_a_trailing_slash_does_not_change_the_path(run):
    async def scenario(cell):
        async with cell.twilio.socket("/twilio/media/") as socket:
            await socket.send(CONNECTED)

    run(scenario)


def test_a_cell_of_a_fleet_takes_the_socket_of_a_cell_that_died_after_its_webhook(run):
    async def scenario(cell):
        for path in ("/twilio/media/here", "/twilio/media/gone", "/twilio/media"):
            async with cell.twilio.socket(path, signed=path) as socket:
                await socket.send(CONNECTED)
        with pytest.raises(InvalidStatus):
            async with cell.twilio.socket("/twilio/media/here", signed="/twilio/media/gone"):
                pass

    run(scenario, cell="here")


def test_the_number_of_sockets_without_start_is_bounded(run):
    async def scenario(cell):
        async with cell.twilio.socket():
            with pytest.raises(InvalidStatus) as caught:
                async with cell.twilio.socket():
                    pass
            assert caught.value.response.status_code == 503

    run(scenario, max_calls=1)
