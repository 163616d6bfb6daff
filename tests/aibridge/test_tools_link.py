"""A worker's calls of tools: each is answered exactly once, whatever becomes of toolbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from aibridge import tools_link
from aibridge.tools_link import ToolsLink
from shared import bus, channel_link
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.liveness import TOOL_LATE_S, TOOLBOX_SILENT_S, ns
from shared.messages import AgentTools, BridgeToToolbox, CallTool, CancelTool, ToolAnswered, ToolboxHello, ToolSpec
from shared.metrics import Page, counter
from shared.plan import CallPlan
from tests.on_a_loop import on_a_loop

TOOLS = (ToolSpec("book", "", "{}", 5_000), ToolSpec("hours", "", "{}", 5_000, side_effect=False))


class Clock:
    """The time of both ends."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += ns(seconds)


class Cell:
    """A worker's link, and a stand-in for toolbox that answers when the test says so. `asked` are the calls it got."""

    def __init__(self, context: zmq.Context[Any], directory: Path) -> None:
        self._context = context
        self._url = bus.toolbox_url(directory)
        self._page = Page.in_memory([counter("dropped", "")])
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.answers: list[ToolAnswered] = []
        self.link = ToolsLink(
            context,
            self._url,
            name="aibridge-0",
            on_answer=self.answers.append,
            on_tools=lambda _: None,
            dropped=self._page.counter("dropped"),
            undecodable=self._page.counter("dropped"),
        )
        self.link.start()
        self.toolbox: ChannelLink | None = None

    async def start_toolbox(self) -> None:
        """Start it, again too, and let the worker meet it."""
        dropped = self._page.counter("dropped")
        told = False

        def on_message(peer: str, message: Any) -> None:
            nonlocal told
            match message:
                case ToolboxHello():
                    self.toolbox.hello(peer)  # type: ignore[union-attr]  # it is there
                    if not told:
                        told = True
                        self.toolbox.post((AgentTools("agent", TOOLS),), peer)  # type: ignore[union-attr]
                case CallTool(call_id=call_id):
                    self.asked.append(call_id)
                case CancelTool(call_id=call_id):
                    self.cancelled.append(call_id)

        self.toolbox = ChannelLink(
            bus.router(self._context, self._url, hwm=100),
            types=BridgeToToolbox,
            make=lambda: Channel(bus.draw_epoch(), max_weight=100),
            on_message=on_message,
            refused=dropped,
            lost=dropped,
            undecodable=dropped,
        )
        self.toolbox.start()
        await self.until(lambda: told)
        epoch = self.toolbox.channel("aibridge-0").epoch
        await self.until(lambda: self.link._link.channel().peer_epoch == epoch and self.link.tools("agent"))

    def stop_toolbox(self) -> None:
        assert self.toolbox is not None
        self.toolbox.close()
        self.toolbox = None

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.link.hello()
                await asyncio.sleep(0.005)

    async def call(self, tool: str, call_id: str) -> None:
        """Ask for a call, and let it arrive."""
        self.link.call(CallTool("CA1", call_id, "agent", tool, "{}", CallPlan()))
        if self.toolbox is not None:
            await self.until(lambda: call_id in self.asked)

    def answer(self, call_id: str) -> None:
        assert self.toolbox is not None
        self.toolbox.post((ToolAnswered("CA1", call_id, "done", "yes"),), "aibridge-0")

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(answer.call_id, answer.outcome) for answer in self.answers]

    def close(self) -> None:
        self.link.close()
        if self.toolbox is not None:
            self.toolbox.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(tools_link, "monotonic_ns", made)
    monkeypatch.setattr(channel_link, "monotonic_ns", made)
    return made


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


Scenario = Callable[[Cell], Awaitable[None]]


@pytest.fixture
def play(context: zmq.Context[Any], tmp_path: Path) -> Callable[[Scenario], None]:
    @on_a_loop
    async def run(scenario: Scenario) -> None:
        cell = Cell(context, tmp_path)
        await scenario(cell)
        cell.close()

    return run


