"""The store of STATE_URL, over the Redis protocol: every request has a deadline, and no failure is an exception.

The extra `fleet` brings `redis`. Without STATE_URL, nothing imports this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, OutOfMemoryError, RedisError
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from .core.story_queue import STORY_MAX_BYTES, StoreState

# A store on the same network answers within a millisecond. After this it counts as slow.
WRITE_S: Final = 1.0
# Below RECALL_S: the answer still has to reach the gateway.
READ_S: Final = 0.2
# Reads at the same time. When a cell dies, its calls come within a second; further reads wait for their turn.
READERS: Final = 8
# A store that has not answered by now is asked again over a new connection. Networks, proxies and keepalive lose idle
# connections, and a loss shows only when one is used: at once as an error, or as silence.
ASK_AGAIN_S: Final = 0.05


class Put(NamedTuple):
    """Write `value` under `name` for `life_s`; without them, delete it."""

    name: str
    value: bytes = b""
    life_s: int = 0


class Change(NamedTuple):
    """All of `puts`, unless the store has taken a change of the same owner that is of a later `since_ms`.

    `owner` is the name under which the store keeps that time. "": all of `puts`, whatever the store has.
    """

    puts: Sequence[Put]
    owner: str = ""
    since_ms: int = 0


# One after the other in the store, so no cell's change comes between the look and the writing. KEYS: the owner, and the
# names of the puts; ARGV: the time, and for each name, a value and its life in seconds, 0 to delete.
_WRITE: Final = """
local held = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
if held > tonumber(ARGV[1]) then return 0 end
local longest = 1
for i = 2, #KEYS do
  local value, life = ARGV[2 * i - 2], tonumber(ARGV[2 * i - 1])
  if life == 0 then redis.call('DEL', KEYS[i]) else redis.call('SET', KEYS[i], value, 'EX', life) end
  longest = math.max(longest, life)
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', longest)
return 1
"""


class Store:
    """One connection for writes, READERS for reads: no read waits for a write, nor for a connection that was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._writing = _client(url, WRITE_S, 1)
        self._reading = _client(url, READ_S, READERS)
        self._readers = asyncio.Semaphore(READERS)
        parts = urlsplit(url)
        # For people: never a user or a password.
        self.place = f"{parts.hostname}:{parts.port or 6379}"

    async def write(self, changes: Sequence[Change]) -> list[bool] | StoreState:
        """All of `changes` in one round trip: whether each was taken, or why the store took none or not all."""
        pipeline = self._writing.pipeline(transaction=False)
        for puts, owner, since_ms in changes:
            if owner:
                arguments = [part for put in puts for part in (put.value, put.life_s)]
                names = [owner, *(put.name for put in puts)]
                pipeline.eval(_WRITE, len(names), *names, since_ms, *arguments)
            else:
                for name, value, life_s in puts:
                    pipeline.set(name, value, ex=life_s)
        try:
            async with asyncio.timeout(WRITE_S):
                results: list[Any] = await pipeline.execute(raise_on_error=False)
        except Exception as exc:  # a lying server breaks the client in ways of its own
            return _state(exc)
        failed = [result for result in results if isinstance(result, Exception)]
        if failed:
            return _state(failed[0])
        # A store answers SET with OK, which the client turns into True, and the script with 1 or 0.
        if len(results) != len(changes) or not all(result in (0, 1) and result is not False for result in results):
            return StoreState.REFUSED
        return [bool(result) for result in results]

    async def read(self, names: Sequence[str], within_s: float = READ_S) -> list[bytes] | StoreState:
        """The values of `names`, b"" for what is not there, each cut off after STORY_MAX_BYTES + 1 bytes."""
        try:
            async with asyncio.timeout(within_s), self._readers:
                values = await self._first_answer(names)
        except Exception as exc:
            return _state(exc)
        return [value if isinstance(value, bytes) else b"" for value in values]

    async def _first_answer(self, names: Sequence[str]) -> list[Any]:
        """Ask over an idle connection and, if that fails or stays silent, over a new one, too. The first answer counts.

        Raises what the last one failed with.
        """
        idle = asyncio.create_task(_caught(_ask(self._reading, names)))
        asks = [idle]
        try:
            await asyncio.wait(asks, timeout=ASK_AGAIN_S)
            values = idle.result() if idle.done() else None
            if values is None or isinstance(values, Exception):
                asks.append(asyncio.create_task(_caught(self._ask_anew(names))))
                for ask in asyncio.as_completed(asks):
                    values = await ask
                    if not isinstance(values, Exception):
                        break
        finally:
            for each in asks:
                each.cancel()
        assert values is not None
        if isinstance(values, Exception):
            raise values
        return values

    async def _ask_anew(self, names: Sequence[str]) -> list[Any]:
        async with _client(self._url, READ_S, 1) as client:
            return await _ask(client, names)

    async def close(self) -> None:
        for client in (self._writing, self._reading):
            await client.aclose()


async def _ask(client: Any, names: Sequence[str]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.getrange(name, 0, STORY_MAX_BYTES)
    values: list[Any] = await pipeline.execute(raise_on_error=False)
    return values


async def _caught(asking: Awaitable[list[Any]]) -> list[Any] | Exception:
    try:
        return await asking
    except Exception as exc:  # a lying server breaks the client in ways of its own
        return exc


def _client(url: str, limit_s: float, connections: int) -> Any:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=limit_s,
        socket_timeout=limit_s,
        socket_connect_timeout=limit_s,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)  # and closes it


def _state(exc: Exception) -> StoreState:
    if isinstance(exc, OutOfMemoryError):
        return StoreState.FULL
    if isinstance(exc, AuthenticationError | AuthorizationError):  # which are connection errors, too
        return StoreState.REFUSED
    if isinstance(exc, TimeoutError | StoreTimeoutError):
        return StoreState.SLOW
    if isinstance(exc, StoreConnectionError | OSError):
        return StoreState.GONE
    return StoreState.REFUSED if isinstance(exc, RedisError) else StoreState.GONE
