"""The effects of the model's tools on the regions: calls, answers, deadlines, a filler while the caller waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from shared.plan import HangUp

from ..models.port import AnswerTool, ModelToolCalled, Purpose, ToolCalled
from . import built_in, hand_off, tones
from .barge_in import Floor
from .built_in import END_CALL, HAND_OFF, TRANSFER_CALL
from .cancel_once import Making
from .commands import CallTool, CancelTool, Command, TellStory
from .goodbye_and_fallback import GoodbyeEvent
from .hand_off import HandOff, HandOffEvent
from .handed_on import why_back
from .owed_and_retry import Owed, OwedEvent
from .regions import Regions
from .responses import Truth
from .timers import Due
from .tones import SEND_DTMF, TonesEvent
from .tools import ReplyEvent, ToolAct, ToolCall, ToolEvent, ToolRule

# Characters of an answer. A model's context is 32k tokens, and the conversation has to fit, too.
OUTPUT_MAX: Final = 16_000
# The wait for a tool that the model's own server carries out: its deadline is not documented.
MODEL_TOOL_NS: Final = 60_000_000_000
MODEL_TOOL_LOST: Final = "the answer was lost; it is not known whether it was carried out"
UNKNOWN_RESPONSE: Final = -1
# The wait for a tool that the agent's file no longer names.
UNKNOWN_DEADLINE_NS: Final = 30_000_000_000


def error(what: str) -> str:
    """An answer of ours, which the model can explain to the caller."""
    return msgspec.json.encode({"error": what}).decode()


class ToolEvents(Regions):
    """The conversation's handling of its tools."""

    def on_tool(self, event: ToolCalled, now_ns: int) -> list[Command]:
        response = self.responses.get(event.response)
        if response is None or response.truth.state in (Truth.TOLD, Truth.TOLD_CUT):
            return []  # no session waits for the answer
        if response.truth.state in (Truth.SILENCED, Truth.CUT):
            return [AnswerTool(event.tool_call, error("the caller interrupted; it was not done"))]
        if response.turn:
            self.caller.answer_heard(response.turn)  # the turn was acted upon: no session hears it again
        if event.name == END_CALL:
            self.order = HangUp()
            return self._give_order(event, response.number, built_in.ENDING, now_ns)
        if event.name == TRANSFER_CALL:
            return self._transfer(event, response.number, now_ns)
        if event.name == HAND_OFF:
            return self._call_hand_off(event, response.number, now_ns)
        if event.name == SEND_DTMF and self.rules.sends_dtmf:
            return self._call_for_tones(event, response.number, now_ns)
        rule = self._tool_rules.get(event.name)
        if rule is None:
            self.reply(now_ns)
            return [self._answer(event.tool_call, error("no such function"))]
        call = self.tools.begin(event.tool_call, event.name, event.arguments, rule, now_ns, response=response.number)
        if call is None:
            return []
        self.history.tool_called(call, now_ns)
        self._plan_overdue()
        if rule.filler_after_ns and not self.timers.is_set(Due.FILLER):
            self.timers.set(Due.FILLER, now_ns + rule.filler_after_ns)
        return [CallTool(call.number, call.name, call.arguments, digits=self.keypad.entered)]

    def on_model_tool(self, event: ModelToolCalled, now_ns: int) -> list[Command]:
        """The model's server carries a tool out. Nobody here can stop it, and its answer comes by itself."""
        # 0 is another session's response, and this session waits for the answer.
        response = event.response or UNKNOWN_RESPONSE
        if (known := self.responses.get(response)) is not None and known.turn:
            self.caller.answer_heard(known.turn)  # the turn was acted upon: no session hears it again
        rule = ToolRule(MODEL_TOOL_NS)
        call = self.tools.begin(event.tool_call, event.name, event.arguments, rule, now_ns, response=response)
        if call is not None:
            self.history.tool_called(call, now_ns)
            self._plan_overdue()
        return []

    def _transfer(self, event: ToolCalled, response: int, now_ns: int) -> list[Command]:
        name = built_in.argument(event.arguments, "destination")
        destination = self.built_in.transfers.get(name)
        if destination is None or not self.plan.to_number:
            self.reply(now_ns)
            why = "there is no such destination" if destination is None else "this is no telephone call"
            return [self._answer(event.tool_call, error(why))]
        self.order = built_in.dial(destination, self.plan)
        return self._give_order(event, response, built_in.CONNECTING, now_ns)

    def _give_order(self, event: ToolCalled, response: int, output: str, now_ns: int) -> list[Command]:
        """The model hands the call on. It is answered at once, and need not speak about the answer."""
        call = self.tools.begin(event.tool_call, event.name, event.arguments, ToolRule(0), now_ns, response=response)
        if call is None:
            return []
        self.goodbye.step(GoodbyeEvent.ORDERED)
        call.chart.step(ToolEvent.ANSWERED)
        call.output, call.outcome = output, "done"
        self.history.tool_called(call, now_ns)
        self.history.tool_answered(call, now_ns)
        return [AnswerTool(call.number, output)]

    def _call_hand_off(self, event: ToolCalled, response: int, now_ns: int) -> list[Command]:
        """`look_at_hand_off` does the rest; the call is answered when the other agent is there."""
        is_known = built_in.argument(event.arguments, "agent") in self.built_in.colleagues
        if not is_known or not self.hand_off.allows(HandOffEvent.CALLED):
            self.reply(now_ns)
            why = "the call is being handed off" if is_known else "there is no such agent"
            return [self._answer(event.tool_call, error(why))]
        rule = self.tool_rule(HAND_OFF)
        call = self.tools.begin(event.tool_call, event.name, event.arguments, rule, now_ns, response=response)
        if call is not None:
            self.hand_off.step(HandOffEvent.CALLED)
            self.handing_off = call
            self.history.tool_called(call, now_ns)
            self._plan_overdue()
            if self.built_in.filler_after_ns:
                self.timers.set(Due.FILLER, now_ns + self.built_in.filler_after_ns)
        return []

    def recall_hand_off(self) -> None:
        """A hand-off that the predecessor began is begun again."""
        self.handing_off = next((call for call in self.tools.running() if call.name == HAND_OFF), None)
        self.hand_off.state = HandOff.NONE if self.handing_off is None else HandOff.WANTED

    def back_from_transfer(self, now_ns: int) -> None:
        """The caller is back from the transfer that the model called: its answer is how that went."""
        for turn in reversed(self.history.turns):
            if turn.tool is not None and turn.tool.output == built_in.CONNECTING:
                has_spoken = self.returned in ("completed", "answered")
                turn.tool.outcome = "done" if has_spoken else "failed"
                turn.tool.output = msgspec.json.encode({"ok": has_spoken, "state": why_back(self.returned)}).decode()
                self.history.tool_answered(turn.tool, now_ns)
                return

    def _call_for_tones(self, event: ToolCalled, response: int, now_ns: int) -> list[Command]:
        """They play when the line is silent (tone_events.py)."""
        digits = tones.digits_of(event.arguments)
        if not digits:
            self.reply(now_ns)
            return [self._answer(event.tool_call, error(tones.WRONG))]
        rule = self.tool_rule(SEND_DTMF)
        call = self.tools.begin(event.tool_call, SEND_DTMF, event.arguments, rule, now_ns, response=response)
        if call is None:
            return []
        self.history.tool_called(call, now_ns)
        self._plan_overdue()
        self.tones.waiting.append((call.number, digits))
        self.tones.chart.step(TonesEvent.CALLED)
        return [TellStory()]

    def tool_rule(self, name: str) -> ToolRule:
        """The rule of a tool that was called; that of the longest wait when the agent no longer has it."""
        deadlines_ns = {SEND_DTMF: tones.DEADLINE_NS, HAND_OFF: hand_off.DEADLINE_NS}
        return self._tool_rules.get(name, ToolRule(deadlines_ns.get(name, UNKNOWN_DEADLINE_NS)))

    def call_again(self, now_ns: int) -> list[Command]:
        """Ask toolbox for the answers of the predecessor's calls."""
        commands = self._model_tools_lost(now_ns)
        self._plan_overdue()
        return commands + [
            CallTool(call.number, call.name, call.arguments, call.asked_of, self.keypad.entered)
            for call in self.tools.running()
            if call.name not in (SEND_DTMF, HAND_OFF)
        ]

    def _model_tools_lost(self, now_ns: int) -> list[Command]:
        """No session brings the answers of tools that a former session's server carried out."""
        commands: list[Command] = []
        for call in [each for each in self.tools.running() if each.is_at_model]:
            commands += self.step_tool(call, ToolEvent.ANSWERED, error(MODEL_TOOL_LOST), "unknown", now_ns)
        return commands

    def on_tool_answered(self, number: int, output: str, outcome: str, now_ns: int) -> list[Command]:
        """toolbox answers a call."""
        call = self.tools.get(number)
        if call is None or self.ended:
            return []
        return self.step_tool(call, ToolEvent.ANSWERED, output, outcome, now_ns)

    def tools_overdue(self, now_ns: int) -> list[Command]:
        """toolbox has not answered in time."""
        commands: list[Command] = []
        for call in self.tools.overdue(now_ns):
            self._metrics.tools_overdue.inc()
            commands += self.step_tool(call, ToolEvent.OVERDUE, error("it took too long"), "unknown", now_ns)
        self._plan_overdue()
        return commands

    def tools_spoken_over(self, now_ns: int) -> list[Command]:
        """The caller speaks: some tools end, and the answer to the caller knows what was told so far."""
        self.tools.reply.step(ReplyEvent.CALLER_SPEAKS)
        commands: list[Command] = []
        for call in list(self.tools.running()):
            if call.ends_at_speech:
                commands += self.step_tool(
                    call, ToolEvent.CALLED_OFF, error("the caller interrupted"), "cancelled", now_ns
                )
        return commands

    def tools_lost(self, now_ns: int) -> None:
        """The session is gone. What runs goes on, and the next session is told; a tool of its own server is lost."""
        self._model_tools_lost(now_ns)
        self.tools.lost()
        self.keypad.unconfirmed.clear()
        self._owe_reply(ReplyEvent.LOST, now_ns)

    def response_began(self, now_ns: int, *, was_asked: bool) -> None:
        """A response that the model began by itself does not know the answers and keys that crossed its beginning."""
        if (self.tools.unconfirmed or self.keypad.unconfirmed) and not was_asked:
            self._owe_reply(ReplyEvent.ANSWERED_DURING_RESPONSE, now_ns)
        self.tools.unconfirmed.clear()
        self.keypad.unconfirmed.clear()

    def response_over(self, now_ns: int) -> None:
        """A response ended that could not know the answers that came meanwhile."""
        if self.floor.state is Floor.QUIET:
            self._owe_reply(ReplyEvent.RESPONSE_ENDED, now_ns)

    def fill_in(self, now_ns: int) -> None:
        """The caller has waited for a tool. The model says so, unless it speaks or the caller does."""
        is_silent = self.making.state is Making.IDLE and not self.playout.is_audible()
        if any(self.tools.running()) and is_silent and self.floor.state is Floor.QUIET:
            self.asking.step(OwedEvent.OWE_FILLER, now_ns)

    def step_tool(self, call: ToolCall, event: ToolEvent, output: str, outcome: str, now_ns: int) -> list[Command]:
        commands: list[Command] = []
        acts = call.chart.step(event)
        if not acts:
            return commands
        call.output = output if len(output) <= OUTPUT_MAX else error("the answer is too long")
        call.outcome = outcome
        self.history.tool_answered(call, now_ns)
        if not any(self.tools.running()):
            self.timers.cancel(Due.FILLER)
        self._plan_overdue()
        # The model's server has the answer already, or will never get one.
        for act in () if call.is_at_model else acts:
            match act:
                case ToolAct.CANCEL:
                    commands.append(CancelTool(call.number))
                case ToolAct.ANSWER:
                    commands.append(self._answer(call.number, call.output))
                case ToolAct.TELL:
                    if self.sessions.is_live:  # else the history tells it
                        commands += self._truth.tell_answer(call)
        if not self.tools.siblings_run(call):
            self.reply(now_ns)
        return commands

    def _answer(self, number: int, output: str) -> Command:
        self.tools.unconfirmed.add(number)
        return AnswerTool(number, output)

    def reply(self, now_ns: int, *, over: Sequence[Purpose] = ("filler",)) -> None:
        """All tools of a response are answered, or keys were entered: the model shall speak about it once.

        That replaces what is owed of the purposes in `over`.
        """
        if self.floor.state is not Floor.QUIET:
            event = ReplyEvent.ANSWERED_DURING_SPEECH
        elif self.making.state is not Making.IDLE or self.asking.chart.state is Owed.EXPECTED:
            event = ReplyEvent.ANSWERED_DURING_RESPONSE
        else:
            event = ReplyEvent.ANSWERED
        self._owe_reply(event, now_ns, over)

    def _owe_reply(self, event: ReplyEvent, now_ns: int, over: Sequence[Purpose] = ("filler",)) -> None:
        if self.tools.reply.step(event) and self.asking.purpose() in (None, *over):
            self.asking.owe("answer", now_ns)

    def _plan_overdue(self) -> None:
        at_ns = self.tools.next_overdue_ns()
        if at_ns is None:
            self.timers.cancel(Due.TOOL)
        else:
            self.timers.set(Due.TOOL, at_ns)
