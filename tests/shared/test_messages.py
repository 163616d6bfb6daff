from __future__ import annotations

import contextlib
import inspect
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import messages
from shared.messages import (
    BridgeToPacer,
    CallerAudio,
    Frames,
    GatewayToBridge,
    Message,
    PacerToGateway,
    Speech,
    UndecodableError,
    Withdraw,
    Withdrawn,
    decode,
    encode,
)

CHANNELS = [
    getattr(messages, name) for name in dir(messages) if "To" in name and len(get_args(getattr(messages, name))) > 1
]


def test_a_batch_is_decoded_as_it_was_encoded() -> None:
    sent = [Speech(2**62, 1, b"\x00\xff" * 80), Withdraw(2**62, 3, False)]
    assert decode(encode(sent), BridgeToPacer) == sent


def test_nested_entries_keep_their_types() -> None:
    frames = Frames(1, 2, ((3, 4, b"x" * 160, 0), (5, 6, b"", -1)))
    assert decode(encode([frames]), PacerToGateway) == [frames]
    withdrawn = Withdrawn(1, 2, ((1, 160), (2, 0)), 99)
    assert decode(encode([withdrawn]), messages.PacerToBridge) == [withdrawn]


def test_every_message_travels_on_a_channel_and_its_docstring_names_the_sender() -> None:
    kinds = {
        kind
        for _, kind in inspect.getmembers(messages, inspect.isclass)
        if issubclass(kind, Message) and kind not in (Message, messages.Header)
    }
    assert kinds == {kind for channel in CHANNELS for kind in get_args(channel)}
    for kind in kinds:
        assert "ent by" in (kind.__doc__ or ""), kind


def test_a_message_of_another_channel_is_refused() -> None:
    with pytest.raises(UndecodableError):
        decode(encode([CallerAudio(1, b"", 0)]), BridgeToPacer)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(None),
        msgpack.packb([]),
        msgpack.packb([messages.VERSION + 1]),
        msgpack.packb([messages.VERSION, [13]]),
        msgpack.packb([messages.VERSION, [13, "call", b""]]),
        msgpack.packb([messages.VERSION, {"a": 1}]),
        b"\x91" * 5_000,
    ],
)
def test_bytes_that_are_not_a_message_raise_the_documented_error_only(data: bytes) -> None:
    with pytest.raises(UndecodableError):
        decode(data, GatewayToBridge)


@given(st.binary(max_size=200), st.sampled_from(CHANNELS))
def test_random_bytes_decode_or_are_refused(data: bytes, channel: Any) -> None:
    with contextlib.suppress(UndecodableError):
        decode(data, channel)
