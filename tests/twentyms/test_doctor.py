"""`twentyms doctor`: single findings."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

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


def sample(lead_ms, least_ms, delay_ms, gap_ms):
    return {"at": "", "lead_ms": lead_ms, "least_ms": least_ms, "delay_ms": delay_ms, "gap_ms": gap_ms}


def path_finding(monkeypatch, samples, **call):
    """What the doctor finds when its test call leaves these samples."""

    async def placed(*_, **__):
        return SimpleNamespace(**({"call_sid": "CA1", "started_ns": 1, "warnings": (), "outcome": ""} | call))

    async def answer(url, **_):
        return 200, json.dumps({"ended_at": "now", "path": samples}) if "/api/calls/CA1" in url else ""

    monkeypatch.setattr(doctor, "place_call", placed)
    monkeypatch.setattr(doctor, "_get", answer)
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example.com")
    (found,) = asyncio.run(doctor.path(load()))
    return found


@pytest.mark.parametrize(
    ("delay_ms", "settings", "outcome", "advice"),
    [
        (45, {}, "ok", ""),
        (95, {"TX_LEAD_MAX_MS": "120"}, "ok", ""),
        (130, {"TX_LEAD_MAX_MS": "120"}, "note", "set TX_LEAD_MAX_MS=180"),
        (231, {}, "note", "set BARGE_IN=clear and TX_LEAD_MAX_MS=260"),
        (500, {"TX_LEAD_MAX_MS": "400", "BARGE_IN": "clear"}, "note", "set TX_LEAD_MAX_MS=520"),
        (2_500, {}, "note", "no lead hides it"),
    ],
)
def test_the_path_of_the_test_call_decides_which_setting_is_recommended(
    delay_ms, settings, outcome, advice, home, monkeypatch
):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    found = path_finding(monkeypatch, [sample(120, 52, 0, 0), sample(120, 48, delay_ms, 0), sample(180, 48, 12, 0)])
    assert (found.outcome, found.advice[: len(advice)]) == (outcome, advice)
    assert bool(found.advice) == bool(advice)
    assert f"least round trip 48 ms, longest delay beyond it {delay_ms} ms" in found.text


@pytest.mark.parametrize(("delay_ms", "least_ms"), [(90, "110"), (30, "")])
def test_a_gap_on_a_path_that_needs_no_longer_maximum_asks_for_a_longer_minimum_if_the_path_delayed(
    delay_ms, least_ms, home, monkeypatch
):
    found = path_finding(monkeypatch, [sample(70, 48, delay_ms, 20)])
    assert found.advice.startswith(f"set TX_LEAD_MIN_MS={least_ms}") if least_ms else not found.advice


def test_gaps_that_the_caller_of_the_test_call_heard_are_named(home, monkeypatch):
    found = path_finding(monkeypatch, [sample(120, 48, 200, 60), sample(180, 48, 0, 20)])
    assert found.text.endswith("the caller heard 80 ms of gaps")


def test_a_path_without_an_answered_ping_is_not_judged(home, monkeypatch):
    assert path_finding(monkeypatch, []).text.startswith("not measured")


def test_a_test_call_that_is_not_connected_is_a_problem(home, monkeypatch):
    found = path_finding(monkeypatch, [], started_ns=0, outcome="rejected")
    assert (found.outcome, found.text) == ("bad", "the test call was not connected: rejected")


def test_no_test_call_is_placed_without_a_public_address(home, monkeypatch):
    (found,) = asyncio.run(doctor.path(load()))
    assert found.text.startswith("not measured: without PUBLIC_URL")
