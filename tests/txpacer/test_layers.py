"""The core is a function of time: it may not even be able to tell it, or to wait."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import txpacer.core

FORBIDDEN = {"asyncio", "zmq", "time", "socket", "threading", "select", "signal", "os", "gc", "logging"}
MODULES = sorted(Path(next(iter(txpacer.core.__path__))).glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_core_module_imports_no_clock_and_no_socket(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "a core module imports from its shell"
            if not node.level:
                imported.add((node.module or "").split(".")[0])
    assert not imported & FORBIDDEN


def test_there_are_core_modules_to_look_at() -> None:
    assert {path.stem for path in MODULES} >= {"line", "pacer", "metrics"}
