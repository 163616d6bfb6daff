"""`twentyms doctor`: single findings."""

from __future__ import annotations

import asyncio

import pytest

from shared.settings import load
from twentyms import doctor


@pytest.mark.parametrize(("status", "outcome"), [(400, "note"), (403, "bad"), (0, "bad")])
def test_a_missing_token_is_no_problem_beside_a_gateway_that_takes_unsigned_calls(status, outcome, home, monkeypatch):
    async def answer(*_):
        return status, ""

    monkeypatch.setattr(doctor, "_post", answer)
    found = asyncio.run(doctor.keys(load()))
    assert [each.outcome for each in found if each.what == "Twilio token"] == [outcome]


def test_a_misspelt_setting_is_a_problem(home):
    (home / ".env").write_text("TX_LAED_MS=200\n")
    (found,) = asyncio.run(doctor.names(load()))
    assert (found.outcome, "TX_LEAD_MS" in found.text) == ("bad", True)


def test_a_model_that_cannot_be_reached_is_named_by_its_address(home, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (found,) = asyncio.run(doctor.model(load()))
    assert found.text.startswith("127.0.0.1:9 cannot be reached")
