"""The truth that a session leaves for a judge."""

from __future__ import annotations

import json

from simulator.model.behaviour import Behaviour

from .session_client import MS, Client


def test_every_cancel_that_hits_an_active_response_is_counted() -> None:
    client = Client(Behaviour(stale_deltas_after_cancel=5))
    client.send("response.create")
    client.run(700)
    client.send("response.cancel")
    client.send("response.cancel")
    client.run(1_000)
    assert client.session.record()["responses"][0]["cancels"] == 2
    assert not client.of("error")


def test_the_record_has_the_time_at_which_the_client_left() -> None:
    client = Client()
    client.send("response.create")
    client.session.closed(client.now_ns, 1_000)
    record = json.loads(json.dumps(client.session.record()))
    assert (record["request_id"], record["session_id"], record["close_code"]) == ("CA1", "sess_1", 1_000)
    assert record["closed_ns"] == client.now_ns
    assert record["events"][0] == {"at_ns": 5_000 * MS, "dir": "out", "type": "session.created"}
    assert not client.run(10_000)
