"""The facts for callbook, and when they are sent: none of a call before its first frame."""

from __future__ import annotations

from gateway.core.chronicle import CALLBACKS_MAX, Chronicle
from gateway.core.tokens import LIFE_NS
from shared.facts import CallStatus, RecordingStatus, StreamBegan, StreamEnded
from shared.plan import CallPlan

SID = "CA" + "1" * 32


class Noting:
    """A chronicle whose facts are kept in `noted`."""

    def __init__(self, noted):
        self._chronicle, self._noted = Chronicle(), noted

    def __getattr__(self, name):
        return lambda *args, **kwargs: self._noted.extend(getattr(self._chronicle, name)(*args, **kwargs) or ())


def chronicle():
    noted = []
    return Noting(noted), noted


def expect(it, sid=SID, now_ns=0):
    it.expect(sid, now_ns)


def began(it, stream="MZ1", started_ms=10):
    it.stream_began(SID, stream, CallPlan("inbound", "AC1", "+1", "+2"), resumed=False, started_ms=started_ms)


def status(it, word, sid=SID, now_ns=0):
    it.callback("status", {"CallSid": sid, "CallStatus": word, "CallDuration": "9"}, 5, now_ns)


def ended(sid=SID, stream="MZ1"):
    return StreamEnded(sid, stream, 90, "stop", 10, 0, 0, 0)


def kinds(noted):
    return [type(fact) for fact in noted]


def test_no_fact_of_a_call_is_sent_before_its_first_frame():
    it, noted = chronicle()
    expect(it)
    status(it, "ringing")
    began(it)
    status(it, "in-progress")
    assert noted == []
    it.first_frame(SID, 20)
    assert noted[0] == StreamBegan(SID, "MZ1", "AC1", "+1", "+2", False, 10, 20)
    assert [fact.status for fact in noted[1:]] == ["ringing", "in-progress"]
    status(it, "completed")
    it.stream_ended(ended())
    assert kinds(noted)[3:] == [CallStatus, StreamEnded]


def test_a_record_has_the_numbers_of_a_call_whose_webhook_another_gateway_answered():
    it, noted = chronicle()
    began(it)
    it.first_frame(SID, 20)
    assert noted == [StreamBegan(SID, "MZ1", "AC1", "+1", "+2", False, 10, 20)]


def test_the_facts_of_a_call_without_a_frame_are_sent_at_its_end():
    it, noted = chronicle()
    expect(it)
    began(it)
    it.stream_ended(ended())
    assert kinds(noted) == [StreamBegan, StreamEnded]
    assert noted[0].first_frame_ms == 0


def test_the_end_of_a_lost_stream_does_not_release_the_facts_of_its_successor():
    it, noted = chronicle()
    expect(it)
    began(it)
    began(it, "MZ2", 20)
    it.stream_ended(ended(stream="MZ1"))
    assert kinds(noted) == [StreamEnded]
    it.first_frame(SID, 30)
    assert noted[1].stream_sid == "MZ2"


def test_the_facts_of_a_call_whose_socket_never_comes_are_sent_after_a_while():
    it, noted = chronicle()
    expect(it)
    status(it, "ringing")
    expect(it, "CA2", LIFE_NS + 1)
    assert kinds(noted) == [CallStatus]
    expect(it, "CA3", LIFE_NS + 2)
    status(it, "canceled", "CA3", LIFE_NS + 3)
    assert noted[-1].status == "canceled"


def test_waiting_facts_are_bounded_and_a_long_call_does_not_delay_the_facts_of_others():
    it, noted = chronicle()
    expect(it)
    began(it)
    for _ in range(3 * CALLBACKS_MAX):
        status(it, "in-progress")
    for number in range(5):
        expect(it, f"CA{number}", number * LIFE_NS)
    it.first_frame(SID, 20)
    assert len(noted) == 1 + CALLBACKS_MAX


def test_callbacks_without_news_are_ignored():
    it, noted = chronicle()
    it.callback("status", {"CallSid": "../../x", "CallStatus": "completed"}, 1, 1)
    it.callback("status", {"CallSid": SID, "StreamEvent": "stream-started"}, 1, 1)
    it.callback("recording", {"CallSid": SID, "RecordingStatus": "completed"}, 1, 1)
    assert noted == []
    fields = {"CallSid": SID, "RecordingSid": "RE1", "RecordingStatus": "completed", "RecordingDuration": "x" * 99}
    it.callback("recording", fields, 1, 1)
    assert noted == [RecordingStatus(SID, "RE1", "completed", -1, 0, "", 1)]
