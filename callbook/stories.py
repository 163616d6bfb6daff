"""Stories of live calls on their way to the store of STATE_URL, and back for a call that returns from another cell.

Off every hot path, and without effect on any probe: a store that is slow, frozen, full or gone costs stories, which are
counted. Imported with STATE_URL only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import msgspec
import zmq

from shared import bus
from shared.bus_link import Link
from shared.messages import CallClosed, CallElsewhere, CallRecalled, GatewayToStore, KeepStory, RecallCall, StoreHello
from shared.plan import CallOrder, HangUp

from .core.story_queue import STORY_MAX_BYTES, StoreState, StoryQueue
from .metrics import Metrics
from .sealing import SealError, Seals
from .store import READ_S, Change, Put, Store

logger = logging.getLogger("callbook")

STORY_LIFE_S: Final = 300
# Twilio's redirect comes within seconds of the end.
ENDED_LIFE_S: Final = 60
# A caller comes back from a Dial within 4 hours: TwiML's `timeLimit`.
HANDED_ON_LIFE_S: Final = 4 * 3_600
# Changes that come within this time share one round trip.
GATHER_S: Final = 0.02
# The pause after a write that failed.
RETRY_S: Final = 0.5
# How often the store is told when this cell's gateways were last alive: another cell takes for heard what was due until
# then.
BEAT_S: Final = 0.25


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed for a call: its story, or its order when it has ended. A newer version may only append fields."""

    cell: str = ""
    at_ms: int = 0
    story: bytes = b""
    order: CallOrder | None = None


