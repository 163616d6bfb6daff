"""Every figure of the judge, on calls in virtual time: that it is clean for a clean call, and that it can fail."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from proofs.judge import judge
from proofs.verdict import Verdict
from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS, SILENCE
from simulator.carrier.call import CallRecord, CarrierWarning, Lag, StreamRecord
from simulator.carrier.ear import Ear

MS = 1_000_000
START = 1_000_000 * MS
LEAD_MS = 120


def speech(ms: float, seed: int) -> bytes:
    """Audio of which every frame is unique, as the model server's is."""
    return random.Random(seed).randbytes(int(ms * 8))


class Line:
    """A call that a faultless system carries, unless a test does harm to it. Times in ms since `start`."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.items: list[dict[str, Any]] = []
        self.responses: list[dict[str, Any]] = []
        self.speech: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.warnings: list[CarrierWarning] = []
        self.lags: list[Lag] = []
        self.streams: list[StreamRecord] = []

    def item(self, ms: float, *, created_ms: float = 0, response: str = "", status: str = "completed") -> bytes:
        number = len(self.items) + 1
        audio = speech(ms, number)
        response_id = response or f"resp_{number}"
        if not any(each["id"] == response_id for each in self.responses):
            created_ns = START + int(created_ms * MS)
            self.responses.append(
                {"id": response_id, "status": status, "cancels": 0, "created_ns": created_ns, "done_ns": created_ns + 1}
            )
        self.items.append(
            {
                "item_id": f"item_{number}",
                "response_id": response_id,
                "content_index": 0,
                "phase": None,
                "role": "assistant",
                "audio_b64": b64encode(audio).decode(),
                "sent_bytes": len(audio),
                "held_ms": len(audio) // 8,
                "deleted": False,
                "truncated_ms": None,
                "status": status,
                "transcript": "",
            }
        )
        return audio

    def hold(self, number: int, ms: int) -> None:
        """What the conversation holds of an item after a truncate, or (0) a delete."""
        self.items[number - 1] |= {"held_ms": ms, "truncated_ms": ms or None, "deleted": ms == 0}

    def pace(
        self, audio: bytes, at_ms: float, harm: Callable[[list[bytes]], list[bytes]] | None = None, late_ms: float = 0
    ) -> float:
        """Send whole frames, the lead ahead; the second half `late_ms` late. Returns when the ear has played it, ms."""
        frames = [audio[at : at + FRAME_BYTES].ljust(FRAME_BYTES, SILENCE) for at in range(0, len(audio), FRAME_BYTES)]
        for n, frame in enumerate(harm(frames) if harm else frames):
            due_ms = at_ms + max(0, n * 20 - LEAD_MS) + (late_ms if n * 2 >= len(frames) else 0)
            self.ear.media(frame, START + int(due_ms * MS))
        return at_ms + len(frames) * 20

    def speak(self, from_ms: float, to_ms: float | None) -> None:
        stopped = None if to_ms is None else START + int(to_ms * MS)
        self.speech.append({"started_ns": START + int(from_ms * MS), "stopped_ns": stopped, "item_id": "user"})

    def lose(self, at_ms: float) -> None:
        """The socket is gone; what follows is of the next one."""
        at_ns = START + int(at_ms * MS)
        self.ear.close(at_ns)
        self.streams.append(StreamRecord(f"MZ0{len(self.streams)}", START, at_ns, "lost", {}))

    def verdict(self, end_ms: float = 20_000) -> Verdict:
        end_ns = START + int(end_ms * MS)
        self.ear.close(end_ns)
        record = CallRecord(
            call_sid="CA1",
            started_ns=START,
            ended_ns=end_ns,
            streams=(*self.streams, StreamRecord("MZ1", START, end_ns, "caller", {})),
            ear=self.ear.record(),
            said=(),
            keys=(),
            warnings=tuple(self.warnings),
            outcome="hung-up-by-caller",
            lags=tuple(self.lags),
        )
        session = {
            "request_id": "r",
            "items": self.items,
            "responses": self.responses,
            "events": [],
            "errors": self.errors,
            "speech": self.speech,
        }
        return judge(record, [session])


def test_a_whole_greeting_breaks_no_promise() -> None:
    line = Line()
    line.pace(line.item(3000), 200)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert verdict.first_audio_ms == 200
    assert verdict.speech_ms == 3000
    assert verdict.greeting is not None
    assert verdict.greeting.heard_ms == 3000


def test_a_short_last_frame_is_heard_to_its_end_and_its_fill_is_not_invented() -> None:
    line = Line()
    end = line.pace(line.item(1007), 200)
    line.pace(line.item(501.5, created_ms=100), end)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert verdict.speech_ms == 1508.5


def test_frames_of_any_grouping_and_unfilled_ends_are_recognised() -> None:
    line = Line()
    whole = line.item(1007) + line.item(503)
    at = 0
    rng = random.Random(3)
    while at < len(whole):
        size = rng.randint(1, 900)
        line.ear.media(whole[at : at + size], START)
        at += size
    assert line.verdict().problems() == []


def test_a_pause_in_the_middle_of_an_item_is_a_gap() -> None:
    line = Line()
    line.pace(line.item(3000), 200, late_ms=LEAD_MS + 45)
    verdict = line.verdict()
    assert [gap.ms for gap in verdict.gaps] == [45]
    assert len(verdict.problems()) == 1


def test_lateness_within_the_lead_is_a_wire_gap_and_no_gap_at_the_ear() -> None:
    line = Line()
    line.pace(line.item(3000), 200, late_ms=LEAD_MS)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert verdict.wire_gaps_100 == 1
    assert verdict.wire_gap_max_ms == LEAD_MS + 20


@pytest.mark.parametrize(
    ("harm", "figure", "n_bytes"),
    [
        (lambda frames: frames[:20] + frames[21:], "lost_bytes", 160),
        (lambda frames: frames[:21] + frames[20:], "doubled_bytes", 160),
        (lambda frames: [*frames[:20], frames[21], frames[20], *frames[22:]], "out_of_order_bytes", 160),
        (lambda frames: [*frames[:20], speech(20, 999), *frames[20:]], "invented_bytes", 160),
        (lambda frames: [*frames[:20], frames[20][:150] + frames[21], *frames[22:]], "lost_bytes", 160),
    ],
    ids=["lost", "doubled", "swapped", "foreign", "bytes lost inside a frame"],
)
def test_damage_is_counted_in_bytes(harm: Callable[[list[bytes]], list[bytes]], figure: str, n_bytes: int) -> None:
    line = Line()
    line.pace(line.item(1000), 200, harm)
    verdict = line.verdict()
    assert getattr(verdict, figure) == n_bytes
    assert verdict.problems()


def test_items_heard_in_the_wrong_order_are_out_of_order() -> None:
    line = Line()
    first, second = line.item(400), line.item(600)
    end = line.pace(second, 200)
    line.pace(first, end)
    assert line.verdict().out_of_order_bytes == 3200


def test_silence_sent_in_the_middle_of_an_item_is_a_gap() -> None:
    line = Line()
    line.pace(line.item(1000), 200, lambda frames: [*frames[:20], SILENCE * FRAME_BYTES, *frames[20:]])
    assert [gap.ms for gap in line.verdict().gaps] == [20]


def test_an_end_that_is_never_heard_without_an_interruption_is_a_cut() -> None:
    line = Line()
    line.pace(line.item(3000)[:16_000], 200)
    verdict = line.verdict()
    assert [cut.missing_bytes for cut in verdict.cuts] == [8000]
    assert any("cut off" in problem for problem in verdict.problems())


def test_an_item_never_heard_without_an_interruption_is_a_cut() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.item(500, created_ms=3000)
    assert [cut.item_id for cut in line.verdict().cuts] == ["item_2"]


def interrupted(*, tail_ms: float = LEAD_MS, held_ms: int = 0, item_ms: float = 6000) -> Line:
    """A 1 s greeting, an answer from 2000 on, a caller who speaks at 3000; the answer is heard until 3000 + tail."""
    line = Line()
    line.pace(line.item(1000), 200)
    answer = line.item(item_ms, created_ms=1900)
    heard_ms = 1000 + tail_ms
    line.pace(answer[: int(heard_ms * 8)], 2000)
    line.speak(3000, 4000)
    line.hold(2, held_ms or int(heard_ms))
    line.pace(line.item(500, created_ms=4001), 4300)
    return line


def test_an_interruption_that_ends_within_the_lead_leaves_nothing_over() -> None:
    verdict = interrupted().verdict()
    assert verdict.problems() == []
    assert [each.silence_ms for each in verdict.interruptions] == [120]
    assert verdict.response_ms == (300,)


def test_speech_beyond_the_lead_after_an_interruption_is_left_over() -> None:
    verdict = interrupted(tail_ms=260).verdict()
    (interruption,) = verdict.interruptions
    assert interruption.silence_ms == 260
    assert interruption.leftover_ms(170) == 90
    assert any("went on for 260 ms" in problem for problem in verdict.problems())


def test_what_was_queued_behind_the_interrupted_item_is_left_over_when_it_is_heard() -> None:
    line = Line()
    line.pace(line.item(2000, response="r"), 200)
    second = line.item(1000, response="r")
    line.speak(1500, 2500)
    line.hold(1, 2000)
    line.pace(second, 2200)
    verdict = line.verdict()
    assert verdict.interruptions[0].silence_ms == 1700
    assert verdict.leftover_ms(170) == 1530


def test_two_items_of_one_response_are_each_held_as_heard_after_an_interruption() -> None:
    line = Line()
    preamble = line.item(1000, response="r")
    answer = line.item(3000, response="r")
    end = line.pace(preamble, 200)
    line.pace(answer[: 620 * 8], end)
    line.speak(1700, 2300)
    line.hold(2, 620)
    third = line.item(800, response="r")
    line.hold(3, 0)
    assert third
    line.pace(line.item(400, created_ms=2301), 2600)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert [each.heard_ms for each in verdict.history] == [1000, 620, 0, 400]


def test_a_history_that_holds_more_than_was_heard_is_an_error() -> None:
    verdict = interrupted(held_ms=6000).verdict()
    assert verdict.history_error_ms == 6000 - 1120
    assert len(verdict.problems()) == 1


def test_an_unheard_item_that_stays_in_the_history_is_an_error() -> None:
    line = interrupted()
    line.items.insert(2, dict(line.items[1], item_id="item_x", audio_b64=b64encode(speech(700, 77)).decode()))
    line.items[2] |= {"held_ms": 700, "truncated_ms": None}
    assert line.verdict().history_error_ms == 700


def test_an_interruption_with_only_the_tail_left_needs_no_truncation() -> None:
    line = Line()
    line.pace(line.item(3000), 200)
    line.speak(3150, 3900)
    line.pace(line.item(500, created_ms=3901), 4100)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert [each.silence_ms for each in verdict.interruptions] == [50]


def test_speaking_while_the_ai_is_silent_is_no_interruption() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.speak(1300, 2000)
    line.pace(line.item(500, created_ms=2001), 2300)
    verdict = line.verdict()
    assert verdict.interruptions == ()
    assert verdict.response_ms == (300,)
    assert verdict.problems() == []


def test_a_caller_who_stops_within_the_protection_does_not_interrupt_the_greeting() -> None:
    line = Line()
    end = line.pace(line.item(3000), 200)
    line.speak(300, 600)
    line.pace(line.item(500, created_ms=end), end + 100)
    verdict = line.verdict()
    assert verdict.problems() == []
    assert [(each.is_protected, each.effective_ns) for each in verdict.interruptions] == [(True, None)]


def test_a_greeting_cut_for_a_caller_who_stopped_within_the_protection_is_a_cut() -> None:
    line = Line()
    line.pace(line.item(3000)[: 700 * 8], 200)
    line.hold(1, 700)
    line.speak(300, 600)
    assert [cut.item_id for cut in line.verdict(4000).cuts] == ["item_1"]


def test_a_caller_who_speaks_through_the_protection_interrupts_at_its_end() -> None:
    line = Line()
    line.pace(line.item(3000)[: 620 * 8], 200)
    line.hold(1, 620)
    line.speak(300, 1500)
    line.pace(line.item(500, created_ms=1501), 1800)
    verdict = line.verdict()
    (interruption,) = verdict.interruptions
    assert interruption.effective_ns == START + 700 * MS
    assert interruption.silence_ms == 120
    assert verdict.problems() == []


def test_an_interruption_inside_the_protection_is_a_breach() -> None:
    line = Line()
    line.pace(line.item(3000)[: 300 * 8], 200)
    line.hold(1, 300)
    line.speak(300, 1500)
    line.pace(line.item(500, created_ms=1501), 1800)
    verdict = line.verdict()
    assert verdict.greeting is not None
    assert verdict.greeting.is_breached
    assert len(verdict.problems()) == 1


def test_speech_that_the_end_of_the_call_cut_off_breaks_nothing() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.pace(line.item(6000, created_ms=1900), 2000)
    line.item(700, response="resp_2")
    verdict = line.verdict(end_ms=4000)
    assert verdict.problems() == []
    assert verdict.speech_ms == 3000


def test_speech_that_was_paced_but_not_played_when_the_call_ended_is_not_heard() -> None:
    line = Line()
    line.ear.media(line.item(3000), START)
    assert line.verdict(end_ms=1000).speech_ms == 1000


def test_a_clear_counts_what_it_cut_as_unheard() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    answer = line.item(6000, created_ms=1900)
    line.ear.media(answer, START + 2000 * MS)
    line.ear.clear(START + 3040 * MS)
    line.speak(3000, 4000)
    line.hold(2, 1040)
    line.pace(line.item(500, created_ms=4001), 4300)
    verdict = line.verdict()
    assert verdict.problems(barge_in="clear", lead_ms=400) == []
    assert verdict.interruptions[0].silence_ms == 40
    assert verdict.problems() == ["Twilio's buffer was flushed (`clear`): 1."]


def test_draining_after_an_interruption_is_a_fault_unless_it_was_asked_for() -> None:
    line = Line()
    line.pace(line.item(3000), 200)
    line.speak(1000, 1800)
    line.pace(line.item(500, created_ms=3300), 3400)
    verdict = line.verdict()
    assert verdict.problems()
    assert verdict.problems(barge_in="drain") == []


def test_an_interruption_long_after_a_cut_does_not_excuse_it() -> None:
    line = Line()
    line.pace(line.item(3000)[:8000], 200)
    line.speak(5000, 6000)
    assert len(line.verdict().cuts) == 1


def test_what_a_lost_socket_cut_off_is_due_on_the_next_one() -> None:
    def call() -> tuple[Line, bytes]:
        line = Line()
        audio = line.item(3000)
        line.pace(audio[: 1_040 * 8], 200)
        line.lose(1_240)
        return line, audio

    line, _ = call()
    verdict = line.verdict()
    assert [cut.missing_bytes for cut in verdict.cuts] == [1_960 * 8]
    assert [(each.held_ms, each.heard_ms) for each in verdict.history] == [(3000, 1040)]
    line, audio = call()
    line.pace(audio[1_040 * 8 :], 1_600)
    verdict = line.verdict()
    assert (verdict.cuts, verdict.history_error_ms, verdict.lost_bytes) == ((), 0, 0)
    assert [gap.ms for gap in verdict.gaps] == [360]


def test_an_answer_made_when_the_call_ends_need_not_be_heard_and_one_made_before_must() -> None:
    for before_ms, cuts in ((310, 0), (490, 0), (510, 1)):
        line = Line()
        line.pace(line.item(1000), 200)
        line.speak(2000, 3000)
        line.item(2000, created_ms=20_000 - before_ms)
        verdict = line.verdict()
        assert len(verdict.cuts) == cuts
        assert len(verdict.history) == 1 + cuts


def test_a_turn_without_an_answer_is_noticed() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.speak(2000, 3000)
    assert line.verdict().unanswered == 1
    assert line.verdict(end_ms=3500).unanswered == 0


def test_cancels_errors_warnings_and_the_carriers_own_lateness_are_problems() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.responses[0]["cancels"] = 2
    line.errors = [
        {"at_ns": 1, "code": "response_cancel_not_active", "message": ""},
        {"at_ns": 1, "code": "invalid_value", "message": ""},
    ]
    line.warnings = [CarrierWarning(31951, START, "extra field")]
    line.lags = [Lag(START, 80 * MS)]
    problems = "\n".join(line.verdict().problems())
    for part in ("80 ms late", "cancelled 2 times", "not_active", "invalid_value", "31951"):
        assert part in problems


def test_a_late_carrier_alone_is_no_problem() -> None:
    line = Line()
    line.pace(line.item(1000), 200)
    line.lags = [Lag(START, 80 * MS)]
    verdict = line.verdict()
    assert verdict.lag_max_ms == 80
    assert verdict.problems() == []


def test_a_call_without_any_speech_is_no_success() -> None:
    verdict = Line().verdict()
    assert verdict.problems() == ["The caller heard nothing."]
    assert verdict.lines()


def test_the_last_sample_counts_to_the_sample() -> None:
    line = Line()
    line.ear.media(line.item(1000), START)
    line.ear.close(START + 400 * FRAME_NS // 160 + 1)
    assert line.ear.record().heard_bytes[0] == 400 * FRAME_NS // 160 // BYTE_NS + 1
