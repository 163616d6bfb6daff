"""`twentyms calls`: which database it reads, and what it says when there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from callbook.database import migrate, open_engine, url_of
from shared.process import ConfigError
from shared.settings import load
from twentyms import calls, here, timeline


def make_database(home: Path) -> None:
    (home / "data").mkdir()
    engine = open_engine(url_of(load(home)))
    migrate(engine)
    engine.dispose()


def test_records_are_found_from_another_directory(home, tmp_path, monkeypatch, capsys):
    make_database(home)
    monkeypatch.setattr(here, "SOURCE", home)
    (home / "pyproject.toml").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert calls.main([]) == 0
    assert capsys.readouterr().out.startswith("began (UTC)")


@pytest.mark.parametrize("verb", [calls, timeline])
def test_a_database_that_does_not_exist_is_named_with_its_path(verb, home):
    where = re.escape(f"{home}/data/calls.db: callbook makes them at its first start")
    with pytest.raises(ConfigError, match=f"there are no records at {where}"):
        verb.main(["CA1"])


@pytest.mark.parametrize("verb", [calls, timeline])
def test_a_call_without_a_record_is_named(verb, home):
    make_database(home)
    with pytest.raises(ConfigError, match="there is no call CA1; `twentyms calls` lists them"):
        verb.main(["CA1"])
