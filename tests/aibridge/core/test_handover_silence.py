"""The silence that a caller hears when a call goes on at another worker, media socket, gateway or cell."""

from __future__ import annotations

import pytest

from aibridge.core import other_cell
from aibridge.models.port import CallerSilent, CallerSpeaks, ResponseBegan, ResponseEnded, Speech
from shared.messages import CloseLine

from .call_line_cell import MS, SPEECH, Cell, talking
from .fake_shell import FakeModel


def making(ms: int = 1_000) -> Cell:
    """A call in mid-answer. The model has made `ms` of the answer so far."""
    cell = Cell()
    cell.says(ms * 8)
    cell.run(500)
    return cell


# The gateway's next tick.
TICK_MS = 10


def continues(cell: Cell) -> None:
    """The successor's session goes on with the sentence."""
    cell.event(ResponseBegan(2))
    cell.event(Speech(2, 5_000, SPEECH[:8_000]))
    cell.event(ResponseEnded(2))
    cell.run(1_000)


def goes_to_another_cell(cell: Cell, *, after_ms: int) -> None:
    """The cell is lost at once; another one begins the call `after_ms` later, with its story."""
    cell.call.tell_memory()
    left_ms = cell.now_ns // MS
    cell.said[:] = [CloseLine(cell.number)]
    cell.deliver()
    cell.now_ns += after_ms * MS
    cell.number += 1
    cell.call, cell.model = cell.worker(), FakeModel()
    memory = other_cell.continued(cell.memory, left_ms)
    cell.call.resume(cell.model, memory, 0, former="cell", noted_ms=left_ms)
    cell.run(100)


def counted(cell: Cell) -> dict[str, list[int]]:
    return {former: observed.ms for former, observed in cell.silences.items() if observed.ms}


def test_a_call_without_a_hand_over_counts_no_silence() -> None:
    cell = talking()
    cell.run(9_000)
    assert not counted(cell)


def test_a_lost_media_socket_costs_the_time_until_the_next_one_plays() -> None:
    cell = talking()
    cell.now_ns += 1_500 * MS
    cell.socket_dies()
    cell.run(500)
    assert counted(cell) == {"socket": [1_500 + TICK_MS]}


def test_a_call_that_goes_on_at_another_gateway_is_counted_as_one_of_a_gateway() -> None:
    cell = talking()
    cell.now_ns += 2_000 * MS
    cell.call.move(cell.number, "another", epoch=cell.epoch)
    cell.run(500)
    assert counted(cell) == {"gateway": [2_000]}


def test_a_worker_that_dies_after_the_line_has_the_whole_answer_costs_no_silence() -> None:
    cell = talking()
    cell.worker_dies()
    cell.run(9_000)
    assert counted(cell) == {"worker": [0]}


def test_a_worker_that_dies_in_mid_answer_costs_the_time_from_what_the_line_had_to_what_its_successor_says() -> None:
    cell = making(1_000)
    cell.worker_dies()
    cell.run(1_500)
    continues(cell)
    assert counted(cell) == {"worker": [1_000]}


def test_a_successor_that_speaks_before_the_line_has_run_dry_costs_no_silence() -> None:
    cell = making(2_000)
    cell.worker_dies()
    cell.run(500)
    continues(cell)
    assert counted(cell) == {"worker": [0]}


def test_a_lost_cell_costs_the_time_from_its_last_sign_of_life_to_the_first_word_here() -> None:
    cell = talking()
    goes_to_another_cell(cell, after_ms=1_900)
    continues(cell)
    assert counted(cell) == {"cell": [2_000]}


def test_a_cell_that_is_lost_while_the_ai_is_silent_costs_no_silence() -> None:
    cell = talking()
    cell.run(9_000)
    goes_to_another_cell(cell, after_ms=1_900)
    continues(cell)
    assert not counted(cell)


def test_a_cell_that_is_lost_while_the_caller_speaks_costs_no_silence() -> None:
    cell = talking()
    cell.event(CallerSpeaks(1))
    cell.run(500)
    goes_to_another_cell(cell, after_ms=1_900)
    cell.event(CallerSilent(1, 0))
    continues(cell)
    assert not counted(cell)


def test_a_caller_who_speaks_first_ends_the_silence() -> None:
    cell = talking()
    goes_to_another_cell(cell, after_ms=900)
    cell.event(CallerSpeaks(2))
    cell.run(3_000)
    continues(cell)
    assert counted(cell) == {"cell": [1_000]}


def test_a_caller_who_hangs_up_in_the_silence_has_heard_it_to_then() -> None:
    cell = talking()
    goes_to_another_cell(cell, after_ms=4_000)
    cell.call.close()
    assert counted(cell) == {"cell": [4_100]}


@pytest.mark.parametrize("lost", ["socket", "cell"])
def test_a_second_loss_in_the_same_silence_prolongs_it(lost: str) -> None:
    cell = talking()
    goes_to_another_cell(cell, after_ms=1_900)
    if lost == "socket":
        cell.now_ns += 1_000 * MS
        cell.socket_dies()
    else:
        goes_to_another_cell(cell, after_ms=900)
    continues(cell)
    assert counted(cell) == {"cell": [3_000 + (TICK_MS if lost == "socket" else 0)]}
