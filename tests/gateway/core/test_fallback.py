from __future__ import annotations

from gateway.core.fallback import Absence


def test_what_is_missing_for_longer_than_the_patience_is_missing_too_long():
    absence = Absence(2)
    assert [absence.swept(is_missing=True) for _ in range(4)] == [False, False, True, True]


def test_patience_begins_again_when_it_is_there():
    absence = Absence(2)
    assert [absence.swept(is_missing=missing) for missing in (True, True, False, True, True)] == [False] * 5
