"""Facts become rows: each once, in any order, on both databases."""

from __future__ import annotations

import itertools
import random

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from callbook import models
from callbook.core.prices import Prices
from callbook.queries import BadCursorError, Wanted, page, whole
from callbook.records import Records
from shared.facts import (
    CallStatus,
    ConversationBegan,
    ConversationEnded,
    DialBegan,
    DialEnded,
    Hesitation,
    Interruption,
    ModelUsage,
    Noted,
    RecordingMove,
    RecordingStatus,
    StreamBegan,
    StreamEnded,
    StreamPath,
    Turn,
)

T0 = 1_790_000_000_000
SID = "CA" + "1" * 32


def facts_of(sid=SID, t0=T0):
    stream = "MZ" + sid[2:]
    return [
        StreamBegan(sid, stream, "AC1", "+15005550006", "+15005550001", False, t0, t0 + 300),
        ConversationBegan(sid, stream, "gpt-realtime-2.1", True, False, t0 + 310),
        RecordingMove(sid, "started", "RE1" + sid, 1, "", t0 + 500),
        Turn(sid, "item_1", 1, "ai", t0 + 300, t0 + 2_000, "Hello there", "Hello", 1_700, 900, True),
        Interruption(sid, t0 + 1_000, 120, False, True),
        Interruption(sid, t0 + 1_800, 0, False, True, t0 + 1_400, t0 + 1_460, 180),
        Hesitation(sid, t0 + 1_500, "unconfirmed", 240),
        Turn(sid, "item_2", 2, "caller", t0 + 1_000, t0 + 1_500, "", "", 0, 0, False),
        Turn(sid, "item_2", 2, "caller", t0 + 1_000, t0 + 1_500, "Wait\0", "Wait\0", 0, 0, False),
        StreamEnded(sid, stream, t0 + 9_000, "stop", 400, 21_500, 0, 1),
        ModelUsage(sid, 7, "gpt-realtime-2.1", 2, 100, 200, 0, 50, 300, t0 + 9_001),
        ConversationEnded(sid, stream, "stop", 0, 0, t0 + 9_002),
        CallStatus(sid, "AC1", "+15005550006", "+15005550001", "completed", 9, t0 + 9_500),
        CallStatus(sid, "AC1", "", "", "in-progress", -1, t0 + 9_600),
        RecordingStatus(sid, "RE1" + sid, "completed", 8, 2, "", t0 + 20_000),
    ]


def noted(facts, source=1):
    return [Noted(source, seq, fact) for seq, fact in enumerate(facts, 1)]


def write(engine, records, batch):
    with Session(engine) as session, session.begin():
        return records.write(session, batch)


def read(engine, sid=SID):
    with Session(engine) as session:
        return whole(session, sid)


def count(engine, table):
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(table))


def test_a_call_is_read_back_whole(engine, records):
    write(engine, records, noted(facts_of()))
    call = read(engine)
    assert (call["from_number"], call["end_reason"], call["status"], call["duration_s"]) == (
        "+15005550006",
        "stop",
        "completed",
        9,
    )
    assert [(t["role"], t["heard_text"], t["interrupted"]) for t in call["turns"]] == [
        ("ai", "Hello", True),
        ("caller", "Wait", False),
    ]
    assert call["recording"]["state"] == "completed"
    assert call["recording"]["duration_s"] == 8
    assert call["transmission"] == {
        "streams": 1,
        "frames": 400,
        "wire_gap_max_ms": 21.5,
        "stalls": 0,
        "late_frames": 1,
        "ear_gaps": 0,
        "ear_gap_ms": 0,
    }
    first, second = call["interruptions"]
    assert (first["silent_ms"], first["onset_at"], first["stopped_ms"]) == (120, None, None)
    assert (second["onset_at"], second["stopped_ms"]) == ("2026-09-21T14:13:21.400Z", 180)
    assert call["hesitations"] == [{"at": "2026-09-21T14:13:21.500Z", "kind": "unconfirmed", "lasted_ms": 240}]
    assert call["usage"][0]["audio_out"] == 300
    assert call["began_at"] == "2026-09-21T14:13:20.000Z"


