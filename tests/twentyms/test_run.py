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
