"""Templates of URLs: whoever talks to the agent chooses neither the server nor another path."""

from __future__ import annotations

import pytest

from toolbox.core import urls

PARAMETERS = {"order": None, "q": None}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("https://{order}.example.com/", "placeholder in its host"),
        ("https://example.com:{order}/", "placeholder in its host"),
        ("{order}", "has to begin with http"),
        ("file:///etc/passwd", "has to begin with http"),
        ("https://user:pass@example.com/", "password"),
        ("https://example.com/{other}", "{other} is neither a parameter"),
        ("https://example.com/{order.attribute}", "{order.attribute} is neither"),
        ("https://example.com/{order!r}", "nothing else"),
        ("https://example.com/{order:>9}", "nothing else"),
        ("https://example.com/{}", "nothing else"),
    ],
)
def test_a_template_that_could_lead_elsewhere_is_refused(template: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("{", r"\{")):
        urls.check(template, PARAMETERS)


def test_values_are_quoted_so_that_they_stay_one_segment_or_one_value() -> None:
    template = "https://example.com/orders/{order}?q={q}&from={call.from_number}"
    urls.check(template, PARAMETERS)
    filled = urls.fill(template, {"order": "a/../b?c#d", "q": "x&y=z", "call.from_number": "+1555"})
    assert filled == "https://example.com/orders/a%2F..%2Fb%3Fc%23d?q=x%26y%3Dz&from=%2B1555"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_that_would_be_another_path_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="order is not a name"):
        urls.fill("https://example.com/orders/{order}", {"order": value})


def test_a_secret_with_braces_is_no_placeholder() -> None:
    assert urls.fill("https://example.com/{{x}}/{order}", {"order": "1"}) == "https://example.com/{x}/1"
