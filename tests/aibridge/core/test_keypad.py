"""The caller's keys: when an entry is complete, what it interrupts, and who learns of it."""

from __future__ import annotations

import pytest

from aibridge.core.commands import CallTool, EndCall, TellStory, WithdrawSpeech
from aibridge.core.keypad import ENTRY_MAX, KeypadRules
from aibridge.core.rules import Line, Rules, Script
from aibridge.core.silence import Patience
from aibridge.core.story import LineMemory, decode, encode
from aibridge.core.successor import successor, tell
from aibridge.core.tools import ToolRule
from aibridge.models.port import Ask, Cancel, Tell, TellingTaken, Truncate
from tests.aibridge.bench import MS, T0, Bench

RULES = {"look": ToolRule(10_000 * MS)}


def bench(script: Script | None = None, patience: Patience | None = None, **keypad: object) -> Bench:
    rules = Rules(keypad=KeypadRules(**keypad), patience=patience or Patience())  # type: ignore[arg-type]
    return Bench(rules=rules, script=script, tools=RULES)


def press(own: Bench, keys: str, pause_ms: float = 100) -> None:
    for key in keys:
        own.wait(pause_ms)
        own.done += own.talk.key(key, own.ns, own.ns)


def told(own: Bench) -> list[str]:
    return [each.text.removeprefix("(The caller pressed on the phone's keypad: ")[:-1] for each in own.all(Tell)]


def asked(own: Bench) -> list[str]:
    own.wait(150)
    return [ask.purpose for ask in own.all(Ask)]


def test_an_entry_ends_when_no_key_follows_in_time() -> None:
    own = bench()
    press(own, "12", 1_900)
    own.wait(1_800)
    assert told(own) == asked(own) == []
    own.wait(100)
    assert told(own) == ["12"]
    assert asked(own) == ["answer"]


def test_an_entry_ends_with_its_terminator_which_is_not_part_of_it() -> None:
    own = bench()
    press(own, "12#34#")
    assert told(own) == ["12", "34"]


def test_a_terminator_alone_is_an_entry() -> None:
    own = bench()
    press(own, "#")
    assert told(own) == ["#"]


def test_an_entry_ends_when_it_is_long_enough() -> None:
    own = bench(length=4, terminator="")
    press(own, "12#45678")
    assert told(own) == ["12#4", "5678"]


def test_an_entry_has_a_bound() -> None:
    own = bench()
    press(own, "1" * (ENTRY_MAX + 1))
    assert told(own) == ["1" * ENTRY_MAX]


def test_nothing_is_requested_while_keys_come_in() -> None:
    own = bench()
    own.speaks()
    own.stops()
    own.began()
    own.calls("look")
    own.ended()
    press(own, "1")
    own.tool_answers()
    assert asked(own) == []
    own.wait(2_000)
    assert told(own) == ["1"]
    assert asked(own) == ["answer"]


def test_an_entry_during_a_response_is_answered_after_it_and_stops_nothing() -> None:
    own = bench()
    own.speaks()
    own.stops()
    own.began()
    own.speech(1_000)
    press(own, "5#")
    assert told(own) == ["5"]
    assert asked(own) == []
    own.ended()
    assert asked(own) == ["answer"]
    assert not own.all(Cancel)
    assert not own.all(WithdrawSpeech)


def test_an_entry_that_crosses_a_response_of_the_models_own_is_answered_after_it() -> None:
    own = bench()
    own.speaks()
    own.stops()
    press(own, "5#")
    own.began()
    own.speech(1_000)
    own.ended()
    assert asked(own) == ["answer"]


def test_an_entry_that_the_model_has_before_its_own_response_is_answered_by_that() -> None:
    own = bench()
    own.speaks()
    press(own, "5#")
    (entry,) = own.all(Tell)
    own.event(TellingTaken(entry.number))
    own.stops()
    own.began()
    own.speech(1_000)
    own.ended()
    assert asked(own) == []


def test_an_entry_during_a_request_that_the_model_refuses_as_busy_is_answered_though_no_response_shows() -> None:
    own = bench()
    press(own, "1#")
    assert asked(own) == ["answer"]
    press(own, "2#")
    own.fault("busy", own.all(Ask)[0].request)
    assert asked(own) == ["answer", "answer"]


