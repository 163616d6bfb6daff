"""`twentyms phone`: the link on stdout, the remark on stderr."""

from __future__ import annotations

from twentyms import phone


def test_stdout_holds_only_the_link(home, monkeypatch, capsys):
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "token")
    assert phone.main([]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("http://localhost:8080/?key=")
    assert said.out.count("\n") == 1
    assert "can place calls" in said.err


def test_beside_a_simulated_model_the_link_is_the_open_page(home, capsys):
    assert phone.main([]) == 0
    assert capsys.readouterr().out == "http://localhost:8080/\n"
