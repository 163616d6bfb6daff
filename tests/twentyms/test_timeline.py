"""`twentyms timeline`: one call as a picture."""

from __future__ import annotations

from twentyms.timeline import draw


def test_the_timeline_is_a_png(tmp_path):
    at = "2026-01-02T03:04:{:06.3f}Z".format
    turn = {"text": "one two", "heard_text": "one", "interrupted": True, "spoken_ms": 4_000, "heard_ms": 2_000}
    call = {
        "began_at": at(5),
        "ended_at": at(20),
        "from_number": "",
        "to_number": "+1555",
        "transmission": {"ear_gaps": 1},
        "turns": [
            {**turn, "role": "ai", "began_at": at(6), "ended_at": at(8)},
            {**turn, "role": "caller", "began_at": at(7.9), "ended_at": at(9)},
            {**turn, "role": "ai", "began_at": at(10), "ended_at": None},
            {**turn, "role": "ai", "began_at": None, "ended_at": None},
        ],
        "interruptions": [{"at": at(7.9), "silent_ms": 120}],
        "streams": [{"first_frame_at": at(5.3), "ended_at": at(20), "end_reason": "lost", "ear_gaps": 1}],
    }
    draw(call, tmp_path / "call.png")
    assert (tmp_path / "call.png").read_bytes().startswith(b"\x89PNG")
