"""The order of the tests. A test of minutes is marked `slow` in its file: `make prove` runs it, `make test` not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright keeps an event loop running in this thread from its first test on: its tests come last.
    items.sort(key=lambda item: item.path.is_relative_to(HERE / "phone"))
