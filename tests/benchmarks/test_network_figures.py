"""The rows of `make bench-network`: stalls in time, tables for readers, paths with a name."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from benchmarks.network_callers import match_by_audio
from benchmarks.network_figures import Row, Stalls, quantile
from benchmarks.network_paths import ALL, USUAL
from benchmarks.network_report import draw, tables, write_json

MS = 1_000_000


@pytest.mark.parametrize(
    ("at_ms", "since_ms"),
    [(100, None), (8_399, None), (8_400, 0), (9_500, 1_100), (16_100, 7_700), (16_400, 0)],
)
def test_the_time_since_the_last_stall_is_known_from_the_end_of_the_first_one(at_ms, since_ms):
    stalls = Stalls(0, every_ns=8_000 * MS, long_ns=400 * MS)
    since_ns = stalls.since_end_ns(at_ms * MS)
    assert since_ns == (None if since_ms is None else since_ms * MS)


def test_nine_of_ten_are_below_the_ninth_decile():
    assert quantile(range(1, 11), 0.9) == 9
    assert quantile([], 0.5) == 0


def test_every_usual_path_and_each_that_the_issue_asks_for_has_a_name():
    assert set(USUAL) <= set(ALL)
    assert {path.round_trip_ms for path in ALL.values()} == {20, 60, 120, 200}
    assert {path.loss for path in ALL.values() if path.burst_packets == 1} == {0, 0.005, 0.01, 0.02}
    assert {path.stall_ms for path in ALL.values()} == {0, 150, 400, 1_000}


@pytest.fixture
def rows() -> list[Row]:
    good = Row("adaptive-180", "60ms-loss1", 10, speech_s=175.0, silences=[100.0, 120.0], counted_gap_ms=0.0)
    bad = Row(
        "fixed-120", "60ms-loss1", 10, speech_s=170.0, gaps=[20.0, 126.4], history_errors=[0, 41], path_late_ms=51
    )
    return [bad, good]


def test_the_tables_have_a_line_for_each_path_and_a_column_for_each_system(rows):
    text = tables(rows)
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if "Gaps at the ear" in line)
    assert lines[at + 2] == "| path       | lead 120 ms  | lead adaptive to 180 ms |"
    assert lines[at + 4] == "| 60 ms, 1 % | 146 (2, 126) | 0                       |"
    assert "VOID" in text, "the bench says when its own programs were late"
    assert "second or more after a stall" not in text, "a table without a figure is left out"


def test_json_and_picture_hold_the_same_rows(rows, tmp_path):
    write_json(rows, tmp_path / "rows.json", command="x")
    assert [row["gap_ms"] for row in json.loads((tmp_path / "rows.json").read_text())["rows"]] == [146.4, 0]
    draw(rows, tmp_path / "rows.svg")
    assert "60 ms, 1 %" in "".join(ET.parse(tmp_path / "rows.svg").getroot().itertext())


def test_a_peers_session_is_the_one_whose_speech_was_heard_first():
    first, second = ({"items": [{"audio": b""}, {"audio": bytes([n]) * 400}]} for n in (1, 2))
    assert match_by_audio(b"\2" * 320, [first, second]) == [second]
    assert match_by_audio(b"", [first, second]) == []
