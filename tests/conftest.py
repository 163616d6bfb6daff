"""The order of the tests, their examples, and a fixture for several folders.

A test of minutes is marked `slow` in its file: `make prove` runs it, `make test` not.
Examples that hypothesis finds are the same in every run of `make test`; `make prove` looks for new ones.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

HERE: Final = Path(__file__).parent

# The files that take longest. They come first: one that came last would run alone, after all the others.
LONGEST: Final = frozenset(
    HERE / name
    for name in (
        *("live/test_startup.py", "gateway/test_hostile.py", "callbook/test_database.py", "txpacer/core/test_pacer.py"),
        *("proofs/cell/test_nemesis.py", "conformance/test_websocket.py", "txpacer/core/test_far_ear.py"),
    )
)

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright keeps an event loop running in this thread from its first test on: its tests come last.
    items.sort(key=lambda item: (item.path.is_relative_to(HERE / "phone"), item.path not in LONGEST))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory for sockets, whose paths may have 107 bytes at most: `tmp_path` can be too long."""
    path = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
