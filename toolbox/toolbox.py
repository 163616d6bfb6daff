"""toolbox: takes the calls of tools from the workers, and has the children of each source run them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns
from typing import Any, Final

import zmq

from shared import bus
from shared.channel import Channel
from shared.channel_link import ChannelLink
from shared.messages import AgentTools, BridgeToToolbox, CallTool, CancelTool, ToolboxHello, ToolSpec
from shared.settings import Settings

from .config import AgentSources, name_fault
from .core.answers import TEXTS, TOO_LONG
from .core.calls import Calls, Tool
from .core.commands import CallCommand, Enqueue, Note, Reply, Withdraw
from .metrics import Metrics
from .pipe import Context, RunTool
from .pools import Children

logger = logging.getLogger("toolbox")

# The arguments of a call. A model writes a few hundred characters.
ARGUMENT_CHARS_MAX: Final = 65_536
# At the end, children may end by themselves for this long.
LEAVE_S: Final = 2.0


class Toolbox:
    """It needs a running loop. `open` connects it to the workers; until then, nobody can call a tool."""

    def __init__(self, agents: Sequence[AgentSources], settings: Settings, env: Mapping[str, str]) -> None:
        self._settings = settings
        self._env = env
        self._loop = asyncio.get_running_loop()
        # Names this incarnation to all workers.
        self._epoch = bus.draw_epoch()
        self._calls = Calls()
        # The calls that pools have, by number, and the name of the tool in its pool.
        self._asks: dict[int, tuple[CallTool, str]] = {}
        # Commands that wait for those before them.
        self._todo: deque[CallCommand] = deque()
        self._is_busy = False
        self._is_leaving = False
        self._metrics: Metrics | None = None
        self._link: ChannelLink | None = None
        # By worker, the incarnation that was told the tools.
        self._told: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._pools: dict[str, Children] = {}
        self._retired: list[Children] = []
        self._agents: Sequence[AgentSources] = ()
        self._tools: dict[str, dict[str, Tool]] = {}
        self.use(agents)

    # --- its tools ---

    def use(self, agents: Sequence[AgentSources]) -> None:
        """Run these tools from now on. What an earlier pool runs goes on to its end."""
        old, self._pools, self._agents = self._pools, {}, agents
        for pool in old.values():
            pool.retire()
        self._retired = [pool for pool in (*self._retired, *old.values()) if not pool.is_over]
        self._settled.clear()
        for agent in agents:
            for source, _ in agent.sources:
                if source.key not in self._pools:
                    self._pools[source.key] = Children(
                        source,
                        self,
                        env=self._env,
                        memory_mb=self._settings.tool_memory_mb,
                        processes_max=self._settings.tool_processes,
                        offers=old[source.key].offers if source.key in old else (),
                    )
        for pool in self._pools.values():
            pool.tick()
        self.offers_changed()
        self._plan()

    async def settled(self, timeout_s: float) -> bool:
        """Wait until every source has told its tools, or cannot; False after the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    @property
    def tool_names(self) -> set[str]:
        return {name for tools in self._tools.values() for name in tools}

    def offers_changed(self) -> None:
        # An agent that has lost its tools is told, too.
        self._tools = {name: {} for name in self._tools} | {a.agent: self._tools_of(a) for a in self._agents}
        if all(pool.is_settled for pool in self._pools.values()):
            self._settled.set()
        for worker in self._told:
            self._tell(worker)

    def _tools_of(self, agent: AgentSources) -> dict[str, Tool]:
        found: dict[str, Tool] = {}
        for source, prefix in agent.sources:
            for offer in self._pools[source.key].offers:
                if not offer.name.startswith(prefix):
                    continue
                name = offer.name.removeprefix(prefix)
                if why := name_fault(name, found):
                    logger.error(
                        "agent %s lacks the tool %s of %s: its name is %s", agent.agent, name, source.label, why
                    )
                    continue
                deadline_ms = round(offer.deadline_s * 1_000)
                spec = ToolSpec(
                    name, offer.description, offer.parameters, deadline_ms, offer.side_effect, offer.on_interruption
                )
                found[name] = Tool(spec, source.key, offer.name, offer.concurrency, offer.cancellable)
        return found

    # --- workers ---

    def open(self, context: zmq.Context[Any], metrics: Metrics) -> None:
        self._metrics = metrics
        metrics.children.set(sum(len(pool.pids) for pool in self._pools.values()))
        # Bounds and overflow: see shared/bus.py. What a worker does not take waits in its channel.
        self._link = ChannelLink(
            bus.router(context, bus.toolbox_url(self._settings.bus), hwm=bus.TOOLS_HWM),
            types=BridgeToToolbox,
            make=lambda: Channel(self._epoch, max_weight=bus.TOOLS_HWM),
            on_message=self._on_message,
            refused=metrics.dropped,
            lost=metrics.dropped,
            undecodable=metrics.undecodable,
            # A live worker says hello, and then accepts what it refused before.
            retry_s=1.0,
        )
        self._link.start()

    async def close(self) -> None:
        """Begin nothing more, let what runs end within LEAVE_S, and stop the rest. Every call is answered."""
        self._is_leaving = True
        await self._until(lambda: not self._calls.live)
        self._do(self._calls.cancel_all(monotonic_ns()))
        pools = [*self._pools.values(), *self._retired]
        for pool in pools:
            pool.retire()
        await self._until(lambda: not any(pool.pids for pool in pools))
        for pool in pools:
            pool.kill()
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._link.close()

    async def _until(self, condition: Callable[[], bool]) -> None:
        give_up_s = self._loop.time() + LEAVE_S
        while not condition() and self._loop.time() < give_up_s:  # noqa: ASYNC110  # at the exit only
            await asyncio.sleep(0.01)

    def _on_message(self, worker: str, message: Any) -> None:
        assert self._link is not None
        match message:
            case ToolboxHello():
                if self._told.get(worker) != self._link.channel(worker).peer_epoch:
                    self._told[worker] = self._link.channel(worker).peer_epoch
                    self._tell(worker)
                self._link.hello(worker)
            case CallTool():
                self._do(self._ask(worker, message, monotonic_ns()))
            case CancelTool(call_sid, call_id, hung_up):
                self._do(self._calls.cancel(call_sid, call_id, monotonic_ns(), hung_up=hung_up))

    def _tell(self, worker: str) -> None:
        assert self._link is not None
        tools = [AgentTools(agent, tuple(t.spec for t in tools.values())) for agent, tools in self._tools.items()]
        self._link.post(tools, worker)

    # --- calls ---

    def _do(self, commands: Sequence[CallCommand]) -> None:
        """Carry out the commands, and those that follow from them, in order."""
        self._todo += commands
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._todo:
                self._carry_out(self._todo.popleft())
        finally:
            self._is_busy = False
        self._plan()

    def _carry_out(self, command: CallCommand) -> None:
        match command:
            case Enqueue(number, pool, tool, ask):
                self._asks[number] = (ask, tool)
                if pool in self._pools:
                    self._pools[pool].want(number)
                else:
                    self.lost(number)
            case Withdraw(number, pool):
                self._asks.pop(number, None)
                for children in (*self._pools.values(), *self._retired):
                    if children.source.key == pool:
                        children.withdraw(number)
            case Reply(worker, answer):
                assert self._link is not None
                self._link.post((answer,), worker)
            case Note():
                self._note(command)

    def _note(self, note: Note) -> None:
        assert self._metrics is not None
        self._metrics.note(note.tool, note.outcome, note.seconds)
        level = logging.INFO if note.outcome in ("done", "cancelled") else logging.WARNING
        logger.log(
            level, "call %s: tool %s: %s after %.2f s", note.call_sid, note.tool or "?", note.outcome, note.seconds
        )

    def _ask(self, worker: str, ask: CallTool, now_ns: int) -> list[CallCommand]:
        if self._is_leaving:
            return self._calls.ask(worker, ask, None, now_ns, refusal=("unavailable", TEXTS["unavailable"]))
        if len(ask.arguments) > ARGUMENT_CHARS_MAX:
            return self._calls.ask(worker, ask, None, now_ns, refusal=("refused", TOO_LONG))
        tool = self._tools.get(ask.agent, {}).get(ask.tool)
        if ask.asked_of not in (0, self._epoch) and tool is not None and tool.spec.side_effect:
            # Both the worker and the toolbox that had the call are gone.
            return self._calls.ask(worker, ask, None, now_ns, refusal=("unknown", TEXTS["unknown"]))
        return self._calls.ask(worker, ask, tool, now_ns)

    def run(self, number: int) -> RunTool:
        ask, tool = self._asks[number]
        self._do(self._calls.began(number, monotonic_ns()))
        plan = ask.plan
        context = Context(
            ask.call_sid,
            ask.call_id,
            ask.agent,
            plan.direction,
            plan.from_number,
            plan.to_number,
            plan.variables,
            ask.digits,
        )
        return RunTool(number, tool, ask.arguments, context)

    def ended(self, number: int, outcome: str, output: str) -> None:
        self._asks.pop(number, None)
        self._do(self._calls.ended(number, outcome, output, monotonic_ns()))

    def lost(self, number: int) -> None:
        self._asks.pop(number, None)
        self._do(self._calls.lost(number, monotonic_ns()))

    def child_started(self) -> None:
        if self._metrics is not None:
            self._metrics.children.inc()
        self._plan()

    def child_gone(self, *, was_killed: bool, was_ready: bool) -> None:
        if self._metrics is not None:
            self._metrics.children.inc(-1)
            self._metrics.kills.inc(was_killed)
            self._metrics.failed_starts.inc(not was_ready)
        self._plan()

    # --- time ---

    def _plan(self) -> None:
        """Wake up when the next deadline of a call or a child comes."""
        if self._metrics is not None:
            self._metrics.calls.set(self._calls.live)
        due = [self._calls.due_ns(), *(pool.due_ns() for pool in (*self._pools.values(), *self._retired))]
        next_ns = min((each for each in due if each is not None), default=None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ns is not None:
            self._timer = self._loop.call_later(max(0, next_ns - monotonic_ns()) / 1e9, self._on_time)

    def _on_time(self) -> None:
        self._do(self._calls.tick(monotonic_ns()))
        for pool in (*self._pools.values(), *self._retired):
            pool.tick()
        self._plan()
