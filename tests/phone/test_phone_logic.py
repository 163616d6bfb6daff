"""The browser phone's own logic, under Node: the simulated network and the ear. Playwright brings its Node along."""

from __future__ import annotations

import subprocess
from pathlib import Path

import playwright

HERE = Path(__file__).parent
NODE = Path(playwright.__file__).parent / "driver" / "node"


def test_the_pages_own_logic_passes_its_tests_under_node() -> None:
    tests = sorted(map(str, HERE.glob("*.test.mjs")))
    done = subprocess.run([NODE, "--test", *tests], capture_output=True, text=True, timeout=30)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
