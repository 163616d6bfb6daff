"""What the model has learnt about each response."""

from __future__ import annotations

import pytest

from aibridge.core.responses import KEEP_RESPONSES, Responses, Truth, TruthEvent
from aibridge.metrics import DEFINITIONS
from shared.metrics import Page


@pytest.fixture
def responses() -> Responses:
    return Responses(Page.in_memory(DEFINITIONS).counter("aibridge_illegal_events"))


def test_the_response_that_the_model_makes_is_the_active_one_until_it_ends(responses: Responses) -> None:
    response = responses.add(1, "answer")
    assert responses.active is response
    responses.end(response, (3,))
    assert responses.active is None
    assert response.cut_short == {3}
    assert response.truth.state is Truth.MADE


def test_a_recording_is_text_for_the_model_and_never_active(responses: Responses) -> None:
    recording = responses.add(1, "greeting", Truth.TOLD)
    assert responses.active is None
    assert not recording.is_making


def test_an_interrupted_response_is_cut_when_it_has_ended(responses: Responses) -> None:
    response = responses.add(1, "answer")
    response.truth.step(TruthEvent.INTERRUPTED)
    assert not response.reaches_line
    assert not response.is_cut
    responses.end(response, ())
    assert response.is_cut


def test_the_loss_of_the_session_turns_every_response_into_text(responses: Responses) -> None:
    made, cut, making = (responses.add(number, "answer") for number in (1, 2, 3))
    responses.end(made, ())
    cut.truth.step(TruthEvent.INTERRUPTED)
    responses.lose()
    assert [each.truth.state for each in (made, cut, making)] == [Truth.TOLD, Truth.TOLD_CUT, Truth.TOLD]
    assert responses.active is None


def test_old_responses_are_forgotten(responses: Responses) -> None:
    for number in range(2 * KEEP_RESPONSES):
        responses.add(number, "answer")
    assert responses.get(0) is None
    assert responses.get(2 * KEEP_RESPONSES - 1) is not None
