from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import tokens as module
from gateway.core.tokens import LIFE_NS, REASONS, TokenError, Tokens, shared_key

KEY = shared_key("auth token")


def refusal(tokens: Tokens, token: str, call_sid: str = "CA1", account_sid: str = "AC1", now_ns: int = 0) -> str:
    with pytest.raises(TokenError) as caught:
        tokens.use(token, call_sid, account_sid, now_ns)
    assert str(caught.value) in REASONS
    return str(caught.value)


def test_a_token_is_accepted_once():
    tokens = Tokens(KEY)
    token, token_id = tokens.mint(3, "CA1", "AC1", 0)
    accepted = tokens.use(token, "CA1", "AC1", LIFE_NS - 1)
    assert (accepted.token_id, accepted.worker) == (token_id, 3)
    assert refusal(tokens, token, now_ns=LIFE_NS - 1) == "used"
    assert len(token) < 500


def test_another_gateway_of_the_cell_accepts_a_token():
    minting, other = Tokens(shared_key("auth token")), Tokens(shared_key("auth token"))
    token, _ = minting.mint(0, "CA1", "AC1", 0, source=minting.source("+15550001"), resumed=True)
    accepted = other.use(token, "CA1", "AC1", 1)
    assert (accepted.worker, accepted.source, accepted.resumed) == (0, other.source("+15550001"), True)
    assert accepted.returned == ""
    assert accepted.source != other.source("")
    back, _ = minting.mint(0, "CA1", "AC1", 0, resumed=True, returned="no-answer")
    assert other.use(back, "CA1", "AC1", 1).returned == "no-answer"
    assert refusal(Tokens(shared_key("another")), token) == "forged"


def test_another_cell_accepts_a_token_and_learns_no_worker_from_it():
    token, token_id = Tokens(KEY, "cell-0").mint(7, "CA1", "AC1", 0)
    accepted = Tokens(KEY, "cell-1").use(token, "CA1", "AC1", 1)
    assert (accepted.token_id, accepted.worker) == (token_id, None)
    assert Tokens(KEY, "cell-0").use(token, "CA1", "AC1", 1).worker == 7
    assert refusal(Tokens(shared_key("another"), "cell-1"), token) == "forged"
    assert len(Tokens(KEY, "c" * 32).mint(9_999, "CA1", "AC1", 10**19)[0]) < 500


def test_a_cell_that_left_its_fleet_accepts_the_tokens_of_before():
    token, _ = Tokens(KEY, "cell-0").mint(7, "CA1", "AC1", 0)
    assert Tokens(KEY).use(token, "CA1", "AC1", 1).worker is None


def test_without_an_auth_token_each_process_has_its_own_key():
    assert shared_key("") != shared_key("")


def test_a_token_is_valid_for_its_call_and_its_account_for_a_minute():
    tokens = Tokens(KEY)
    token, _ = tokens.mint(0, "CA1", "AC1", 0)
    assert refusal(tokens, token, call_sid="CA2") == "forged"
    assert refusal(tokens, token, account_sid="AC2") == "forged"
    assert refusal(tokens, token, call_sid="CA1A", account_sid="C1") == "forged"
    assert refusal(tokens, token, now_ns=LIFE_NS) == "expired"
    assert tokens.use(token, "CA1", "AC1", 1)  # none of the refusals used it up


def test_a_token_is_valid_for_its_plan():
    tokens = Tokens(KEY)
    token, _ = tokens.mint(0, "CA1", "AC1", 0, packed_plan="plan")
    for other in ("", "pla", "plan0"):
        with pytest.raises(TokenError, match="forged"):
            tokens.use(token, "CA1", "AC1", 0, packed_plan=other)
    assert tokens.use(token, "CA1", "AC1", 0, packed_plan="plan")


@given(st.integers(0, 499), st.characters())
def test_a_changed_token_is_refused(place, character):
    tokens = Tokens(KEY)
    token, _ = tokens.mint(1, "CA1", "AC1", 0, source=tokens.source("+15550001"))
    at = place % len(token)
    if token[at] != character:
        assert refusal(tokens, token[:at] + character + token[at + 1 :]) in ("malformed", "forged")


@given(st.text())
def test_arbitrary_text_is_refused_as_a_token(text):
    assert refusal(Tokens(KEY), text) == "malformed"


def test_used_tokens_are_forgotten_when_they_expire_and_never_before(monkeypatch):
    monkeypatch.setattr(module, "USED_MAX", 2)
    tokens = Tokens(KEY)
    for second in (0, 1):
        tokens.use(tokens.mint(0, "CA1", "AC1", second)[0], "CA1", "AC1", second)
    late, _ = tokens.mint(0, "CA1", "AC1", 2)
    assert refusal(tokens, late, now_ns=2) == "full"
    later = LIFE_NS + 1_000_000
    assert tokens.use(tokens.mint(0, "CA1", "AC1", later)[0], "CA1", "AC1", later)