def test_attempts_to_connect_the_caller_are_read_back_with_how_they_went(engine, records):
    began = DialBegan(SID, "+15550123", "+15005550006", T0 + 1_000)
    facts = [
        began,
        began,  # Twilio repeats a webhook whose answer it did not get
        DialEnded(SID, "failed", -1, False, T0 + 1_500),
        DialBegan(SID, "+15550123", "+15005550001", T0 + 1_501),
        DialEnded(SID, "completed", 7, True, T0 + 9_000),
    ]
    write(engine, records, noted(facts))
    first, second = read(engine)["dials"]
    assert (first["caller_id"], first["outcome"], first["duration_s"]) == ("+15005550006", "failed", None)
    assert (second["caller_id"], second["outcome"], second["duration_s"]) == ("+15005550001", "completed", 7)
    assert (first["caller_left"], second["caller_left"]) == (False, True)


def test_a_call_of_a_tool_is_read_back_with_arguments_answer_and_outcome(engine, records):
    tool = Turn(SID, "tool-1", 3, "tool", T0, T0 + 90, "Booked.", "Booked.", 0, 0, False, "book", '{"n":2}', "done")
    write(engine, records, noted([*facts_of(), tool]))
    turn = read(engine)["turns"][-1]
    assert (turn["role"], turn["tool"], turn["arguments"], turn["outcome"], turn["text"]) == (
        "tool",
        "book",
        '{"n":2}',
        "done",
        "Booked.",
    )


def test_the_webhook_of_a_call_that_was_passed_on_waits_for_its_end(engine):
    records = Records(prices=Prices(""), deliveries=True, cell="")
    stream = facts_of()[:-2]
    passed_on = [*stream, DialBegan(SID, "+15550123", "", T0 + 9_500)]

    def due_s(batch, source):
        write(engine, records, noted(batch, source))
        with Session(engine) as session:
            return session.get_one(models.Delivery, SID).due_at.timestamp() - T0 / 1000

    assert due_s(passed_on, 1) == 9.5 + 3_600
    assert due_s([DialEnded(SID, "completed", 50, True, T0 + 60_000)], 2) == 65
    assert read(engine)["ended_at"] == "2026-09-21T14:14:20.000Z"


def test_lead_and_path_are_read_back_in_order_and_an_hour_of_them_is_small(engine, records):
    minute = tuple((1_000 * n, 120 + n % 7 * 10, 40, 180 - n, n % 2 * 30) for n in range(60))
    hour = [StreamPath(SID, "MZ1", T0 + 60_000 * n, minute) for n in range(60)]
    batch = noted([*facts_of(), *reversed(hour)])
    write(engine, records, batch)
    write(engine, records, noted(hour, source=2))
    path = read(engine)["path"]
    assert len(path) == 3_600
    assert path[61] == {
        "at": "2026-09-21T14:14:21.000Z",
        "lead_ms": 130,
        "least_ms": 40,
        "delay_ms": 179,
        "gap_ms": 30,
    }
    with Session(engine) as session:
        assert sum(map(len, session.scalars(select(models.PathSamples.samples)))) < 100_000


def test_a_fact_that_is_delivered_twice_is_written_once(engine, records):
    batch = noted(facts_of())
    assert write(engine, records, batch) == len(batch)
    before = read(engine)
    assert write(engine, records, batch) == 0
    assert write(engine, records, batch[3:] + batch) == 0
    assert read(engine) == before


def test_every_split_into_batches_writes_the_same_rows(engine, records):
    facts = facts_of()
    rng = random.Random(5)
    for number in range(8):
        sid = f"CA{number:032d}"
        batch = noted(facts_of(sid), source=100 + number)
        at = 0
        while at < len(batch):
            size = rng.randint(1, 4)
            # The batch before comes again, as after a crash between its commit and its acknowledgement.
            write(engine, records, batch[max(0, at - 2) : at + size])
            at += size
        assert len(read(engine, sid)["turns"]) == 2
    assert len(facts) == 15


def test_facts_of_two_processes_may_come_in_any_order(engine, records):
    facts = facts_of()
    gateway = [f for f in facts if isinstance(f, StreamBegan | StreamEnded | CallStatus | RecordingStatus)]
    bridge = [f for f in facts if f not in gateway]
    write(engine, records, noted(bridge, source=2))
    write(engine, records, noted(gateway, source=3))
    call = read(engine)
    assert call["began_at"] == "2026-09-21T14:13:20.000Z"
    assert (call["status"], call["recording"]["state"]) == ("completed", "completed")