class Stories:
    """Call `start` on a running loop. `cell` names this cell in what it writes."""

    def __init__(
        self,
        context: zmq.Context[Any],
        url: str,
        *,
        store: Store,
        seals: Seals,
        cell: str,
        metrics: Metrics,
    ) -> None:
        self._store, self._seals, self._cell = store, seals, cell
        self._metrics = metrics
        self._queue = StoryQueue()
        self._epoch = bus.draw_epoch()
        self._wake = asyncio.Event()
        # A call was closed: Twilio may ask another cell within milliseconds, so nothing gathers.
        self._closed = asyncio.Event()
        self._recalls: set[asyncio.Task[None]] = set()
        # When a gateway was last heard of; milliseconds of the Unix epoch. A cell whose gateway is gone plays nothing.
        self._alive_ms = 0
        self._link = Link(
            bus.router(context, url, hwm=bus.STORIES_HWM),
            types=GatewayToStore,
            on_message=self._received,
            dropped=metrics.bus_refused,
            undecodable=metrics.undecodable,
        )

    async def run(self) -> None:
        self._link.start()
        self._metrics.store_up.set(1)
        try:
            while True:
                await self._write()
                try:
                    async with asyncio.timeout(BEAT_S):
                        await self._wake.wait()
                    async with asyncio.timeout(GATHER_S):
                        await self._closed.wait()
                except TimeoutError:
                    continue
        finally:
            self._link.close()
            for task in self._recalls:
                task.cancel()
            await self._store.close()

    def _received(self, peer: str, message: StoreHello | KeepStory | CallClosed | RecallCall) -> None:
        self._alive_ms = _now_ms()
        match message:
            case StoreHello():
                self._link.send((StoreHello(self._epoch),), peer)
            case RecallCall(call_id):
                task = asyncio.get_running_loop().create_task(self._recall(peer, call_id))
                self._recalls.add(task)
                task.add_done_callback(self._recalls.discard)
            case _:
                dropped = self._queue.dropped
                self._queue.put(peer, message)
                self._metrics.stories_dropped.inc(self._queue.dropped - dropped)
                self._wake.set()
                if isinstance(message, CallClosed):
                    self._closed.set()

    # --- to the store ---

    async def _write(self) -> None:
        taken = self._queue.take()
        if not len(self._queue):
            self._wake.clear()
            self._closed.clear()
        now_ms = _now_ms()
        beat = self._seals.name("cell", self._cell)
        changes = [Change([Put(beat, self._seals.seal(beat, b"%d" % self._alive_ms), STORY_LIFE_S)])]
        for _, message in taken:
            owner = self._seals.name("since", message.call_id)
            changes.append(Change(self._puts(message, now_ms), owner, message.since_ms))
        were_taken = await self._store.write(changes)
        if isinstance(were_taken, StoreState):
            state = were_taken
            self._metrics.store_failures[state].inc(max(1, len(taken)))
        else:
            state = StoreState.UP
            for (peer, message), was_taken in zip(taken, were_taken[1:], strict=True):
                if was_taken:
                    self._metrics.stories_written.inc()
                else:
                    self._metrics.stories_outdated.inc()
                    self._link.send((CallElsewhere(message.call_id, message.since_ms),), peer)
        was = self._queue.state
        if self._queue.turned(state):
            self._tell(state, was)
        if state is not StoreState.UP:
            await asyncio.sleep(RETRY_S)

    def _puts(self, message: KeepStory | CallClosed, now_ms: int) -> list[Put]:
        story, ended = (self._seals.name(kind, message.call_id) for kind in ("story", "ended"))
        if isinstance(message, KeepStory):
            kept = Kept(self._cell, now_ms, message.story)
            return [Put(story, self._seals.seal(story, msgspec.msgpack.encode(kept)), STORY_LIFE_S)]
        kept = Kept(self._cell, now_ms, b"", message.order)
        puts = [Put(ended, self._seals.seal(ended, msgspec.msgpack.encode(kept)), ENDED_LIFE_S)]
        if not message.story:
            return [*puts, Put(story)]
        kept = Kept(self._cell, now_ms, message.story)
        return [*puts, Put(story, self._seals.seal(story, msgspec.msgpack.encode(kept)), HANDED_ON_LIFE_S)]

    def _tell(self, state: StoreState, was: StoreState) -> None:
        self._metrics.store_up.set(state is StoreState.UP)
        place = self._store.place
        if state is StoreState.UP:
            self._epoch = bus.draw_epoch()  # it may have lost everything: the gateways tell all stories again
            logger.info("the store at %s is back; it was %s", place, was.value)
        else:
            advice = "calls go on, but another cell could not continue them; look at STATE_URL"
            logger.warning("the store at %s is %s: %s", place, state.value, advice)

    # --- from the store ---

    async def _recall(self, peer: str, call_id: str) -> None:
        """Answer with what the store knows of a call; not at all when it does not answer within READ_S."""
        until = time.monotonic() + READ_S
        names = [self._seals.name(kind, call_id) for kind in ("ended", "story")]
        values = await self._store.read(names)
        if isinstance(values, StoreState):
            self._metrics.store_failures[values].inc()
            return
        ended, kept = (self._open(name, value) for name, value in zip(names, values, strict=True))
        # A story that is newer: the call came back from its order, and has gone on.
        is_over = ended is not None and (kept is None or kept.at_ms <= ended.at_ms)
        order = ended.order if ended is not None and is_over else None
        if kept is not None:
            left_ms = max(kept.at_ms, await self._last_alive_ms(kept.cell, until - time.monotonic()))
        else:
            kept, left_ms = ended or Kept(), 0
        self._link.send(
            (CallRecalled(call_id, order is not None, kept.story, order or HangUp(), kept.cell, left_ms),), peer
        )

    async def _last_alive_ms(self, cell: str, within_s: float) -> int:
        """When the gateways of `cell` were last alive; 0: unknown."""
        name = self._seals.name("cell", cell)
        values = await self._store.read([name], within_s)
        try:
            return 0 if isinstance(values, StoreState) else int(self._seals.open(name, values[0]))
        except (SealError, ValueError):
            return 0

    def _open(self, name: str, value: bytes) -> Kept | None:
        """What stands under a name; None, counted unless there is nothing, for what this version cannot use."""
        if not value:
            return None
        try:
            if len(value) > STORY_MAX_BYTES:
                raise SealError("too large")
            kept = msgspec.msgpack.decode(self._seals.open(name, value), type=Kept)
        except (SealError, msgspec.MsgspecError, ValueError, RecursionError):
            self._metrics.stories_unreadable.inc()
            return None
        return kept


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
