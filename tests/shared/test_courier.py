"""Facts on their way to callbook."""

from __future__ import annotations

from typing import Any

import pytest
import zmq

from shared.courier import Courier
from shared.facts import CallStatus, Kept, Noted
from shared.messages import decode, encode
from shared.metrics import FACTS, Page
from tests.on_a_loop import on_a_loop


class FakeLink:
    """In the place of a bus.Link: says what callbook would have read."""

    def __init__(self) -> None:
        self.sent: list[Noted] = []

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def send(self, messages: list[Noted]) -> bool:
        self.sent += decode(encode(messages), Noted)
        return True


def status(call_sid: str, duration_s: int = 1) -> CallStatus:
    return CallStatus(call_sid, "AC1", "", "", "completed", duration_s, 1)


@pytest.mark.parametrize("unsayable", [status("CA2", 2**64), status("\ud800")])
@on_a_loop
async def test_a_fact_that_cannot_be_said_is_lost_alone(unsayable: CallStatus) -> None:
    context: zmq.Context[Any] = zmq.Context()
    page = Page.in_memory(FACTS)
    courier = Courier(context, "inproc://callbook", name="sender", page=page)
    courier._link.close()
    link: Any = FakeLink()
    courier._link = link
    courier.start()
    for fact in (status("CA1"), unsayable, status("CA3")):
        courier.note(fact)
    courier._send()
    assert [noted.fact.call_sid for noted in link.sent] == ["CA1", "CA3"]
    assert page.counter("facts_lost").value == 1
    # And what comes behind it is said, too.
    courier._on_kept("", Kept(link.sent[-1].source, link.sent[-1].seq))
    courier.note(status("CA4"))
    courier._send()
    assert link.sent[-1].fact.call_sid == "CA4"
    courier.close()
    context.term()
