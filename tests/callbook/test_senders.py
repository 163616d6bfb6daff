from __future__ import annotations

from callbook.core.senders import Senders
from shared.liveness import FACTS_SILENT_S, ns


def test_a_sender_is_live_until_it_leaves_or_is_silent():
    senders = Senders()
    senders.heard("gateway-0-1", 11, 0)
    senders.heard("aibridge-0", 22, 0)
    senders.heard("aibridge-1", 33, 0)
    assert senders.sources() == {11, 22, 33}
    senders.left("aibridge-0")
    senders.left("nobody")
    senders.heard("gateway-0-1", 11, ns(FACTS_SILENT_S))
    assert senders.silent(ns(FACTS_SILENT_S) + 1) == ["aibridge-1"]
    assert senders.sources() == {11}


def test_a_restarted_sender_takes_the_place_of_its_predecessor():
    senders = Senders()
    senders.heard("aibridge-0", 22, 0)
    senders.heard("aibridge-0", 23, 1)
    assert senders.sources() == {23}
