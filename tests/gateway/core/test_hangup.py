"""The table of what an event does to a call, as a whole."""

from __future__ import annotations

import pytest

from gateway.core.hangup import TABLE, Act, Close, Event, Stage
from gateway.core.metrics import ENDS


def test_every_event_does_something_to_a_call_that_talks_unless_it_is_about_a_goodbye():
    nothing = {event for event in Event if (Stage.TALKING, event) not in TABLE}
    assert nothing == {Event.GOODBYE_HEARD, Event.GOODBYE_SILENT}


def test_a_call_that_leaves_needs_neither_a_worker_nor_txpacer():
    nothing = {event for event in Event if (Stage.LEAVING, event) not in TABLE}
    assert nothing == {Event.WORKER_GONE, Event.WORKER_RESTARTED, Event.UNSERVED, Event.PACER_GONE}


@pytest.mark.parametrize("event", Event)
def test_nothing_happens_to_a_call_that_is_over(event):
    assert (Stage.OVER, event) not in TABLE


@pytest.mark.parametrize("key", TABLE)
def test_a_call_ends_with_a_reason_that_is_a_metrics_label_and_goes_on_without_one(key):
    following = TABLE[key]
    assert (following.reason in ENDS) == (following.stage is Stage.OVER)
    assert following.stage is Stage.OVER or following.close is Close.PEER


@pytest.mark.parametrize("event", Event)
def test_an_order_or_a_fallback_is_kept_whenever_a_call_is_hung_up_on_for_it(event):
    """No caller is left with a closed socket and nothing to follow, unless the gateway itself ends."""
    following = TABLE.get((Stage.TALKING, event))
    if following is not None and following.reason == "hung-up":
        assert following.act is Act.FALL_BACK or event in (Event.TOKEN_REFUSED, Event.DRAINED)
