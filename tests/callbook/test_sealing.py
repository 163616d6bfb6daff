"""What leaves the machine opens only with the key and under the name with which it was sealed."""

from __future__ import annotations

import base64

import pytest

pytest.importorskip("cryptography")

from callbook.sealing import SealError, Seals, key_of  # without the extra `fleet` it cannot be imported

KEY = bytes(range(32))


def test_another_process_with_the_same_key_opens_a_story() -> None:
    name = Seals(KEY).name("story", "CA1")
    assert Seals(KEY).open(name, Seals(KEY).seal(name, b"words")) == b"words"


def test_a_name_does_not_show_the_call_and_depends_on_the_key() -> None:
    assert Seals(KEY).name("story", "CA1") == Seals(KEY).name("story", "CA1")
    assert "CA1" not in Seals(KEY).name("story", "CA1")
    assert Seals(KEY).name("story", "CA1") != Seals(bytes(32)).name("story", "CA1")
    assert Seals(KEY).name("story", "CA1") != Seals(KEY).name("ended", "CA1")


def test_the_same_words_are_never_sealed_alike() -> None:
    seals = Seals(KEY)
    assert len({seals.seal("n", b"words") for _ in range(3)} | {Seals(KEY).seal("n", b"words")}) == 4


def test_what_a_store_must_not_be_believed_does_not_open() -> None:
    seals = Seals(KEY)
    sealed = seals.seal("one", b"words")
    lies = {
        "another name": ("two", sealed),
        "another key": ("one", Seals(bytes(32)).seal("one", b"words")),
        "a changed byte": ("one", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        "another version": ("one", b"\x00" + sealed[1:]),
        "cut off": ("one", sealed[:20]),
        "nothing": ("one", b""),
        "garbage": ("one", b"\x01" + bytes(100)),
    }
    for name, value in lies.values():
        with pytest.raises(SealError):
            seals.open(name, value)


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper(),
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode().rstrip("="),
        f" {KEY.hex()}\n",
    ],
)
def test_a_key_is_hex_or_base64(text: str) -> None:
    assert key_of(text) == KEY


@pytest.mark.parametrize("text", ["", "secret", "00" * 31, base64.b64encode(bytes(24)).decode(), "ü" * 32])
def test_another_text_is_no_key_and_one_line_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be 32 bytes as 64 hex digits or in base64; [^\n]+$"):
        key_of(text)