def test_a_call_is_answered_once_by_toolbox(play: Callable[[Scenario], None], clock: Clock) -> None:
    async def scenario(cell: Cell) -> None:
        await cell.start_toolbox()
        assert cell.link.is_there
        assert cell.link.tools("agent") == TOOLS
        await cell.call("book", "a")
        await cell.call("book", "a")
        cell.answer("a")
        cell.answer("a")
        cell.answer("never asked")
        await cell.call("book", "b")
        cell.answer("b")
        await cell.until(lambda: len(cell.answers) >= 2)
        assert cell.outcomes == [("a", "done"), ("b", "done")]
        assert cell.asked == ["a", "b"]

    play(scenario)


def test_without_a_toolbox_a_call_is_answered_at_once_as_not_carried_out(
    play: Callable[[Scenario], None], clock: Clock
) -> None:
    async def scenario(cell: Cell) -> None:
        await cell.call("book", "a")
        assert cell.outcomes == [("a", "unavailable")]
        assert "not carried out" in cell.answers[0].output
        await cell.start_toolbox()
        assert cell.asked == []

    play(scenario)


def test_a_toolbox_that_stays_silent_is_gone_and_its_calls_are_unknown(
    play: Callable[[Scenario], None], clock: Clock
) -> None:
    async def scenario(cell: Cell) -> None:
        await cell.start_toolbox()
        await cell.call("book", "a")
        await cell.call("hours", "b")
        cell.stop_toolbox()
        clock.pass_s(TOOLBOX_SILENT_S - 0.1)
        cell.link.hello()
        assert cell.outcomes == []
        clock.pass_s(0.2)
        cell.link.hello()
        assert cell.outcomes == [("a", "unknown"), ("b", "unknown")]
        assert "Do not repeat it" in cell.answers[0].output
        assert "Do not repeat it" not in cell.answers[1].output
        await cell.call("book", "c")
        assert cell.outcomes[2:] == [("c", "unavailable")]

    play(scenario)


def test_a_toolbox_that_lives_and_does_not_answer_is_given_up_just_after_the_deadline_and_told_so(
    play: Callable[[Scenario], None], clock: Clock
) -> None:
    async def scenario(cell: Cell) -> None:
        await cell.start_toolbox()
        await cell.call("book", "a")
        for _ in range(5):
            clock.pass_s(1.0)
            heard_ns = cell.link._link.channel().heard_ns
            await cell.until(lambda before_ns=heard_ns: cell.link._link.channel().heard_ns > before_ns)
        assert cell.outcomes == []
        clock.pass_s(TOOL_LATE_S)
        cell.link.hello()
        assert cell.outcomes == [("a", "unknown")]
        await cell.until(lambda: cell.cancelled == ["a"])
        # Its answer comes too late.
        cell.answer("a")
        await cell.call("book", "b")
        cell.answer("b")
        await cell.until(lambda: len(cell.answers) == 2)
        assert cell.outcomes[1] == ("b", "done")

    play(scenario)


def test_a_restarted_toolbox_gets_no_call_again_that_may_have_been_begun_and_has_an_effect(
    play: Callable[[Scenario], None], clock: Clock
) -> None:
    async def scenario(cell: Cell) -> None:
        await cell.start_toolbox()
        await cell.call("book", "a")
        await cell.call("hours", "b")
        cell.stop_toolbox()
        # ZeroMQ refuses what is sent while nobody is there: this call has not left. If a timer offered it again before
        # the new toolbox was heard, it would be one that may have been begun.
        await cell.until(lambda: not cell.link._link.hello())
        cell.link._link._retry_s = 3600.0
        await cell.call("book", "c")
        cell.asked.clear()
        await cell.start_toolbox()
        await cell.until(lambda: len(cell.asked) == 2)
        assert cell.outcomes == [("a", "unknown")]
        assert sorted(cell.asked) == ["b", "c"]
        cell.answer("b")
        cell.answer("c")
        await cell.until(lambda: len(cell.answers) == 3)
        assert sorted(cell.outcomes) == [("a", "unknown"), ("b", "done"), ("c", "done")]

    play(scenario)


def test_a_cancelled_call_is_still_answered(play: Callable[[Scenario], None], clock: Clock) -> None:
    async def scenario(cell: Cell) -> None:
        await cell.start_toolbox()
        await cell.call("book", "a")
        cell.link.cancel("CA1", hung_up=True)
        await cell.until(lambda: cell.cancelled == [""])
        cell.answer("a")
        await cell.until(lambda: cell.answers)

    play(scenario)
