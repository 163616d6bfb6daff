"""The facts of a conversation for callbook: from the first frame on, once a second, and at the end."""

from __future__ import annotations

from typing import Final

from shared.audio import BYTE_NS, ms_of
from shared.facts import (
    ConversationBegan,
    ConversationEnded,
    Hesitation,
    Interruption,
    ModelUsage,
)
from shared.facts import Turn as TurnFact

from .history import History, Turn
from .history import Interruption as BargeIn
from .shell import Shell

# A gateway numbers its calls consecutively from a multiple of 2**32. An agent that takes over a call adds this, which
# makes a number that no other conversation of the call has.
NEXT_AGENT: Final = 1 << 24


class Reporter:
    """The facts of one call.

    No fact is noted before `first_frame`, so that nothing slow can begin; until then the history keeps everything.
    """

    def __init__(
        self,
        shell: Shell,
        *,
        call: int,
        call_sid: str,
        stream_sid: str,
        agent: str,
        model: str,
        record: bool,
        resumed: bool,
        history: History,
    ) -> None:
        self._shell = shell
        self._call_sid = call_sid
        self._stream_sid = stream_sid
        self._agent = agent
        self._model = model
        self._record = record
        self._resumed = resumed
        self._history = history
        # Of the agent that speaks now.
        self._conversation = call
        # Tokens of agents that have handed the call off, and that another has taken over.
        self._unnoted: list[ModelUsage] = []
        # When the first frame was written; 0: not yet.
        self._began_ns = 0
        # Turns that changed and have not ended.
        self._open: dict[int, Turn] = {}
        self._interruptions = self._hesitations = 0
        self._ear_gaps = 0
        self._ear_gap_ns = 0

    def first_frame(self, at_ns: int) -> None:
        """The first frame was written: slow work may start."""
        self._begin(at_ns, record=self._record)

    def _begin(self, at_ns: int, *, record: bool) -> None:
        if not self._began_ns:
            self._began_ns = at_ns
            self._note_beginning(record=record)

    def _note_beginning(self, *, record: bool) -> None:
        began_ms = self._shell.unix_ms(self._began_ns)
        self._shell.note(
            ConversationBegan(
                self._call_sid, self._stream_sid, self._model, record, self._resumed, began_ms, self._agent
            )
        )

    def speaks(self, agent: str, model: str) -> None:
        """A session answers from now on: of this agent, and of a model that calls itself so."""
        if (agent, model) == (self._agent, self._model):
            return
        if not self._history.responses:
            self._agent, self._model = agent, model
            if self._began_ns:
                self._note_beginning(record=False)  # a recorded greeting was heard before there was a session
            return
        now_ns = self._shell.now_ns
        self._unnoted.append(self._usage(now_ns))
        self._history.begin_usage()
        self._agent, self._model = agent, model
        self._conversation += NEXT_AGENT
        self._unnoted.append(self._usage(now_ns))

    def gap(self, gap_ns: int, *, continued: bool = False) -> None:
        """The caller heard a gap, or (`continued`) the last gap was longer by `gap_ns`."""
        self._ear_gaps += not continued
        self._ear_gap_ns += gap_ns

    def sweep(self) -> None:
        """Note what has changed since the last time."""
        if not self._began_ns:
            return
        for usage in self._unnoted:
            self._shell.note(usage)
        self._unnoted.clear()
        changed = self._open | {turn.number: turn for turn in self._history.take_changed()}
        self._open = {number: turn for number, turn in changed.items() if turn.ended_ns is None}
        for number, turn in changed.items():
            if number not in self._open:
                self._shell.note(self._turn(turn, turn.heard_bytes or 0, turn.heard_text))
        new = self._history.interruptions[self._interruptions :]
        self._interruptions += len(new)
        for each in new:
            self._shell.note(self._interruption(each))
        for pause in self._history.hesitations[self._hesitations :]:
            self._hesitations += 1
            lasted_ms = (pause.until_ns - pause.from_ns) // 1_000_000
            self._shell.note(Hesitation(self._call_sid, self._shell.unix_ms(pause.from_ns), pause.kind, lasted_ms))

    def _interruption(self, each: BargeIn) -> Interruption:
        unix_ms = self._shell.unix_ms
        return Interruption(
            self._call_sid,
            unix_ms(each.at_ns),
            max(0, each.silent_ns - each.at_ns) // 1_000_000,
            each.protected,
            each.cancelled,
            unix_ms(each.onset_ns) if each.onset_ns else 0,
            unix_ms(each.paused_ns) if each.paused_ns else 0,
            max(0, each.silent_ns - each.onset_ns) // 1_000_000 if each.onset_ns else 0,
        )

    def ended(self, at_ns: int, reason: str) -> None:
        """The call is over. A call without a first frame is noted now, and is not recorded."""
        self._begin(at_ns, record=False)
        self.sweep()
        if reason != "moved":  # else the worker that has the call now tells how they end
            for turn in self._open.values():
                self._shell.note(self._cut_off(turn, at_ns))
        self._shell.note(self._usage(at_ns))
        at_ms, gap_us = self._shell.unix_ms(at_ns), self._ear_gap_ns // 1_000
        self._shell.note(ConversationEnded(self._call_sid, self._stream_sid, reason, self._ear_gaps, gap_us, at_ms))

    def _usage(self, at_ns: int) -> ModelUsage:
        """What the agent that speaks now has used."""
        usage = self._history.usage
        return ModelUsage(
            self._call_sid,
            self._conversation,
            self._model,
            self._history.responses,
            usage.input_text,
            usage.input_audio,
            usage.input_cached,
            usage.output_text,
            usage.output_audio,
            self._shell.unix_ms(at_ns),
            self._agent,
        )

    def _cut_off(self, turn: Turn, at_ns: int) -> TurnFact:
        """A turn that the end of the call cut off: the ear's clock says how much of it was heard."""
        if turn.speech is None or turn.heard_bytes is not None:
            return self._turn(turn, turn.heard_bytes or 0, turn.heard_text)
        played = (at_ns - turn.started_ns - turn.gap_ns) // BYTE_NS if turn.started_ns else 0
        heard = max(0, min(turn.received_bytes, played))
        return self._turn(turn, heard, turn.words_of(heard))

    def _turn(self, turn: Turn, heard_bytes: int, heard_text: str) -> TurnFact:
        tool = turn.tool
        latency = turn.speech.latency if turn.speech is not None else None
        return TurnFact(
            self._call_sid,
            turn.key,
            turn.number,
            turn.role,
            self._shell.unix_ms(turn.started_ns) if turn.started_ns else 0,
            self._shell.unix_ms(turn.ended_ns) if turn.ended_ns else 0,
            turn.text,
            heard_text,
            ms_of(turn.received_bytes),
            ms_of(heard_bytes),
            turn.interrupted,
            *((tool.name, tool.arguments, tool.outcome) if tool is not None else ("", "", "")),
            tuple(-1 if part_ns < 0 else part_ns // 1_000_000 for part_ns in latency or ()),
        )
