"""A worker's channel to toolbox: it asks for calls of tools, and answers each exactly once, with or without toolbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Final

import zmq

from shared import bus
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.liveness import TOOL_LATE_S, TOOLBOX_SILENT_S, ns
from shared.messages import (
    AgentTools,
    CallTool,
    CancelTool,
    ToolAnswered,
    ToolboxHello,
    ToolboxToBridge,
    ToolSpec,
)
from shared.metrics import Counter

# What the model is told when toolbox does not answer; toolbox/core/answers.py has the other texts.
UNAVAILABLE: Final = "The tool is not available at the moment. It was not carried out."
LOST: Final = "The tool's answer was lost."
LOST_EFFECT: Final = f"{LOST} It is not known whether it was carried out. Do not repeat it before you have found out."
# For a tool that toolbox has not told yet.
_DEADLINE_MS: Final = 10_000


@dataclass
class _Pending:
    ask: CallTool
    side_effect: bool
    due_ns: int
    # Of CallTool on the channel, and whether it has left: toolbox may then have begun.
    number: int
    is_sent: bool = False


class ToolsLink:
    """`on_answer` gets one answer for each `call`, at the latest TOOL_LATE_S after the tool's deadline.

    `on_tools` gets the name of an agent whose tools became known, or changed. `hello` has to be called ten times a
    second; it also finds calls that toolbox will not answer. Bound: bus.TOOLS_HWM messages wait for a toolbox that does
    not read; a call beyond them is answered as unavailable.

    A restarted toolbox knows nothing of its predecessor's calls. Those that may have been begun are answered as
    unknown; one without side effects, and one that never left, is asked for again.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        url: str,
        *,
        name: str,
        on_answer: Callable[[ToolAnswered], None],
        on_tools: Callable[[str], None],
        dropped: Counter,
        undecodable: Counter,
    ) -> None:
        self._name = name
        self._on_answer = on_answer
        self._on_tools = on_tools
        self._pending: dict[tuple[str, str], _Pending] = {}
        self._tools: dict[str, tuple[ToolSpec, ...]] = {}
        self._link = ChannelLink(
            bus.dealer(context, url, name=name, hwm=bus.TOOLS_HWM),
            types=ToolboxToBridge,
            make=lambda: Channel(bus.draw_epoch(), max_weight=bus.TOOLS_HWM),
            on_message=lambda _, message: self._on_message(message),
            on_restart=lambda _: self._on_restart(),
            refused=dropped,
            lost=dropped,
            undecodable=undecodable,
        )

    def start(self) -> None:
        self._link.start()

    def close(self) -> None:
        self._link.close()

    def tools(self, agent: str) -> tuple[ToolSpec, ...]:
        """The tools of an agent, as toolbox told them last."""
        return self._tools.get(agent, ())

    @property
    def epoch(self) -> int:
        """The incarnation of toolbox that was heard last. A successor that asks again tells it (CallTool.asked_of)."""
        return self._link.channel().peer_epoch

    @property
    def is_there(self) -> bool:
        """Whether toolbox was heard lately."""
        return self._is_there(monotonic_ns())

    def hello(self) -> None:
        self._link.hello(hints=(ToolboxHello(self._name),))
        self._sweep(monotonic_ns())

    def call(self, ask: CallTool) -> None:
        """Have the tool called. A call that waits already changes nothing."""
        key = (ask.call_sid, ask.call_id)
        if key in self._pending:
            return
        now_ns = monotonic_ns()
        if not self._is_there(now_ns):
            self._on_answer(ToolAnswered(*key, "unavailable", UNAVAILABLE))
            return
        spec = next((each for each in self.tools(ask.agent) if each.name == ask.tool), None)
        deadline_ms = spec.deadline_ms if spec else _DEADLINE_MS
        due_ns = now_ns + deadline_ms * 1_000_000 + ns(TOOL_LATE_S)
        self._post(key, _Pending(ask, spec.side_effect if spec else True, due_ns, 0))

    def cancel(self, call_sid: str, call_id: str = "", *, hung_up: bool = False) -> None:
        """Nobody needs the answer any more; `call_id` "": of any call of this phone call. Each is answered anyway."""
        self._link.post((CancelTool(call_sid, call_id, hung_up),))

    def _post(self, key: tuple[str, str], pending: _Pending) -> None:
        if not self._link.post((pending.ask,)):
            self._pending.pop(key, None)
            self._on_answer(ToolAnswered(*key, "unavailable", UNAVAILABLE))
            return
        channel = self._link.channel()
        pending.number = channel.last_number
        pending.is_sent = channel.sent_through >= pending.number
        self._pending[key] = pending

    def _is_there(self, now_ns: int) -> bool:
        heard_ns = self._link.channel().heard_ns
        return heard_ns > 0 and now_ns - heard_ns <= ns(TOOLBOX_SILENT_S)

    def _on_message(self, message: AgentTools | ToolAnswered) -> None:
        if isinstance(message, AgentTools):
            self._tools[message.agent] = message.tools
            self._on_tools(message.agent)
        elif self._pending.pop((message.call_sid, message.call_id), None) is not None:
            self._on_answer(message)

    def _on_restart(self) -> None:
        for key, pending in list(self._pending.items()):
            if pending.is_sent and pending.side_effect:
                self._give_up(key)
            else:
                self._post(key, pending)

    def _sweep(self, now_ns: int) -> None:
        """Answer the calls that toolbox did not answer in time, and all of them when it is gone."""
        is_there = self._is_there(now_ns)
        sent = self._link.channel().sent_through
        for key, pending in list(self._pending.items()):
            pending.is_sent |= pending.number <= sent
            if pending.due_ns <= now_ns or not is_there:
                # A toolbox that was only stopped may still have to begin.
                self.cancel(*key)
                self._give_up(key)

    def _give_up(self, key: tuple[str, str]) -> None:
        pending = self._pending.pop(key)
        self._on_answer(ToolAnswered(*key, "unknown", LOST_EFFECT if pending.side_effect else LOST))
