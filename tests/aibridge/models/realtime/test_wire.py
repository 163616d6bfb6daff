"""The Realtime API's events as they are decoded."""

from __future__ import annotations

import pytest

from aibridge.models.realtime.wire import MalformedEventError, decode_event


@pytest.mark.parametrize("number", ["-1", "9007199254740993", "1e300", "1" + 400 * "0"])
@pytest.mark.parametrize(
    "event",
    [
        '{"type": "conversation.item.truncated", "item_id": "i", "audio_end_ms": %s}',
        '{"type": "response.done", "response": {"usage": {"input_token_details": {"text_tokens": %s}}}}',
    ],
)
def test_a_number_beyond_the_exact_integers_makes_an_event_malformed(event: str, number: str) -> None:
    with pytest.raises(MalformedEventError):
        decode_event((event % number).encode())
