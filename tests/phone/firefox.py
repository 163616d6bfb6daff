"""Debian's Firefox as Playwright wants it: `python firefox.py FIREFOX ARGUMENTS` in place of `FIREFOX ARGUMENTS`.

Playwright speaks WebDriver BiDi with a Firefox that it did not build. For every page it sends the command
emulation.setMediaFeaturesOverride, which Firefox ESR 153 does not have. This program relays all messages between the
two, and answers that command itself: pages are light.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import sys

import websockets

LISTENING = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")
MISSING = "emulation.setMediaFeaturesOverride"


async def relay(near: websockets.ServerConnection, address: str) -> None:
    """Both directions of one connection, until either end closes it."""
    assert near.request is not None
    async with websockets.connect(address + near.request.path, max_size=None, proxy=None) as far:

        async def forward() -> None:
            async for message in near:
                command = json.loads(message)
                if command["method"] == MISSING:
                    await near.send(json.dumps({"type": "success", "id": command["id"], "result": {}}))
                else:
                    await far.send(message)
            await far.close()

        forwarding = asyncio.create_task(forward())
        async for message in far:
            await near.send(message)
        await near.close()
        await forwarding


async def main() -> int:
    firefox = await asyncio.create_subprocess_exec(*sys.argv[1:], stderr=asyncio.subprocess.PIPE)
    assert firefox.stderr is not None
    async for line in firefox.stderr:
        told = line
        if found := LISTENING.search(line):
            relayed = functools.partial(relay, address=found[1].decode())
            server = await websockets.serve(relayed, "127.0.0.1", 0, max_size=None)
            told = b"WebDriver BiDi listening on ws://127.0.0.1:%d\n" % server.sockets[0].getsockname()[1]
        os.write(2, told)
    return await firefox.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