def test_a_lost_stream_and_its_successor_are_one_call_and_one_webhook(engine):
    records = Records(prices=Prices(""), deliveries=True, cell="c")
    lost = StreamEnded(SID, "MZ1", T0 + 5_000, "lost", 10, 0, 0, 0)
    again = StreamBegan(SID, "MZ2", "AC1", "+1", "+2", True, T0 + 6_000, T0 + 6_200)
    ended = StreamEnded(SID, "MZ2", T0 + 9_000, "stop", 20, 0, 0, 0)
    write(engine, records, noted([StreamBegan(SID, "MZ1", "AC1", "+1", "+2", False, T0, T0 + 1), lost]))
    assert count(engine, models.Delivery) == 1
    write(engine, records, noted([again], source=2))
    assert count(engine, models.Delivery) == 0
    assert read(engine)["ended_at"] is None
    write(engine, records, noted([ended], source=3))
    assert count(engine, models.Delivery) == 1
    call = read(engine)
    assert (call["transmission"]["streams"], call["transmission"]["frames"], call["end_reason"]) == (2, 30, "stop")


def test_a_recording_that_was_not_requested_here_is_ignored(engine, records):
    write(engine, records, noted(facts_of()[:3]))
    other = RecordingStatus(SID, "RE-other", "completed", 3, 1, "", T0)
    write(engine, records, noted([other], source=9))
    assert read(engine)["recording"]["state"] == "started"


def test_a_call_that_was_handed_off_names_who_answered_and_lists_everyone_who_spoke(engine, records):
    def used(conversation, model, agent, responses, at):
        return ModelUsage(SID, conversation, model, responses, 0, 0, 0, 0, responses, T0 + at, agent)

    facts = [
        ConversationBegan(SID, "MZ1", "large", False, False, T0, "sales"),
        used(7, "large", "sales", 2, 100),
        used(8, "small", "office", 0, 100),
        # The worker of the second agent fails; its successor tells of its own conversation.
        ConversationBegan(SID, "MZ1", "small", False, False, T0 + 200, "office"),
        used(9, "small", "office", 1, 300),
    ]
    write(engine, records, noted(facts))
    call = read(engine)
    assert (call["agent"], call["model"]) == ("sales", "large")
    spoke = [(each["agent"], each["model"], each["responses"]) for each in call["usage"]]
    assert spoke == [("sales", "large", 2), ("office", "small", 0), ("office", "small", 1)]
    with Session(engine) as session:
        assert page(session, limit=2, wanted=Wanted(words="offi"))[0]


def test_the_cost_is_written_when_prices_are_set(engine):
    prices = Prices("text_in=4,audio_in=32,cached_in=0.4,text_out=16,audio_out=64")
    records = Records(prices=prices, deliveries=False, cell="c")
    write(engine, records, noted([ModelUsage(SID, 1, "m", 1, 1_000, 1_000, 1_000, 1_000, 1_000, T0)]))
    # Half of each input was cached: 500 * 4 + 500 * 32 + 1000 * 0.4 + 1000 * 16 + 1000 * 64, in millionths.
    assert read(engine)["usage"][0]["cost_usd"] == pytest.approx(0.0984)


