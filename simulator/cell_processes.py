"""The processes of one cell as the kernel sees them: who is alive, what it holds, and what it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# As they stand in the command line behind `-m`.
MODULES: Final = {"txpacer": "txpacer", "aibridge": "aibridge", "gateway": "gateway", "gateway.callbook": "callbook"}


@dataclass(frozen=True)
class Process:
    """One process. `number` counts from 1 among its kind."""

    pid: int
    name: str
    number: int

    def usage(self) -> tuple[int, int, int]:
        """Resident kB, open descriptors, threads. Raises OSError when it is gone."""
        path = Path(f"/proc/{self.pid}")
        fields = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines() if ":" in line)
        return int(fields["VmRSS"].split()[0]), len(list((path / "fd").iterdir())), int(fields["Threads"])


def processes(run_dir: Path) -> list[Process]:
    """Those that run in `run_dir`, by name and number."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes().decode().split("\0")
            variables = (path / "environ").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if f"RUN_DIR={run_dir}" not in variables or "-m" not in arguments:
            continue
        name = MODULES.get(arguments[arguments.index("-m") + 1])
        if name is not None:
            environment = dict(each.partition("=")[::2] for each in variables)
            number = environment.get("HONCHO_PROCESS_NAME", "").rpartition(".")[2]
            found.append(Process(int(path.name), name, int(number) if number.isdigit() else 1))
    return sorted(found, key=lambda each: (each.name, each.number))


def pacing(run_dir: Path) -> Process:
    """The txpacer that paces, not the one that stands by: it holds the lock."""
    lock = (run_dir / "txpacer.lock").stat()
    owners = {
        int(line.split()[4])
        for line in Path("/proc/locks").read_text().splitlines()
        if "->" not in line and line.split()[5].endswith(f":{lock.st_ino}")
    }
    return next(each for each in processes(run_dir) if each.name == "txpacer" and each.pid in owners)
