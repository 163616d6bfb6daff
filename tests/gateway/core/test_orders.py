from __future__ import annotations

from xml.etree import ElementTree

import pytest

from gateway.core.orders import Orders, dial_end
from shared.plan import CallOrder, Conference, Dial, Fallback, HangUp, Reject

ORIGIN = "https://voice.example.com"
BACK = f"{ORIGIN}/twilio/voice?resume=1&worker=3&after=order"


def rendered(order: CallOrder, say: str = "", dial: str = "", worker: int | None = 3) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(Orders(ORIGIN, say, dial).twiml(order, worker)))


@pytest.mark.parametrize(
    ("say", "dial", "verbs"),
    [
        ("Sorry", "", ["Say", "Hangup"]),
        ("Sorry", "+15550100", ["Say", "Dial"]),
        ("", "+15550100", ["Dial"]),
        ("", "", ["Reject"]),
    ],
)
def test_the_fallback_speaks_dials_or_rejects(say, dial, verbs):
    assert [verb.tag for verb in rendered(Fallback(), say, dial)] == verbs


def test_a_hang_up_ends_the_call():
    assert [verb.tag for verb in rendered(HangUp())] == ["Hangup"]


def test_a_dial_rings_the_number_for_its_time_and_comes_back_to_the_agent():
    (dial,) = rendered(Dial("+15550100", "+15550001", 20))
    assert dial.attrib == {"timeout": "20", "callerId": "+15550001", "action": BACK, "method": "POST"}
    assert [(noun.tag, noun.text) for noun in dial] == [("Number", "+15550100")]


def test_a_dial_without_a_caller_id_leaves_the_choice_to_the_carrier():
    (dial,) = rendered(Dial("+15550100"))
    assert dial.attrib == {"timeout": "30", "action": BACK, "method": "POST"}


@pytest.mark.parametrize("address", ["sip:desk@example.com", "sips:desk@example.com?a=b&c=d"])
def test_a_dial_reaches_a_sip_address(address):
    (dial,) = rendered(Dial(address))
    assert [(noun.tag, noun.text) for noun in dial] == [("Sip", address)]


def test_a_conference_is_entered_by_name_and_the_call_comes_back_to_the_agent():
    (dial,) = rendered(Conference("room <1>"))
    assert (dial.tag, dial.attrib) == ("Dial", {"action": BACK, "method": "POST"})
    assert [(noun.tag, noun.text) for noun in dial] == [("Conference", "room <1>")]


def test_an_order_comes_back_without_a_worker_where_none_is_known():
    (dial,) = rendered(Conference("room"), worker=None)
    assert dial.attrib["action"] == f"{ORIGIN}/twilio/voice?resume=1&after=order"


@pytest.mark.parametrize("order", [Dial("+15550100"), Conference("room")])
def test_a_call_that_had_no_conversation_comes_back_to_begin_one(order):
    (dial,) = ElementTree.fromstring(Orders(ORIGIN, "", "").twiml(order, None, is_new=True))
    assert dial.attrib["action"] == f"{ORIGIN}/twilio/voice?resume=1"


@pytest.mark.parametrize("reason", ["rejected", "busy"])
def test_a_rejected_call_is_not_answered(reason):
    (reject,) = rendered(Reject(reason))
    assert (reject.tag, reject.attrib) == ("Reject", {"reason": reason})


@pytest.mark.parametrize(("status", "end"), [("busy", "busy"), ("", "over"), ("x.1", "over")])
def test_twilio_says_how_an_order_ended_and_other_words_are_not_repeated(status, end):
    assert dial_end({"after": "order"}, {"DialCallStatus": status}) == end
    assert dial_end({}, {"DialCallStatus": status}) == ""
