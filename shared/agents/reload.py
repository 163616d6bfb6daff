"""SIGHUP: read the agents again, beside the work of the process, and use them for new calls if all of them are good."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from .directory import AgentsError

# How long the reading thread may keep the loop's thread from running. Python's own 5 ms would make frames late.
SWITCH_S: Final = 0.0005

_T = TypeVar("_T")


class Reload(Generic[_T]):
    """`read` runs in a thread, and `use` on the loop with what it returned. A mistake leaves everything as it was."""

    def __init__(self, read: Callable[[], _T], use: Callable[[_T], None], log: logging.Logger) -> None:
        self._read = read
        self._use = use
        self._log = log
        self._is_asked = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Read the agents soon. A signal during the reading makes it read once more."""
        self._is_asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._is_asked:
            self._is_asked = False
            before_s = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_S)
            try:
                read = await asyncio.to_thread(self._read)
            except AgentsError as exc:
                for problem in exc.problems:
                    self._log.error("SIGHUP: %s", problem)
                self._log.error("SIGHUP: the agents stay as they were")
            else:
                self._use(read)
                self._log.info("SIGHUP: the agents were read again, for new calls")
            finally:
                sys.setswitchinterval(before_s)
