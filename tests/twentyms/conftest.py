"""A directory of its own for each verb, without the settings of the user who runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import NAMES


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the verb, with an empty `.env`."""
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / ".env").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path
