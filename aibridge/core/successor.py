"""A conversation continues in another worker: how its story is told, and the only way to make a successor.

The story has every region's state, under the name that REGIONS gives the region. A successor restores all states, books
the speech that the line still has, and then handles the loss of its predecessor's session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from shared.audio import BYTE_NS, FRAME_BYTES, FRAME_NS

from ..models.port import Purpose
from .barge_in import Floor
from .cancel_once import Making
from .chart import Chart
from .commands import Command, EndCall
from .conversation import Conversation
from .early_pause import NearEvent
from .greeting_protection import Opening
from .history import REPLAY_CHARACTERS, Turn
from .owed_and_retry import HEARS_AGAIN_NS, Owed, OwedEvent
from .playout import LineEvent, LineState
from .responses import Truth
from .story import LineMemory, Said, Story
from .utterances import Utterance

# A successor skips this many numbers, because the predecessor may have drawn more than its last story tells.
NUMBERS_AHEAD: Final = 1_000
_MS: Final = 1_000_000

REGIONS: Final[dict[str, Callable[[Conversation], Chart[Any, Any, Any]]]] = {
    "making": lambda talk: talk.making,
    "line": lambda talk: talk.playout.chart,
    "floor": lambda talk: talk.floor,
    "near": lambda talk: talk.near,
    "notice": lambda talk: talk.notice,
    "greeting": lambda talk: talk.greeting,
    "owed": lambda talk: talk.asking.chart,
    "goodbye": lambda talk: talk.goodbye,
    "silence": lambda talk: talk.silence,
    "reply": lambda talk: talk.tools.reply,
    "keys": lambda talk: talk.keypad.chart,
    "tones": lambda talk: talk.tones.chart,
}

# An utterance at txpacer: `(utterance, bytes, paced bytes, ended, ear_ns)`, and the bytes that are not paced.
InLine = tuple[tuple[int, int, int, bool, int], bytes]


def tell(talk: Conversation, epoch_ns: int, base: tuple[int, int] = (0, 0)) -> tuple[Story, LineMemory]:
    """What a successor needs to know. `epoch_ns` is the wall time, ns, at 0 of the monotonic clock."""
    active = talk.responses.active
    is_asked = talk.making.state in (Making.REQUESTED, Making.UNWANTED)
    story = Story(
        plan=talk.plan,
        began_ms=(talk.began_ns + epoch_ns) // _MS,
        agent=talk.agent,
        turns=tuple(_said(turn, epoch_ns) for turn in _last(talk.history.turns)),
        states={name: region(talk).state.name for name, region in REGIONS.items()},
        purpose=active.purpose if active is not None else talk.asking.requested if is_asked else "",
        has_spoken=active is not None and bool(active.utterances),
        order=talk.order,
        returned=talk.returned,
        pressed=talk.keypad.pressed,
        pressed_is_secret=talk.keypad.is_secret,
        entered=talk.keypad.entered,
    )
    purposes: dict[int, str] = {}
    for utterance in talk.utterances.open():
        response = talk.responses.get(utterance.response)
        purposes[utterance.number] = response.purpose if response is not None else "answer"
    return story, LineMemory(purposes, talk.utterances.last, talk.numbers.turn, base, talk.keypad.last_ns)


def _last(turns: list[Turn]) -> list[Turn]:
    """No more turns than a fresh session is told."""
    first, left = len(turns), REPLAY_CHARACTERS
    while first and (left := left - len(turns[first - 1].text)) >= 0:
        first -= 1
    return turns[first:]


def _said(turn: Turn, epoch_ns: int) -> Said:
    """Settled turns, all but the last one or two, are told as before: a story is told once a second."""
    if turn.told is None:
        said = _say(turn, epoch_ns)
        if turn.ended_ns is None:
            return said
        turn.told = said
    return turn.told


def _say(turn: Turn, epoch_ns: int) -> Said:
    text, speech = turn.text, turn.speech
    if speech is None:
        began_ns, ended_ns = turn.spoke_ns, turn.stopped_ns
    else:
        began_ns, ended_ns = speech.began_ns, speech.settled_ns
    began_ms = (began_ns + epoch_ns) // _MS if began_ns else 0
    ended_ms = (ended_ns + epoch_ns) // _MS if ended_ns else 0
    if turn.tool is not None:
        tool = turn.tool
        return Said(
            turn.number,
            "tool",
            tool.number,
            text,
            began_ms,
            ended_ms,
            name=tool.name,
            arguments=tool.arguments,
            asked_of=tool.asked_of,
            outcome=tool.outcome,
        )
    if speech is None:
        return Said(turn.number, turn.role, turn.turn, text, began_ms, ended_ms)
    made, heard, gap_ms = speech.received_bytes, speech.heard_bytes, speech.gap_ns // _MS
    return Said(turn.number, turn.role, speech.number, text, began_ms, ended_ms, made, heard, gap_ms, turn.text_bytes)


def _turn(talk: Conversation, said: Said, now_ns: int, epoch_ns: int) -> Turn:
    began_ns = said.began_ms * _MS - epoch_ns if said.began_ms else 0
    ended_ns = said.ended_ms * _MS - epoch_ns if said.ended_ms else None
    if said.role in ("caller", "keys"):
        is_keys = said.role == "keys"
        return Turn(said.number, None, said.ref, began_ns, ended_ns, said.text, is_keys=is_keys)
    if said.role == "tool":
        call = talk.tools.recall(said, now_ns, talk.tool_rule(said.name))
        return Turn(said.number, None, said.ref, began_ns, ended_ns, said.text, tool=call)
    speech = Utterance(said.ref, 0, said.made_bytes, said.made_bytes, True, said.heard_bytes, began_ns)
    speech.gap_ns, speech.settled_ns, speech.is_tones = said.gap_ms * _MS, ended_ns, said.role == "tones"
    return Turn(said.number, speech, text=said.text, text_bytes=said.text_bytes)


def successor(
    talk: Conversation, story: Story, line: LineMemory, in_line: Sequence[InLine], now_ns: int, epoch_ns: int
) -> list[Command]:
    """Make `talk`, which has not begun, continue the conversation of the story. Returns the commands that follow.

    Call it in place of `talk.start`. `in_line` is the speech that the line has, oldest first: it is heard, and the
    model continues after it.
    """
    talk.sessions.start(now_ns)
    talk.count_length(story.began_ms * _MS - epoch_ns if story.began_ms else now_ns, now_ns)
    talk.order, talk.returned = story.order, story.returned
    if not story.states and in_line:
        talk.greeting.state = Opening.OVER  # the predecessor told nothing; what the line has began the call
    for name, region in REGIONS.items():
        _restore(region(talk), story.states.get(name, ""))
    talk.recall_keys(story, line.last_key_ns, now_ns)
    talk.history.recall([_turn(talk, said, now_ns, epoch_ns) for said in story.turns])
    if talk.returned:
        talk.back_from_transfer(now_ns)
    was_making = False
    for (number, size, paced, ended, ear_ns), speech in in_line:
        was_making |= not ended
        _adopt(talk, Utterance(number, 0, size, size, ended, None, ear_ns, kept_from=paced), speech, line)
    for turn in talk.history.turns:
        if turn.speech is not None and turn.speech.heard_bytes is None and not talk.utterances.get(turn.speech.number):
            # The line has finished it in the meantime.
            turn.speech.heard_bytes = turn.speech.received_bytes
            turn.speech.settled_ns = now_ns
            talk.history.of_utterance(turn.speech.number)
    talk.utterances.last = max(talk.utterances.last, line.last_utterance) + NUMBERS_AHEAD
    talk.numbers.utterance = talk.utterances.last
    talk.numbers.turn = line.last_turn + NUMBERS_AHEAD
    talk.numbers.tool_call = talk.tools.last + NUMBERS_AHEAD
    # An answer to a withdrawal went to the predecessor.
    commands = talk.playout.step(LineEvent.ANSWERED, now_ns)
    if in_line and talk.playout.chart.state is LineState.FLOWING and _is_scrap(in_line[-1], now_ns):
        (number, _, paced, _, _), _ = in_line[-1]
        scrapped = talk.utterances.get(number)
        assert scrapped is not None  # adopted above
        scrapped.received_bytes = paced  # otherwise it would count as interrupted
        commands += talk.playout.withdraw(now_ns)
    if talk.ended:
        # The call was handed on; repeat it, because the gateway may not know.
        return [*commands, EndCall(talk.order, talk.utterances.last_open(), "handed over after its end")]
    talk.recall_tones()
    talk.recall_hand_off()
    # toolbox knows these calls by their numbers, and does none of them twice.
    commands += talk.call_again(now_ns)
    return commands + _go_on(talk, story, line, was_making=was_making, now_ns=now_ns)


def count_silence(talk: Conversation, former: str, story: Story, in_line: Sequence[InLine], now_ns: int) -> None:
    """After `successor`: if the hand-over from `former` broke off the AI's speech, the caller's silence is counted."""
    if story.states.get("floor", Floor.QUIET.name) not in (Floor.QUIET.name, Floor.ECHOING.name):
        return  # the caller spoke
    if in_line:
        (number, _, _, is_whole, _), _ = in_line[-1]
        talk.handover_silence.begins(former, last=talk.utterances.get(number))
        if is_whole:
            talk.handover_silence.ends(now_ns)
    elif talk.asking.chart.state is Owed.CONTINUE:
        spoken = [turn.speech for turn in talk.history.turns if turn.speech is not None]
        if spoken:
            talk.handover_silence.begins(former, last=spoken[-1])


def _restore(chart: Chart[Any, Any, Any], name: str) -> None:
    """Restore a region's state. A name that this version does not know leaves the initial state."""
    state = type(chart.state).__members__.get(name)
    if state is not None:
        chart.state = state


