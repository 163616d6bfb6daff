"""`twentyms run`: what is refused before anything starts, and what honcho is given."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from shared.process import ConfigError
from twentyms import run
from twentyms.stack import free_port


@pytest.fixture(autouse=True)
def _free_ports(home, monkeypatch):
    monkeypatch.setenv("GATEWAY_PORT", str(free_port()))
    monkeypatch.setenv("METRICS_PORT", str(free_port()))
    # `run` sets these for honcho; an empty one counts as not set, and is restored after the test.
    for name in ("ALLOW_UNSIGNED", "GATEWAY_HOST", "PUBLIC_URL", "TWILIO_ACCOUNT_SID", "DRAIN_SECONDS"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize("name", ["GATEWAY_PORT", "METRICS_PORT"])
@pytest.mark.parametrize("key", ["", "sk-x"])
def test_a_port_in_use_is_named_before_anything_starts(name, key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("honcho was started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv(name, str(port))
        with pytest.raises(ConfigError, match=rf"cannot listen on [\d.]+ port {port}; .* set {name}"):
            run.main([])


def test_a_model_address_without_a_key_is_refused(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL is set and OPENAI_API_KEY is not"):
        run.main([])


def test_honcho_starts_as_many_processes_as_the_settings_say_and_reads_no_settings_itself(home, monkeypatch):
    (home / ".env").write_text("OPENAI_API_KEY=sk-x\nAIBRIDGE_WORKERS=2\n")
    monkeypatch.setenv("DRAIN_SECONDS", "600")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(os, "execv", lambda _, arguments: sys.exit(" ".join(arguments)))
    with pytest.raises(SystemExit) as started:
        run.main([])
    assert "honcho start -e /dev/null" in str(started.value.code)
    assert "-c gateway=1,aibridge=2" in str(started.value.code)
    assert os.environ["DRAIN_SECONDS"] == "0"


def agents_of(home, **files: str) -> None:
    (home / "agents").mkdir()
    for name, text in files.items():
        (home / "agents" / f"{name}.toml").write_text(f'instructions = "x"\n{text}\n')


def test_an_agent_with_a_key_of_its_own_is_answered_by_its_own_model(home, monkeypatch, capsys):
    agents_of(home, office='api_key_env = "OFFICE_KEY"')
    (home / ".env").write_text("OFFICE_KEY=sk-office\n")
    monkeypatch.setenv("AGENTS_DIR", "agents")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(os, "execv", lambda *_: sys.exit(0))
    with pytest.raises(SystemExit):
        run.main([])
    assert os.environ["AGENTS_DIR"] == str(home / "agents")
    assert "model       each agent's own, with its own key" in capsys.readouterr().out


def test_agents_without_a_key_are_named_where_another_agent_has_one(home):
    agents_of(home, office='default = true\napi_key_env = "OFFICE_KEY"', sales="", support="")
    (home / ".env").write_text("OFFICE_KEY=sk-office\nAGENTS_DIR=agents\n")
    with pytest.raises(ConfigError, match="these agents have no api_key_env: sales, support; set it in"):
        run.main([])


def started(monkeypatch, capsys) -> tuple[dict[str, str], str]:
    """The environment of the pipeline, and what is printed before its start."""
    found: dict[str, str] = {}

    def stack(*, env, **_):
        found.update(env)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "Stack", stack)
    assert run.main([]) == 0
    return found, capsys.readouterr().out


def test_without_keys_only_this_machine_can_call_the_simulated_model(home, monkeypatch, capsys):
    (home / ".env").write_text("PUBLIC_URL=https://voice.example.com\n")
    env, text = started(monkeypatch, capsys)
    port = os.environ["GATEWAY_PORT"]
    assert env["GATEWAY_HOST"] == "127.0.0.1"
    assert env["PUBLIC_URL"] == f"http://localhost:{port}"
    assert env["ALLOW_UNSIGNED"] == "on"
    for line in (f"phone page  http://localhost:{port}/\n", "from this machine only", "simulated, follows a script"):
        assert line in text


TWILIO = "TWILIO_ACCOUNT_SID=AC1\nTWILIO_AUTH_TOKEN=token\nPUBLIC_URL=https://voice.example.com\n"


def test_the_simulated_model_does_not_answer_a_twilio_number_unasked(home):
    (home / ".env").write_text(TWILIO + "SIMULATED_MODEL=\n")
    with pytest.raises(ConfigError, match="a simulated model would answer your number"):
        run.main([])


def test_the_simulated_model_answers_a_twilio_number_if_it_is_chosen(home, monkeypatch, capsys):
    (home / ".env").write_text(TWILIO + "SIMULATED_MODEL=talk\n")
    env, text = started(monkeypatch, capsys)
    assert env["PUBLIC_URL"] == "https://voice.example.com"
    assert (env["TWILIO_ACCOUNT_SID"], env["TWILIO_AUTH_TOKEN"]) == ("AC1", "token")
    assert env["ALLOW_UNSIGNED"] == "off"
    assert "https://voice.example.com/twilio/voice" in text
    assert "with Twilio's signature" in text
    assert "simulated, follows a script and calls" in text
    assert "token" not in text


def test_twilio_without_an_address_is_refused_before_anything_starts(home, monkeypatch):
    (home / ".env").write_text("OPENAI_API_KEY=sk-x\nTWILIO_AUTH_TOKEN=token\n")
    with pytest.raises(ConfigError, match="PUBLIC_URL is not set"):
        run.main([])


def test_with_a_model_key_alone_only_this_machine_can_call(home, monkeypatch):
    (home / ".env").write_text("OPENAI_API_KEY=sk-x\n")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(os, "execv", lambda *_: sys.exit(0))
    with pytest.raises(SystemExit):
        run.main([])
    assert (os.environ["ALLOW_UNSIGNED"], os.environ["GATEWAY_HOST"]) == ("on", "127.0.0.1")


def test_the_block_names_agent_and_settings(home, monkeypatch, capsys):
    (home / ".env").write_text("AGENT_FILE=agent.toml\nSIMULATED_MODEL=parrot\n")
    text = started(monkeypatch, capsys)[1]
    assert "  agent       agent.toml\n" in text
    assert f"  settings    {home}/.env\n" in text
    assert "repeats what you say" in text
