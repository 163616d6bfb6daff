"""The customer's webhook: signed, repeated until it is accepted, and given up in the end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from callbook.core.delays import backoff_s
from callbook.core.prices import Prices
from callbook.deliveries import Deliveries
from callbook.metrics import DEFINITIONS, Metrics
from callbook.models import Delivery
from callbook.records import Records
from shared.facts import Noted, StreamBegan, StreamEnded
from shared.metrics import Page
from shared.signing import key_of

SECRET = "whsec_" + base64.b64encode(b"a key for the tests of webhooks").decode()
SID = "CA" + "1" * 32


def deliver(engine, statuses):
    """Post one ended call to a receiver that answers with `statuses` in turn. Returns what it got, and the row."""
    records = Records(prices=Prices(""), deliveries=True, cell="c")
    with Session(engine) as session, session.begin():
        records.write(
            session,
            [
                Noted(1, 1, StreamBegan(SID, "MZ1", "AC1", "+1", "+2", False, 1_000, 1_100)),
                Noted(1, 2, StreamEnded(SID, "MZ1", 2_000, "stop", 5, 0, 0, 0)),
            ],
        )
    got = []
    left = list(statuses)

    async def receive(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % left.pop(0))
        writer.close()
        await writer.wait_closed()

    async def scenario():
        server = await asyncio.start_server(receive, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        metrics = Metrics(Page.in_memory(DEFINITIONS))
        deliveries = Deliveries(engine, url=url, key=key_of(SECRET), metrics=metrics, first_retry_s=0.01)
        deliveries.poll_s = 0.02
        running = asyncio.create_task(deliveries.run())
        async with asyncio.timeout(10):
            while row(engine).state == "due":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())
    return got, row(engine)


def row(engine):
    with Session(engine) as session:
        return session.get_one(Delivery, SID)


def test_a_webhook_is_signed_and_repeated_until_it_is_accepted(engine):
    got, delivery = deliver(engine, [500, 302, 204])
    assert (delivery.state, delivery.attempts, delivery.outcome) == ("delivered", 3, "HTTP 204")
    assert len({headers["webhook-id"] for headers, _ in got}) == 1
    for headers, body in got:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(b"a key for the tests of webhooks", signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    event = json.loads(got[0][1])
    assert (event["type"], event["data"]["call_sid"]) == ("call.ended", SID)
    assert event["data"]["ended_at"] == datetime.fromtimestamp(2, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def test_a_receiver_that_answers_410_gets_no_further_post(engine):
    got, delivery = deliver(engine, [410])
    assert (len(got), delivery.state) == (1, "given-up")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "nonsense", "whsec_%%%"])
def test_an_invalid_webhook_secret_is_refused(secret):
    with pytest.raises(ValueError, match="whsec_"):
        key_of(secret)


def test_pauses_between_posts_double_up_to_their_limit_and_spread():
    waits = [backoff_s(n, first_s=1, limit_s=30, spread=0) for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff_s(3, first_s=1, limit_s=30, spread=1) == 2