def _is_scrap(last: InLine, now_ns: int) -> bool:
    """Whether an utterance broke off, and the silent line still holds less than a frame of it.

    Ended now, that part would be heard as a click after a gap.
    """
    (_, size, paced, ended, ear_ns), _ = last
    is_silent = bool(ear_ns) and ear_ns + paced * BYTE_NS < now_ns + FRAME_NS
    return not ended and 0 < size - paced < FRAME_BYTES and is_silent


def _adopt(talk: Conversation, utterance: Utterance, speech: bytes, line: LineMemory) -> None:
    """Book an utterance that the predecessor gave the line."""
    number = utterance.number
    purpose = cast(Purpose, line.purposes.get(number, "answer"))
    response = talk.responses.add(talk.numbers.next_response(), purpose, Truth.TOLD)
    response.utterances.append(number)
    utterance.response = response.number
    utterance.kept = [speech] if speech else []
    utterance.is_tones = purpose == "tones"
    turn = talk.history.of_utterance(number)
    if turn is None or turn.speech is None:
        turn = talk.history.begin_utterance(utterance)
    elif turn.speech.received_bytes < utterance.received_bytes:
        turn.text_bytes = turn.text_bytes or turn.speech.received_bytes
    else:
        utterance.received_bytes = turn.speech.received_bytes
    turn.speech = utterance
    talk.utterances.adopt(utterance)
    talk.count_opening(utterance, purpose, utterance.began_ns)


