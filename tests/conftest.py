"""Which tests `make test` leaves to `make prove`: the long proofs with real processes, minutes in all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
SLOW: Final = frozenset(
    {
        "deploy/test_alerts_live.py",
        "callbook/test_live.py",
        "callbook/test_process.py",
        "live/test_failures.py",
        "live/test_hostile.py",
        "live/test_interruptions.py",
        "live/test_soak.py",
        "live/test_stalls.py",
        "phone/test_phone_page.py",
        "phone/test_watched_calls.py",
    }
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright keeps an event loop running in this thread from its first test on: nothing may come after it.
    items.sort(key=lambda item: item.path.is_relative_to(HERE / "phone"))
    for item in items:
        if item.path.relative_to(HERE).as_posix() in SLOW:
            item.add_marker(pytest.mark.slow)
