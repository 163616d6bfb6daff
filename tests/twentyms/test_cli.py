"""The command `twentyms`: help for every verb, and one line for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from twentyms import cli

ROOT = Path(__file__).resolve().parents[2]


def said(*arguments: str, cwd: Path = ROOT) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `twentyms ARGUMENTS`."""
    command = [sys.executable, "-m", "twentyms", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["twentyms", *arguments, "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.dispatch()
    assert not ended.value.code
    return capsys.readouterr().out


def test_help_names_every_verb(monkeypatch, capsys):
    text = help_of(monkeypatch, capsys)
    assert all(f"\n  {verb} " in text for verb in cli.VERBS)


@pytest.mark.parametrize("verb", [*cli.VERBS, "simulate carrier", "simulate model"])
def test_every_verb_explains_itself_in_sentences(verb, monkeypatch, capsys):
    text = help_of(monkeypatch, capsys, *verb.split())
    assert text.startswith(f"usage: twentyms {verb}")
    assert len(text) > 200
    assert "python -m" not in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("docter",), "twentyms: unknown verb docter, did you mean doctor?; see twentyms --help"),
        (("xyz",), "twentyms: unknown verb xyz; see twentyms --help"),
        (("calls", "--jsn"), "twentyms calls: unknown argument --jsn, did you mean --json?; see twentyms calls --help"),
        (("phone", "x"), "twentyms phone: unknown argument x; see twentyms phone --help"),
        (
            ("simulate", "carier"),
            "twentyms simulate: there is no carier to simulate, did you mean carrier?; see twentyms simulate --help",
        ),
        (
            ("simulate", "network"),
            "twentyms simulate: network is either proxy or tun; see twentyms simulate network --help",
        ),
        (
            ("simulate", "carrier", "--url", "x"),
            "twentyms simulate carrier: --url x is not an http:// or https:// URL;"
            " see twentyms simulate carrier --help",
        ),
    ],
)
def test_a_wrong_word_is_answered_in_one_line_with_the_nearest_right_one(arguments, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twentyms", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.dispatch()
    assert (ended.value.code, *capsys.readouterr()) == (2, "", line + "\n")


def test_a_reader_that_has_seen_enough_is_not_answered_with_a_traceback(tmp_path):
    command = f"{sys.executable} -u -m twentyms --help 2>{tmp_path}/err | head -1"
    subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, check=True, timeout=30)
    assert (tmp_path / "err").read_text() == ""


def test_the_command_starts_without_settings_and_from_any_directory(tmp_path):
    status, out, _ = said("--help", cwd=tmp_path)
    assert (status, out.splitlines()[0]) == (0, "usage: twentyms VERB [...]")
    assert said("docter", cwd=tmp_path)[0] == 2


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twentyms", "--version"])
    with pytest.raises(SystemExit):
        cli.dispatch()
    assert capsys.readouterr().out == f"twentyms {metadata.version('twentyms')}\n"
