"""`twentyms timeline`: one call as a picture."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib import pyplot as plt

from twentyms.timeline import draw

AT = "2026-01-02T03:04:{:06.3f}Z".format
TURN = {
    "text": "one two",
    "heard_text": "one",
    "interrupted": True,
    "spoken_ms": 4_000,
    "heard_ms": 2_000,
    "latency": None,
}
PARTS = {"carrier_ms": None, "detection_ms": 540, "model_ms": 400, "line_ms": 3, "network_ms": 37}
CALL = {
    "began_at": AT(5),
    "ended_at": AT(20),
    "from_number": "",
    "to_number": "+1555",
    "transmission": {"ear_gaps": 1},
    "turns": [
        {**TURN, "role": "ai", "began_at": AT(6), "ended_at": AT(8)},
        {**TURN, "role": "caller", "began_at": AT(7.9), "ended_at": AT(9)},
        {**TURN, "role": "ai", "began_at": AT(10), "ended_at": None},
        {**TURN, "role": "ai", "began_at": None, "ended_at": None},
    ],
    "interruptions": [
        {"at": AT(7.9), "silent_ms": 120, "onset_at": None, "paused_at": None, "stopped_ms": None},
        {"at": AT(8.4), "silent_ms": 0, "onset_at": AT(8.0), "paused_at": AT(8.1), "stopped_ms": 190},
    ],
    "hesitations": [
        {"at": AT(3.1), "kind": "unconfirmed", "lasted_ms": 240},
        {"at": AT(4.1), "kind": "echo", "lasted_ms": 0},
    ],
    "streams": [{"first_frame_at": AT(5.3), "ended_at": AT(20), "end_reason": "lost", "ear_gaps": 1}],
    "usage": [{"agent": "sales"}, {"agent": "office"}],
    "dials": [
        {"to": "+15550123", "began_at": AT(12), "ended_at": AT(13), "outcome": "failed", "caller_left": False},
        {"to": "+15550123", "began_at": AT(13), "ended_at": None, "outcome": "", "caller_left": False},
    ],
    "path": [],
}


def test_the_timeline_is_a_png(tmp_path):
    draw(CALL, tmp_path / "call.png")
    assert (tmp_path / "call.png").read_bytes().startswith(b"\x89PNG")


def test_the_wait_for_an_answer_is_drawn_before_it_in_pieces_and_in_words_where_they_fit(tmp_path, monkeypatch):
    mpl.use("Agg")
    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    answers = [
        {**TURN, "role": "ai", "began_at": AT(began), "ended_at": AT(began + 1), "latency": PARTS} for began in (10, 12)
    ]
    draw(CALL | {"turns": answers}, tmp_path / "call.png")
    monkeypatch.undo()
    axes = drawn[0].axes[0]
    pieces = sorted(round(bar.get_x(), 3) for bar in axes.patches if round(bar.get_height(), 3) == 0.05)
    assert pieces[:5] == [4.02, 4.02, 4.56, 4.96, 4.963]
    text = "answered after 980 ms: detection 540, model 400, line 3, network 37"
    waits = [each.get_text() for each in axes.texts if "980 ms" in each.get_text()]
    # The first one has no room beside the second.
    assert waits == [text, "980 ms"]
    plt.close("all")


def test_lead_and_path_delay_are_drawn_over_time_with_the_gaps_that_were_heard(tmp_path, monkeypatch):
    mpl.use("Agg")
    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    samples = [(6, 120, 40, 0, 0), (9, 180, 38, 260, 80), (12, 170, 38, 0, 0)]
    names = ("lead_ms", "least_ms", "delay_ms", "gap_ms")
    path = [{"at": AT(at), **dict(zip(names, rest, strict=True))} for at, *rest in samples]
    draw(CALL | {"path": path}, tmp_path / "call.png")
    monkeypatch.undo()
    below = drawn[0].axes[1]
    (lead,) = (line for line in below.lines if line.get_label() == "lead")
    assert [tuple(point) for point in lead.get_xydata()] == [(1, 120), (4, 180), (7, 170), (15.5, 170)]
    assert [text.get_text().strip() for text in below.texts] == ["80 ms gap"]
    assert below.get_title(loc="right") == "least round trip 38 ms"
    plt.close("all")
