"""The model port: numbers of ours, and abilities that choose the statechart."""

from __future__ import annotations

from aibridge.models.port import Numbers
from aibridge.models.realtime.translator import ABILITIES


def test_each_kind_of_number_rises_by_itself() -> None:
    numbers = Numbers()
    drawn = [numbers.next_utterance(), numbers.next_utterance(), numbers.next_response(), numbers.next_turn()]
    assert drawn == [1, 2, 1, 1]
    assert numbers.next_tool_call() == 1


def test_the_realtime_model_takes_turns_and_can_be_cancelled_cut_and_told() -> None:
    assert ABILITIES.kind == "half_duplex"
    assert ABILITIES.turns
    assert ABILITIES.cancel
    assert ABILITIES.truncate
    assert ABILITIES.tell_history
    assert not ABILITIES.continuous_output
