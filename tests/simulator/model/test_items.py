"""Truncating, deleting and adding items, as the real server takes and refuses them."""

from __future__ import annotations

import pytest

from .session_client import Client, spoken, truncate


def test_truncate_keeps_what_was_heard_and_forgets_the_words() -> None:
    client, item_id = spoken()
    (event,) = truncate(client, item_id, 1_234)
    assert (event["type"], event["audio_end_ms"]) == ("conversation.item.truncated", 1_234)
    (item,) = client.session.record()["items"]
    assert (item["held_ms"], item["truncated_ms"], item["sent_bytes"]) == (1_234, 1_234, 16_000)
    (event,) = client.send("conversation.item.retrieve", item_id=item_id)
    assert event["item"]["content"][0]["transcript"] is None


def test_truncate_beyond_the_audio_complains_without_an_event_id_and_cuts_at_the_end() -> None:
    client, item_id = spoken()
    error, truncated = truncate(client, item_id, 2_001)
    assert error["error"]["message"] == "Audio content of 2000ms is already shorter than 2001ms"
    assert error["error"]["event_id"] is None
    assert truncated["audio_end_ms"] == 2_000


def test_truncate_to_nothing_or_of_nothing_is_unsupported() -> None:
    client, item_id = spoken()
    user = client.send(
        "conversation.item.create",
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    )[0]["item"]["id"]
    for which, end_ms, index in ((item_id, 0, 0), (user, 100, 0), (item_id, 100, 1)):
        (error,) = truncate(client, which, end_ms, index)
        assert error["error"]["code"] == "unsupported_content_type"
    assert client.session.record()["items"][0]["held_ms"] == 2_000


@pytest.mark.parametrize("verb", ["truncate", "delete", "retrieve"])
def test_a_missing_item_is_an_error(verb: str) -> None:
    client = Client()
    extra = {"content_index": 0, "audio_end_ms": 10} if verb == "truncate" else {}
    client.send(f"conversation.item.{verb}", item_id="item_nobody", **extra)
    assert client.only_error()["code"] == f"item_{verb}_invalid_item_id"


def test_a_deleted_item_is_gone_from_the_conversation() -> None:
    client, item_id = spoken()
    (event,) = client.send("conversation.item.delete", item_id=item_id)
    assert (event["type"], event["item_id"]) == ("conversation.item.deleted", item_id)
    (item,) = client.session.record()["items"]
    assert (item["deleted"], item["held_ms"]) == (True, 0)
    client.send("conversation.item.delete", item_id=item_id)
    assert client.only_error()["code"] == "item_delete_invalid_item_id"


def test_items_are_added_where_the_client_wants_them() -> None:
    client = Client()

    def add(text: str, after: str | None = None) -> str | None:
        item = {"id": text, "type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}
        event = client.send("conversation.item.create", item=item, previous_item_id=after)[0]
        previous: str | None = event.get("previous_item_id", event.get("error", {}).get("code"))
        return previous

    assert [add("b"), add("d"), add("a", "root"), add("c", "b")] == [None, "b", None, "b"]
    assert add("x", "nobody") == "item_create_invalid_item_id"
    assert add("a") == "item_create_duplicate_item_id"
    assert add("e") == "d"