def _go_on(talk: Conversation, story: Story, line: LineMemory, *, was_making: bool, now_ns: int) -> list[Command]:
    """The predecessor's session is lost: the next session owes what it owed."""
    spoke = story.has_spoken or any(u.number > line.last_utterance for u in talk.utterances.open())
    purpose = cast(Purpose, story.purpose or "answer")
    is_asked, is_active = talk.making.state is Making.REQUESTED, talk.making.state is Making.ACTIVE
    is_speaking, last = talk.floor.state not in (Floor.QUIET, Floor.ECHOING), talk.history.turns[-1:]
    if any(u.number > line.last_utterance for u in talk.utterances.open()):
        talk.asking.step(OwedEvent.FORGIVEN, now_ns)  # an answer has begun since
    commands = talk.leave_session(now_ns, spoke=spoke, is_complete=spoke and not was_making)
    commands += talk.step_near(NearEvent.ENDS, now_ns)  # this worker's near ear has heard nothing yet
    if was_making and purpose != "notice":
        talk.asking.owe("continue", now_ns)
    elif is_asked or (is_active and not spoke and not (last and last[0].role == "tool")):
        talk.asking.owe(purpose, now_ns)
    elif talk.asking.chart.state is Owed.NOTHING and last and last[0].role in ("caller", "keys"):
        talk.asking.owe("answer", now_ns)
    elif is_speaking and talk.asking.chart.state is Owed.NOTHING:
        # Unless the new session hears the rest of it: the turn that begins then is answered instead.
        talk.asking.owe("repeat", now_ns)
        talk.asking.not_before(now_ns + HEARS_AGAIN_NS)
    is_wordless = bool(last) and last[0].role == "caller" and not last[0].text
    if talk.asking.chart.state is Owed.ANSWER and is_wordless and not talk.returned:
        talk.asking.owe("repeat", now_ns)  # the words are lost
    return commands + talk.settle(now_ns)
