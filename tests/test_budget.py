"""What each process loads at its start. Every library that nobody uses at rest is memory and time for nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
# pydantic reads the settings, in a child; Alembic migrates, in a child; the others are loaded by what first needs them.
# argparse is for a process with arguments, difflib for a misspelt word, zoneinfo for an agent with a time zone.
HEAVY: Final = {
    "argparse",
    "difflib",
    "zoneinfo",
    "google.protobuf",
    "redis",
    "aiohttp",
    "alembic",
    "httpx2",
    "mcp",
    "openai",
    "pydantic",
    "pydantic_settings",
    "requests",
    "twilio.rest",
}
# What each process must not load, and the modules that it wires.
LOADS: Final = {
    "gateway": ("gateway.__main__", HEAVY | {"dotenv", "websockets.asyncio.client", "sqlalchemy", "prometheus_client"}),
    # It has no event loop of asyncio's, which takes 6 MB.
    "txpacer": (
        "txpacer.__main__",
        HEAVY
        | {"dotenv", "shutil", "tempfile", "asyncio", "ssl", "uvloop", "sqlalchemy", "prometheus_client", "starlette"},
    ),
    "aibridge": ("aibridge.__main__", HEAVY | {"dotenv", "sqlalchemy", "prometheus_client", "starlette", "webrtcvad"}),
    "callbook": ("callbook.__main__", HEAVY | {"dotenv", "sqlalchemy.dialects.postgresql"}),
    "toolbox": ("toolbox.__main__", HEAVY | {"sqlalchemy", "prometheus_client", "starlette"}),
}


@pytest.mark.parametrize("process", LOADS)
def test_a_process_loads_no_library_that_it_does_not_use_at_rest(process: str) -> None:
    module, unwanted = LOADS[process]
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not unwanted & set(loaded.split())
