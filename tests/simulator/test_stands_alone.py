"""The simulator is a product of its own: it runs without the system that it tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import simulator
from simulator.model.behaviour import Behaviour

ROOT = Path(simulator.__file__).parent
# The audio of a phone line, WebSocket connections for many calls in one process, timers and priorities.
SHARED = {"shared.audio", "shared.gather", "shared.isolation", "shared.process", "shared.websocket"}


def test_the_simulator_imports_only_audio_sockets_and_timers_of_the_rest_of_the_project() -> None:
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    ours = {path.name for path in ROOT.parent.iterdir() if (path / "__init__.py").exists()} - {"simulator"}
    assert {name for name in found if name.partition(".")[0] in ours} == SHARED


def test_both_ends_start_without_any_process_of_the_system() -> None:
    code = "import sys, simulator.model.server, simulator.carrier.client, simulator.carrier.rest; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    processes = {"gateway", "txpacer", "aibridge", "callbook", "toolbox", "twentyms", "proofs"}
    assert not processes & {name.partition(".")[0] for name in loaded.stdout.split()}


def test_the_behaviour_in_the_readme_is_valid() -> None:
    (text,) = re.findall(r"echo '(\{.*\})' > nasty.json", (ROOT / "README.md").read_text())
    assert len(Behaviour.from_json(text).responses) == 3


def test_the_python_of_the_readme_places_a_call_as_written() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    # A port where nobody listens: the call fails, and says so.
    done = subprocess.run(
        [sys.executable, "-c", code.replace("127.0.0.1:8080", "127.0.0.1:1")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    assert done.stdout.startswith("failed")
    assert "11200" in done.stdout
