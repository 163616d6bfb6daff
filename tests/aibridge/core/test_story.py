"""The story and the line's memory survive their encoding, and unreadable bytes are an empty story."""

from __future__ import annotations

import msgpack
import pytest
from msgspec import structs

from aibridge.core.story import LineMemory, Said, Story, decode, encode
from shared.plan import CallPlan, Conference, Dial, Fallback, HangUp

SAID = (
    Said(1, "ai", 3, "Hello there.", 1_000, 2_000, 8_000, 4_000, 20, 16_000),
    Said(2, "caller", 1, "A question.", 3_000, 4_000),
    Said(3, "ai", 4, "An ans", 5_000, 0, 800, None),
)
STORY = Story(
    plan=CallPlan("outbound", "AC1", "+15005550001", "+15005550006", "sales", {"name": "Ada"}),
    turns=SAID,
    states={"floor": "CONFIRMING", "goodbye": "PENDING"},
    purpose="answer",
    has_spoken=True,
    order=Dial("+15005550009", "+15005550001", 20),
)
LINE = LineMemory({4: "answer"}, 4, 1, (4, 480))


@pytest.mark.parametrize("order", [HangUp(), Dial("+15005550009"), Conference("room"), Fallback()])
def test_a_story_is_decoded_as_it_was_encoded(order) -> None:
    story = structs.replace(STORY, order=order)
    assert decode(encode(story, LINE)) == (story, LINE)


def test_fields_of_a_newer_version_are_ignored() -> None:
    whole = msgpack.unpackb(encode(STORY, LINE), strict_map_key=False)
    whole |= {"version": 2}
    whole["story"] |= {"mood": "good"}
    whole["story"]["turns"][0].append("joy")
    whole["story"]["plan"].append("a field at the end")
    whole["line"]["weight"] = 3
    assert decode(msgpack.packb(whole)) == (STORY, LINE)


def test_fields_that_an_older_version_lacks_have_their_defaults() -> None:
    whole = {"story": {"turns": [[1, "ai", 3, "Hi."]]}, "line": {}}
    assert decode(msgpack.packb(whole)) == (Story(turns=(Said(1, "ai", 3, "Hi."),)), LineMemory())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 10_000,
        msgpack.packb([]),
        msgpack.packb({"story": 1, "line": {}}),
        encode(STORY, LINE)[:-1],
    ],
)
def test_unreadable_bytes_are_an_empty_story(data: bytes) -> None:
    assert decode(data) == (Story(), LineMemory())
