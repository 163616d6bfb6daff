"""The right word for a misspelt one."""

from __future__ import annotations

from shared.alike import nearest


def test_the_known_word_that_is_most_like_the_wrong_one_is_found_and_none_that_is_not_alike() -> None:
    known = ("greeting", "greeting_file", "voice")
    assert nearest("greting", known) == "greeting"
    assert nearest("voise", known) == "voice"
    assert nearest("temperature", known) == ""
    assert nearest("voise", known, alike=0.9) == ""
