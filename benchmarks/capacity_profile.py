"""The functions in which each process spends its time during calls.

`python -m benchmarks.capacity --calls 60 --profile`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.process import ConfigError

TOP: Final = 40


def profiler(directory: Path, seconds: float) -> Callable[[dict[int, str]], None]:
    """A function that profiles processes, by pid, for `seconds`. It writes `directory`/profile-NAME.txt.

    Raises ConfigError without py-spy.
    """
    # The py-spy beside this Python, whatever the PATH says.
    py_spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if py_spy is None:
        raise ConfigError("--profile needs py-spy: .venv/bin/python -m pip install -e '.[profile]'")

    def record(processes: dict[int, str]) -> None:
        """Sampling stops no process, so its cost is the bench's."""
        stacks = {pid: directory / f"profile-{name}-{pid}.raw" for pid, name in processes.items()}
        command = [py_spy, "record", "--nonblocking", "--function", "--rate", "200", "--format", "raw"]
        command += ["--duration", f"{seconds:.0f}"]
        started = [
            subprocess.Popen([*command, "--pid", str(pid), "--output", str(path)], stdout=subprocess.DEVNULL)
            for pid, path in stacks.items()
        ]
        for each in started:
            each.wait()
        for pid, path in stacks.items():
            if path.exists():
                (directory / f"profile-{processes[pid]}.txt").write_text(_table(path.read_text().splitlines()))
                path.unlink()

    return record


def _table(stacks: list[str]) -> str:
    """The functions most often at the top of a stack, and how often each is anywhere in a stack."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        names = frames.split(";")
        own[names[-1]] += int(count)
        total.update(dict.fromkeys(names, int(count)))
    samples = max(1, sum(own.values()))
    rows = (f"{100 * n / samples:5.1f} {100 * total[name] / samples:6.1f}  {name}" for name, n in own.most_common(TOP))
    return "\n".join([f"own %  all %  of {samples} samples", *rows]) + "\n"
