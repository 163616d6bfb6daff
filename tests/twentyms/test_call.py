"""`twentyms call`: what it says before a call can begin."""

from __future__ import annotations

import pytest

from shared.process import ConfigError
from twentyms import call
from twentyms.stack import free_port


def test_a_port_without_a_gateway_is_reported_in_one_line(home, monkeypatch, capsys):
    port = free_port()
    monkeypatch.setenv("GATEWAY_PORT", str(port))
    with pytest.raises(ConfigError, match=rf"nobody listens on port {port} of this machine; start twentyms first"):
        call.main([])
    assert capsys.readouterr().out == ""
