"""The core stays pure: no clock, socket or loop can hide in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway.core

FORBIDDEN = {
    "asyncio",
    "zmq",
    "time",
    "socket",
    "threading",
    "logging",
    "websockets",
    "starlette",
    "uvicorn",
    "gateway",
}
MODULES = sorted(Path(gateway.core.__path__[0]).glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_core_module_imports_nothing_that_waits_or_tells_time(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "a core module imports from its shell"
            if node.level == 0:
                imported.add((node.module or "").partition(".")[0])
    assert not imported & FORBIDDEN


def test_there_are_core_modules_to_look_at():
    assert len(MODULES) > 5
