from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from shared.process import ConfigError
from shared.settings import NAMES, Settings, load, misspelt, prepare_run_dir, read_settings

ROOT = Path(__file__).parent.parent.parent
# Settings with a default that the example file leaves empty, because setting them has a meaning of its own.
UNSET = {"simulated_model"}


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("GATEWAY_PORT=9000\nTX_LEAD_MS=140\n")
    monkeypatch.setenv("GATEWAY_PORT", "9001")
    settings = load()
    assert (settings.gateway_port, settings.tx_lead_ms) == (9001, 140)


def test_an_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "")
    assert load().gateway_port == 8080


def test_the_origin_is_the_public_url_or_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().origin == "http://localhost:8080"
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example.com/")
    assert load().origin == "https://voice.example.com"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PORT", "http"),
        ("GATEWAY_PORT", "70000"),
        ("TX_LEAD_MS", "10"),
        ("TX_LEAD_MS", "125"),
        ("BARGE_IN", "flush"),
        ("PUBLIC_URL", "voice.example.com"),
        ("PUBLIC_URL", "https://example.com/path"),
        ("LOG_LEVEL", "VERBOSE"),
        ("FALLBACK_DIAL", "abc"),
        ("FALLBACK_DIAL", "+"),
        ("FALLBACK_DIAL", "12"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_every_wrong_value_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GATEWAY_PORT", "http"), ("BARGE_IN", "flush"), ("PUBLIC_URL", "voice.example.com")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load()
    named = [line.partition(" ")[0] for line in str(caught.value).splitlines()]
    assert named == ["GATEWAY_PORT", "PUBLIC_URL", "BARGE_IN"]


@pytest.mark.parametrize(
    ("env", "lead", "bounds"),
    [
        ({}, 120, (60, 180)),
        ({"TX_LEAD_MS": "40"}, 40, (40, 180)),
        ({"BARGE_IN": "clear"}, 180, (180, 180)),
        ({"BARGE_IN": "clear", "TX_LEAD_MAX_MS": "1000"}, 1_000, (1_000, 1_000)),
        ({"BARGE_IN": "clear", "TX_LEAD_MAX_MS": "600", "TX_LEAD_MS": "200"}, 200, (200, 600)),
        ({"BARGE_IN": "clear", "TX_LEAD_MAX_MS": "600", "TX_LEAD_MIN_MS": "60"}, 600, (60, 600)),
        ({"BARGE_IN": "clear", "TX_LEAD_MS": "400"}, 400, (400, 400)),
    ],
)
def test_the_lead_adapts_from_its_start_and_with_clear_does_not_fall_below_it(
    env: dict[str, str], lead: int, bounds: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert (settings.lead_ms, settings.lead_bounds_ms) == (lead, bounds)


@pytest.mark.parametrize(
    ("env", "part"),
    [
        ({"TX_LEAD_MAX_MS": "600"}, "or BARGE_IN=clear"),
        ({"BARGE_IN": "clear", "TX_LEAD_MAX_MS": "1010"}, "TX_LEAD_MAX_MS"),
        ({"TX_LEAD_MS": "100", "TX_LEAD_MAX_MS": "80"}, "TX_LEAD_MS 100 must lie between"),
    ],
)
def test_a_lead_that_cannot_be_is_explained(env: dict[str, str], part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["+15550100", "112", "415-123-4567", "+44 (20) 7946 0018"])
def test_a_fallback_number_may_be_written_in_any_usual_way(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLBACK_DIAL", number)
    assert load().fallback_dial == number


@pytest.mark.parametrize(("cores", "gateways", "workers"), [(1, 1, 1), (2, 1, 1), (4, 1, 2), (8, 3, 4), (16, 7, 8)])
def test_auto_leaves_a_core_to_txpacer_and_shares_the_others_between_gateways_and_workers(
    cores: int, gateways: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setenv("GATEWAYS", "auto")
    monkeypatch.setenv("AIBRIDGE_WORKERS", "auto")
    settings = load()
    assert (settings.gateways, settings.aibridge_workers) == (gateways, workers)


def test_log_level_is_read_from_the_file_in_any_case(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=debug\n")
    assert load().log_level == "DEBUG"


def test_a_relative_path_belongs_to_the_directory_of_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text("DATA_DIR=records\nAGENT_FILE=agent.toml\n")
    settings = load(home)
    assert (settings.data_dir, settings.agent_file) == (home / "records", home / "agent.toml")
    assert load().data_dir == tmp_path / "data"
    monkeypatch.setenv("DATA_DIR", "/var/lib/twentyms")
    assert load(home).data_dir == Path("/var/lib/twentyms")


def test_a_relative_path_of_the_environment_belongs_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text("AGENTS_DIR=agents\nDATA_DIR=records\n")
    monkeypatch.setenv("AGENTS_DIR", "mine")
    settings = load(home)
    assert (settings.agents_dir, settings.data_dir) == (tmp_path / "mine", home / "records")


def test_a_misspelt_setting_is_named_with_the_nearest_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "TWILIO_AUTH_TOKN=x\nLEAD_MS=200\nOPENAI_MODEL=x\nGATEWAY_PORT=80\nCOMPOSE_PROJECT_NAME=x\nHTTPS_PROXY=x\n"
    (tmp_path / ".env").write_text(text)
    monkeypatch.setenv("RECORDNG", "on")
    assert misspelt() == [
        "TWILIO_AUTH_TOKN in .env is not a setting and is not used; did you mean TWILIO_AUTH_TOKEN?",
        "LEAD_MS in .env is not a setting and is not used; did you mean TX_LEAD_MS?",
        "OPENAI_MODEL in .env is not a setting and is not used; did you mean OPENAI_REALTIME_MODEL?",
        "RECORDNG in the environment is not a setting and is not used; did you mean RECORDING?",
    ]


@pytest.mark.parametrize(
    "name",
    ["TWILIO_API_KEY", "TWILIO_API_SECRET", "OPENAI_API_BASE", "OPENAI_ORG_ID", "LOGNAME", "GATEWAY_SERVICE_PORT"],
)
def test_a_variable_of_another_program_does_not_count_as_a_misspelt_setting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    assert misspelt() == []


def test_a_process_gets_its_settings_from_a_child_and_loads_no_pydantic(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEWAY_PORT=9000\nDATA_DIR=records\nRECORDNG=on\n")
    code = (
        "import sys; from shared.settings import load_in_child; found = load_in_child(warn=print); "
        "print(found.gateway_port, found.data_dir, sorted(found.given), 'pydantic' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    warning, found = printed.stdout.splitlines()
    assert warning == "RECORDNG in .env is not a setting and is not used; did you mean RECORDING?"
    assert found == f"9000 {tmp_path / 'records'} ['data_dir', 'gateway_port'] False"


def test_the_representation_of_settings_shows_no_secret() -> None:
    settings = Settings(
        openai_api_key="sk-secret", twilio_auth_token="secret-token", webhook_url="https://x/?key=secret"
    )
    assert "secret" not in repr(settings)


def test_the_run_dir_is_made_private(short_path: Path) -> None:
    path = short_path / "run"
    path.mkdir(mode=0o755)
    prepare_run_dir(Settings(run_dir=path))
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_run_dir_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(ConfigError, match="RUN_DIR"):
        prepare_run_dir(Settings(run_dir=path))


def test_a_run_dir_too_long_for_a_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        prepare_run_dir(Settings(run_dir=tmp_path / ("x" * 100)))


def test_the_example_file_names_every_setting_and_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert set(example) == {name.upper() for name in NAMES}
    given = {name.lower(): value for name, value in example.items() if value}
    assert read_settings(**given) == Settings()
    for each in fields(Settings):
        assert each.name in given or each.name in UNSET or each.default is MISSING or not each.default, each.name