def test_the_pages_cover_every_call_once_newest_first(engine, records):
    sids = [f"CA{number:032d}" for number in range(7)]
    # Pairs that began in the same millisecond.
    batches = [facts_of(sid, T0 + 1_000 * (number // 2))[:1] for number, sid in enumerate(sids)]
    write(engine, records, noted(list(itertools.chain.from_iterable(batches))))
    seen, before = [], ""
    with Session(engine) as session:
        while True:
            calls, before = page(session, limit=2, before=before)
            seen += [call["call_sid"] for call in calls]
            if not before:
                break
        with pytest.raises(BadCursorError):
            page(session, limit=2, before="nonsense")
    assert seen == sids[::-1]


@pytest.mark.parametrize(
    ("latency", "expected"),
    [
        ((), None),
        (
            (-1, 540, 350, 4, 0),
            {"carrier_ms": None, "detection_ms": 540, "model_ms": 350, "line_ms": 4, "network_ms": 0},
        ),
    ],
)
def test_an_answer_shows_what_the_caller_waited_for_and_other_turns_show_nothing(engine, records, latency, expected):
    fact = Turn(SID, "ai-1", 1, "ai", T0, T0 + 90, "Hi.", "Hi.", 90, 90, False, latency_ms=latency)
    write(engine, records, [Noted(1, 1, fact)])
    assert read(engine)["turns"][-1]["latency"] == expected


@pytest.fixture
def cells():
    """The records of two cells that share the database."""
    return [Records(prices=Prices(""), cell=name, name=name) for name in ("a", "b")]


def stream_of(number, began_ms, ended_ms, reason):
    stream = f"MZ{number}"
    return [
        StreamBegan(SID, stream, "AC1", "+1", "+2", number > 1, began_ms, began_ms + 300),
        StreamEnded(SID, stream, ended_ms, reason, 400, 0, 0, 0),
    ]


def test_a_late_lost_from_another_cell_ends_its_stream_and_not_the_call_that_went_on(engine, cells):
    began, lost = stream_of(1, T0, T0 + 40_000, "lost")
    again, stopped = stream_of(2, T0 + 10_000, T0 + 30_000, "stop")
    write(engine, cells[0], [Noted(1, 1, began)])
    write(engine, cells[1], [Noted(2, 1, again)])
    write(engine, cells[0], [Noted(1, 2, lost)])
    call = read(engine)
    assert (call["ended_at"], call["end_reason"], call["cell"]) == (None, "", "b")
    assert [(each["cell"], each["end_reason"]) for each in call["streams"]] == [("a", "lost"), ("b", "")]
    write(engine, cells[1], [Noted(2, 2, stopped)])
    call = read(engine)
    assert (call["ended_at"], call["end_reason"]) == ("2026-09-21T14:13:50.000Z", "stop")


def tool_turn(ended_ms, outcome, text):
    return Turn(SID, "tool-1", 2, "tool", T0 + 6_000, ended_ms, text, text, 0, 0, False, "book", "{}", outcome)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_cell_that_was_cut_off_replaces_nothing_that_the_cell_which_went_on_has_written(engine, cells, order):
    began, lost = stream_of(1, T0, T0 + 40_000, "lost")
    again, _ = stream_of(2, T0 + 10_000, T0 + 30_000, "stop")
    write(engine, cells[0], [Noted(1, 1, began)])
    write(engine, cells[1], [Noted(2, 1, again)])
    # It spoke on to nobody, and its tool answered.
    cut_off = [
        Turn(SID, "ai-1", 1, "ai", T0, T0 + 9_000, "Hi there.", "Hi there.", 9_000, 9_000, False),
        tool_turn(T0 + 12_000, "done", "booked"),
        Turn(SID, "ai-3", 3, "ai", T0 + 12_000, T0 + 14_000, "Hello?", "Hello?", 2_000, 2_000, False),
        lost,
    ]
    went_on = [
        Turn(SID, "ai-1", 1, "ai", T0, T0 + 8_000, "Hi there.", "Hi", 9_000, 8_000, True),
        tool_turn(T0 + 10_000, "unknown", "lost"),
    ]
    facts = [noted([began, *cut_off], 1)[1:], noted([again, *went_on], 2)[1:]]
    for number in order:
        write(engine, cells[number], facts[number])
    turns = {turn["item_id"]: (turn["heard_text"], turn["outcome"]) for turn in read(engine)["turns"]}
    assert turns == {"ai-1": ("Hi", ""), "tool-1": ("lost", "unknown")}


def test_a_late_version_of_a_turn_that_ended_before_its_cell_was_cut_off_counts(engine, cells):
    began, _ = stream_of(1, T0, T0 + 40_000, "lost")
    again, _ = stream_of(2, T0 + 10_000, T0 + 30_000, "stop")
    write(engine, cells[0], [Noted(1, 1, began), Noted(1, 2, tool_turn(0, "", ""))])
    write(engine, cells[1], [Noted(2, 1, again)])
    write(engine, cells[0], [Noted(1, 3, tool_turn(T0 + 3_000, "done", "booked"))])
    assert [turn["outcome"] for turn in read(engine)["turns"]] == ["done"]


def test_the_facts_of_two_cells_give_the_same_call_in_any_order(engine, cells):
    facts = {
        0: [Noted(1, seq, fact) for seq, fact in enumerate(stream_of(1, T0, T0 + 40_000, "lost"), 1)],
        1: [Noted(2, seq, fact) for seq, fact in enumerate(stream_of(2, T0 + 10_000, T0 + 30_000, "stop"), 1)],
    }
    seen = []
    for order in ((0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0)):
        with Session(engine) as session, session.begin():
            for table in (models.Call, models.Source):
                session.execute(table.__table__.delete())
        at = [0, 0]
        for cell in order:
            write(engine, cells[cell], [facts[cell][at[cell]]])
            at[cell] += 1
        seen.append(read(engine))
    assert seen[0]["cell"] == "b"
    assert all(call == seen[0] for call in seen)
