"""The behaviours that a simulated model can be given."""

from __future__ import annotations

import pytest

from simulator.model.behaviour import Behaviour


def test_a_behaviour_is_read_from_json_and_a_wrong_one_is_named() -> None:
    behaviour = Behaviour.from_json('{"speed": 3, "responses": [{"preamble": true}]}')
    assert (behaviour.speed, behaviour.preamble) == (3, False)
    assert (behaviour.for_response(0).preamble, behaviour.for_response(0).speed) == (True, 3)
    assert behaviour.for_response(1) is behaviour
    for text, complaint in (
        ('{"sped": 3}', "sped"),
        ("[]", "object"),
        ('{"speed": "3"}', "speed"),
        ("{", "Expecting"),
        ('{"speed": 0}', "speed"),
    ):
        with pytest.raises(ValueError, match=complaint):
            Behaviour.from_json(text)
