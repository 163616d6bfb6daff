"""The core decides and never does: it may not even be able to."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import aibridge.core

FORBIDDEN = {"asyncio", "zmq", "time", "socket", "threading", "select", "uvloop", "websockets", "logging"}
MODULES = sorted(Path(next(iter(aibridge.core.__path__))).glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_core_module_imports_no_clock_and_no_socket(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add((node.module or "").split(".")[0])
    assert not imported & FORBIDDEN
