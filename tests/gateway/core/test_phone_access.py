"""Who may use the browser phone: the rules alone."""

from __future__ import annotations

import pytest

from gateway.core.phone_access import KEY_LIFE_S, TICKET_COOKIE, PhoneAccess, mint_key, phone_key
from gateway.core.tokens import LIFE_NS, Tokens

ORIGIN = "https://voice.example.com"
SECRET = phone_key("auth-token")


def access(*, guarded: bool = True) -> PhoneAccess:
    return PhoneAccess({ORIGIN}, Tokens(SECRET), secret=SECRET if guarded else None)


def test_a_key_opens_the_page_until_it_expires():
    key = mint_key(SECRET, 1_000)
    assert access().opens(key, 1_000)
    assert access().opens(key, 999 + KEY_LIFE_S)
    assert not access().opens(key, 1_000 + KEY_LIFE_S)


@pytest.mark.parametrize("key", ["", ".", "1", "99999999999.", "99999999999.00", "²5.aa", "9" * 40 + ".aa", "5.ä"])
def test_text_that_is_not_a_key_opens_nothing(key):
    assert not access().opens(key, 0)


def test_another_accounts_key_opens_nothing():
    assert not access().opens(mint_key(phone_key("another"), 0), 1)


def test_without_signatures_no_key_is_needed():
    assert access(guarded=False).opens("", 0)


def test_only_requests_for_the_gateways_own_names_from_its_own_pages_are_accepted():
    rules = access()
    assert rules.is_own_host("voice.example.com")
    assert not rules.is_own_host("evil.example.com")
    assert not rules.is_own_host(None)
    assert rules.is_own_origin(ORIGIN)
    for origin in (None, "null", "http://voice.example.com", "https://voice.example.com.evil.com"):
        assert not rules.is_own_origin(origin)


def test_a_ticket_is_accepted_once_from_a_page_of_ours_and_within_a_minute():
    rules = access()
    cookies = f"other=1; {TICKET_COOKIE}={rules.ticket(0)}"
    assert not rules.takes_ticket("https://evil.example.com", cookies, 1)
    assert not rules.takes_ticket(None, cookies, 1)
    assert rules.takes_ticket(ORIGIN, cookies, 1)
    assert not rules.takes_ticket(ORIGIN, cookies, 2)
    late = f"{TICKET_COOKIE}={rules.ticket(0)}"
    assert not rules.takes_ticket(ORIGIN, late, LIFE_NS)


@pytest.mark.parametrize("cookies", [None, "", TICKET_COOKIE, f"{TICKET_COOKIE}=", f'{TICKET_COOKIE}="a\\', "a=b; ;;="])
def test_other_cookies_are_not_a_ticket(cookies):
    assert not access().takes_ticket(ORIGIN, cookies, 0)


def test_a_stream_token_is_not_a_ticket():
    tokens = Tokens(SECRET)
    token, _ = tokens.mint(0, "CA1", "AC1", 0)
    assert not access().takes_ticket(ORIGIN, f"{TICKET_COOKIE}={token}", 1)
