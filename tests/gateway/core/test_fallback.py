from __future__ import annotations

import pytest

from gateway.core.fallback import AT_THE_WEBHOOK, IN_A_CALL, Absence, Caller, FallbackCause
from gateway.core.hangup import TABLE, Act, Close, Stage


def test_what_is_missing_for_longer_than_the_patience_is_missing_too_long():
    absence = Absence(2)
    assert [absence.swept(is_missing=True) for _ in range(4)] == [False, False, True, True]


def test_patience_begins_again_when_it_is_there():
    absence = Absence(2)
    assert [absence.swept(is_missing=missing) for missing in (True, True, False, True, True)] == [False] * 5


def test_every_cause_is_found_at_the_webhook_or_in_a_call_or_ordered_by_aibridge():
    assert {*AT_THE_WEBHOOK, *IN_A_CALL.values(), FallbackCause.GIVEN_UP} == set(FallbackCause)


@pytest.mark.parametrize("cause", [FallbackCause.FULL, FallbackCause.SOURCE])
def test_a_call_that_has_its_place_is_not_refused_for_want_of_places(cause):
    assert AT_THE_WEBHOOK[cause] == {Caller.NEW}


@pytest.mark.parametrize("event", IN_A_CALL)
def test_a_live_call_that_falls_back_is_closed_so_that_twilio_asks_again(event):
    following = TABLE[Stage.TALKING, event]
    assert (following.act, following.close) == (Act.FALL_BACK, Close.NORMAL)