def test_a_key_interrupts_once_and_the_model_learns_what_was_heard() -> None:
    own = bench(interrupts=True)
    own.speaks()
    own.stops()
    own.began()
    own.speech(5_000)
    own.ear()
    press(own, "12#")
    assert len(own.all(Cancel)) == 1
    assert len(own.all(WithdrawSpeech)) == 1
    own.withdrawn(1, (1, 420))
    own.ended(outcome="cancelled")
    assert own.all(Truncate) == [Truncate(1, 420)]
    assert told(own) == ["12"]
    assert asked(own) == ["answer"]
    assert own.count("bridge_interruptions") == 1


GREETING = Script(greeting=Line("Hello.", bytes(8 * 2_000)))


@pytest.mark.parametrize(("keys", "interruptions"), [("1", 1), ("1#", 0)])
def test_a_key_over_a_protected_greeting_interrupts_after_it_unless_the_entry_is_complete(
    keys: str, interruptions: int
) -> None:
    own = bench(GREETING, interrupts=True)
    own.ear()
    press(own, keys)
    assert own.count("bridge_protected_interruptions") == 1
    assert not own.all(WithdrawSpeech)
    own.wait(500)
    assert len(own.all(WithdrawSpeech)) == interruptions


def test_keys_that_interrupt_nothing_leave_a_greeting_alone() -> None:
    own = bench(GREETING)
    own.ear()
    press(own, "1")
    own.wait(500)
    assert not own.all(WithdrawSpeech)


def test_secret_keys_go_to_tools_alone() -> None:
    own = bench(secret=True)
    press(own, "4071#")
    assert told(own) == ["4 secret keys"]
    own.wait(150)
    own.began(1, "answer")
    own.calls("look")
    (call,) = own.all(CallTool)
    assert call.digits == "4071"
    assert "4071" not in repr((own.done, own.talk.history))


def test_an_entry_that_began_as_secret_stays_so_with_an_agent_who_asks_for_none() -> None:
    own = bench(secret=True)
    press(own, "40")
    own.talk.keypad.rules = KeypadRules()
    press(own, "71#")
    press(own, "5#")
    assert told(own) == ["4 secret keys", "5"]


def test_pressing_keys_is_not_silence() -> None:
    own = bench(patience=Patience(silence_ns=3_000 * MS, nudges=0))
    press(own, "1234", 1_500)
    assert not own.all(Ask)
    assert not own.all(EndCall)


def test_an_entry_without_a_session_is_told_to_the_next_one_once() -> None:
    own = bench()
    own.lost()
    press(own, "77#")
    assert told(own) == []
    own.wait(100)
    own.ready()
    assert told(own) == ["77"]
    assert asked(own) == ["answer"]
    own.lost()
    own.wait(500)
    own.ready()
    assert told(own) == ["77", "77"], "each session is told once"


@pytest.mark.parametrize("again", ["", "34", "345"])
def test_a_successor_goes_on_with_an_entry_and_drops_keys_that_come_again(again: str) -> None:
    own = bench(secret=True)
    press(own, "34")
    assert isinstance(own.done[-1], TellStory), "each key is told to the gateway at once"
    story, line = decode(encode(*tell(own.talk, 0)))
    heir = Bench(rules=own.talk.rules, tools=RULES, start=False)
    heir.now = own.now
    heir.done += successor(heir.talk, story, line, [], heir.ns, 0)
    heir.ready()
    for number, key in enumerate(again, 1):
        at_ns = T0 + number * 100 * MS
        heir.done += heir.talk.key(key, at_ns, max(at_ns, heir.ns))
    heir.wait(2_200)
    keys = max("34", again)
    assert told(heir) == [f"{len(keys)} secret keys"]
    assert heir.talk.keypad.entered == keys


def test_a_successor_hands_a_tool_the_entry_of_its_predecessor() -> None:
    own = bench(secret=True)
    press(own, "34#")
    story, line = tell(own.talk, 0)
    heir = Bench(rules=own.talk.rules, tools=RULES, start=False)
    heir.done += successor(heir.talk, story, LineMemory(last_turn=line.last_turn), [], heir.ns, 0)
    heir.ready()
    assert asked(heir) == ["answer"]
    heir.began(1, "answer")
    heir.calls("look")
    assert heir.all(CallTool)[-1].digits == "34"
