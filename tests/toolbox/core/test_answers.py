"""The memory of answers, and how a long one is cut."""

from __future__ import annotations

from shared.messages import ToolAnswered
from toolbox.core.answers import Answers, cut


def answered(call_id: str, output: str = "") -> ToolAnswered:
    return ToolAnswered("CA1", call_id, "done", output)


def test_a_short_answer_is_whole_and_a_long_one_says_how_much_is_missing() -> None:
    assert cut("twelve chars", 12) == "twelve chars"
    assert cut("x" * 13, 12) == "x" * 12 + "\n[cut: the answer has 13 characters, and 12 are shown]"


def test_the_oldest_answers_are_forgotten_by_number_and_their_calls_are_not() -> None:
    answers = Answers(answers_max=2)
    for call_id in "abc":
        answers.keep(answered(call_id, call_id))
    kept = {call_id: answers.find(("CA1", call_id)) for call_id in "abcd"}
    assert {call_id: answer and answer.outcome for call_id, answer in kept.items()} == {
        "a": "unknown",
        "b": "done",
        "c": "done",
        "d": None,
    }


def test_the_text_of_all_answers_is_bounded() -> None:
    answers = Answers(chars_max=100)
    for number in range(50):
        answers.keep(answered(str(number), "x" * 40))
    whole = [number for number in range(50) if (found := answers.find(("CA1", str(number)))) and found.output[0] == "x"]
    assert whole == [48, 49]


def test_the_keys_of_forgotten_answers_are_bounded() -> None:
    answers = Answers(answers_max=1, keys_max=3)
    for number in range(10):
        answers.keep(answered(str(number)))
    assert [number for number in range(10) if answers.find(("CA1", str(number)))] == [6, 7, 8, 9]
