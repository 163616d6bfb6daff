"""Only the newest story of a call waits for callbook, and a restarted callbook gets all of them again."""

from __future__ import annotations

from gateway.core.commands import KeepStory as LiveStory
from gateway.core.kept_stories import ENDED_NS, KeptStories
from shared.messages import CallClosed, KeepStory
from shared.plan import Dial, HangUp

S = 1_000_000_000
LIVE = LiveStory("CA1", b"one", 5)


def drained(kept: KeptStories) -> list[KeepStory | CallClosed]:
    taken = []
    while (message := kept.next()) is not None:
        kept.given(message)
        taken.append(message)
    return taken


def test_a_slow_callbook_gets_only_the_newest_story_of_each_call() -> None:
    kept = KeptStories()
    for number in range(100):
        kept.changed("CA1", b"%d" % number, 5)
        kept.changed("CA2", b"other", 5)
    assert len(kept) == 2
    assert drained(kept) == [KeepStory("CA1", b"99", 5), KeepStory("CA2", b"other", 5)]


def test_a_story_that_changed_while_the_former_one_was_sent_still_waits() -> None:
    kept = KeptStories()
    kept.changed("CA1", b"one", 5)
    sent = kept.next()
    assert sent is not None
    kept.changed("CA1", b"two", 5)
    kept.given(sent)
    assert kept.next() == KeepStory("CA1", b"two", 5)


def test_the_end_of_a_call_replaces_its_story() -> None:
    kept = KeptStories()
    kept.changed("CA1", b"one", 5)
    kept.closed("CA1", HangUp(), b"one", 5, 0)
    assert drained(kept) == [CallClosed("CA1", HangUp(), b"", 5)]


def test_a_restarted_callbook_gets_live_stories_and_the_ends_of_the_last_minute() -> None:
    kept = KeptStories()
    kept.closed("CAold", HangUp(), b"one", 5, 0)
    kept.closed("CAnew", HangUp(), b"", 5, ENDED_NS)
    drained(kept)
    kept.met(7, [LIVE], ENDED_NS + S)
    assert drained(kept) == [CallClosed("CAnew", HangUp(), b"", 5), KeepStory("CA1", b"one", 5)]
    kept.met(7, [LIVE], ENDED_NS + 2 * S)
    assert drained(kept) == []
    kept.met(8, [LIVE], 3 * ENDED_NS)
    assert drained(kept) == [KeepStory("CA1", b"one", 5)]


def test_what_changed_before_a_restarted_callbook_answers_is_newer_than_the_stories_that_it_lost() -> None:
    kept = KeptStories()
    kept.changed("CA1", b"two", 5)
    kept.met(7, [LIVE], 0)
    assert drained(kept) == [KeepStory("CA1", b"two", 5)]


def test_a_caller_who_may_come_back_from_a_dial_leaves_the_story_which_is_told_once() -> None:
    kept = KeptStories()
    kept.closed("CA1", Dial("+15005550006"), b"last", 5, 0)
    assert drained(kept) == [CallClosed("CA1", Dial("+15005550006"), b"last", 5)]
    kept.met(7, [], S)
    assert drained(kept) == []
