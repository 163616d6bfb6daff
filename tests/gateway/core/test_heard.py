from __future__ import annotations

from gateway.core.heard import MARKS_KEPT, Heard


def test_frames_are_counted_from_mark_to_mark():
    heard = Heard()
    assert heard.frames_since_mark(3) == 3
    heard.mark_sent(1, 3)
    heard.mark_sent(2, 10)
    assert list(heard.marks) == [(1, 3), (2, 7)]
    assert heard.frames_since_mark(14) == 4


def test_the_last_marks_are_kept():
    heard = Heard()
    for utterance in range(1, MARKS_KEPT + 3):
        heard.mark_sent(utterance, utterance)
    assert [utterance for utterance, _ in heard.marks] == list(range(3, MARKS_KEPT + 3))


def test_an_echo_counts_in_its_generation_and_never_backwards():
    heard = Heard()
    heard.echoed(0, 2)
    heard.echoed(0, 1)
    assert heard.utterance == 2
    heard.clear_sent()
    assert (heard.generation, heard.utterance) == (1, 0)
    heard.echoed(0, 3)  # thrown away by the clear
    assert heard.utterance == 0
    heard.echoed(1, 3)
    assert heard.utterance == 3
