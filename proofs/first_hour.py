"""The README walked by somebody new: an empty Debian with Python, git and make, a clone, a call, an agent of one's own.

Each command is one of the README's shell blocks, and each file one of its other blocks. Prints how long each step took,
and from the clone to two marks: the first call that was answered, and the first tool of one's own that was called.
Then a wheel is built, and the same is done with it where there is no clone.

    python -m proofs.first_hour              # ten minutes, as root; needs debootstrap and the network
    python -m proofs.first_hour --suite trixie

Exit status: 0 when every step worked within its time, 1 when not, 78 when this machine cannot make a chroot.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proofs.chroot import Chroot, debian, missing
from shared.process import EX_CONFIG
from twentyms.stack import free_port, get

ROOT: Final = Path(__file__).resolve().parents[1]
# "Python 3.11 or newer, `git` and `make`", and flite for `twentyms rehearse`. Debian has venv in a package of its own.
PACKAGES: Final = ("python3", "python3-venv", "git", "make", "flite")
HOME: Final = "/home/new"
USER: Final = "1000:1000"
# The mission: from the clone to the first call, and to the first own tool.
CALL_S: Final = 120.0
TOOL_S: Final = 600.0
STEP_S: Final = 280.0
# What the judge says of a promise that a call did not keep. On a busy machine that says little about the README.
BROKEN: Final = "BROKEN:"


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of this language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[str]:
    """The lines of a shell block, without their remarks."""
    return [line.partition(" #")[0].strip() for line in block.splitlines()]


class Walk:
    """Carries out commands as the user, and prints what each took."""

    def __init__(self, system: Chroot) -> None:
        self._system = system
        self._cwd = HOME
        self._ports = (free_port(), free_port())
        self._path = ""
        # What the judge said.
        self.broken: list[str] = []

    def use(self, folder: str) -> None:
        """Put this folder into PATH."""
        self._path = f"{folder}:"

    def cd(self, folder: str) -> None:
        self._cwd = str(Path(self._cwd) / folder)

    @property
    def env(self) -> dict[str, str]:
        """The ports are this machine's: something may run on the usual ones."""
        return {
            "HOME": HOME,
            "PATH": f"{self._path}/usr/local/bin:/usr/bin:/bin",
            "GATEWAY_PORT": str(self._ports[0]),
            "METRICS_PORT": str(self._ports[1]),
        }

    def do(self, command: str, *, expects: str = "") -> str:
        """Carry out one line. Raises RuntimeError when it fails, or does not print what it should.

        The walk goes on after a call that the judge finds bad.
        """
        begun = time.monotonic()
        try:
            printed = self._system.run("sh", "-c", command, env=self.env, cwd=self._cwd, user=USER, timeout_s=STEP_S)
        except RuntimeError as exc:
            printed = str(exc)
            self.broken += [line for line in printed.splitlines() if line.startswith(BROKEN)]
            if BROKEN not in printed:
                raise
        if expects not in printed:
            raise RuntimeError(f"`{command}` did not print {expects!r}:\n{printed[-2_000:]}")
        self._note(command, begun)
        return printed

    def write(self, name: str, text: str) -> None:
        """Do what a reader does with an editor."""
        self._system.path(f"{self._cwd}/{name}").write_text(text)

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """Start a line that does not end, and wait until the phone page is there and calls are taken."""
        if self._is_up():
            raise RuntimeError(f"`{command}` would not be what answers: something is there already")
        begun = time.monotonic()
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            process = self._system.start("sh", "-c", command, env=self.env, cwd=self._cwd, user=USER, output=output)
            try:
                while not self._is_up():
                    if process.poll() is not None or time.monotonic() > begun + STEP_S:
                        output.seek(0)
                        raise RuntimeError(f"`{command}` did not come up:\n{output.read()[-2_000:]}")
                    time.sleep(0.1)
                self._note(f"{command}: the page is there", begun)
                yield
            finally:
                process.kill()
                process.wait()
                while self._is_up():
                    time.sleep(0.05)

    def _is_up(self) -> bool:
        wanted = ((self._ports[0], "/"), (self._ports[0], "/readyz"), (self._ports[1], "/api/calls"))
        return all(get(port, path)[0] == 200 for port, path in wanted)

    def tools_called(self) -> set[str]:
        """The tools of all calls so far, from the records."""
        listed = json.loads(get(self._ports[1], "/api/calls")[1])["calls"]
        calls = [json.loads(get(self._ports[1], f"/api/calls/{call['call_sid']}")[1]) for call in listed]
        return {turn["tool"] for call in calls for turn in call["turns"] if turn["role"] == "tool"}

    def _note(self, what: str, begun: float) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {what}", flush=True)


def clone_and_call(walk: Walk, run_it: str) -> float:
    """Return the seconds from the clone to the end of the first call."""
    begun = time.monotonic()
    demo, run = commands(run_it)
    walk.do("git clone --quiet twentyms.bundle twentyms")
    walk.cd("twentyms")
    with walk.running(run):
        walk.do(".venv/bin/twentyms call")
        called_s = time.monotonic() - begun
    walk.do(demo)
    return called_s


def own_agent(walk: Walk, make_it_yours: str, agent: str, tool: str) -> None:
    """Make an agent with the README's tool, and call it until the tool is called."""
    new, enter, run = commands(make_it_yours)
    walk.do(new)
    walk.cd(enter.removeprefix("cd "))
    walk.write("agent.toml", agent)
    walk.write("my_tools.py", tool)
    walk.do("twentyms check", expects="opening_hours")
    with walk.running(run):
        walk.do("twentyms call")
        called = walk.tools_called()
    if "opening_hours" not in called:
        raise RuntimeError(f"the call did not call the tool of the README, but {called or 'none'}")


def wheel(walk: Walk) -> None:
    """Install a wheel where there is no clone, and do the same with it."""
    walk.do(".venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w ../wheel .")
    walk.do("mv ../twentyms ../gone && mkdir ../elsewhere")
    walk.cd(f"{HOME}/elsewhere")
    walk.do("python3 -m venv .venv && .venv/bin/python -m pip install --quiet ../wheel/*.whl")
    walk.use(f"{HOME}/elsewhere/.venv/bin")
    walk.do("twentyms new my-agent")
    walk.cd("my-agent")
    walk.do("twentyms check", expects="opening_hours")
    walk.do("twentyms rehearse scenarios")
    with walk.running("twentyms run"):
        walk.do("twentyms call")
    walk.do("twentyms demo")


def walk_all(system: Chroot) -> bool:
    """Whether every step worked within its time."""
    readme = (ROOT / "README.md").read_text()
    run_it, make_it_yours = blocks(readme, "sh")[:2]
    home = system.path(HOME)
    home.mkdir(parents=True)
    subprocess.run(("git", "bundle", "create", "--quiet", home / "twentyms.bundle", "HEAD"), cwd=ROOT, check=True)
    subprocess.run(("chown", "-R", USER, home), check=True)
    walk = Walk(system)
    begun = time.monotonic()
    called_s = clone_and_call(walk, run_it)
    walk.use(f"{HOME}/twentyms/.venv/bin")
    walk.cd(HOME)
    own_agent(walk, make_it_yours, blocks(readme, "toml")[0], blocks(readme, "python")[0])
    tool_s = time.monotonic() - begun
    walk.cd(f"{HOME}/twentyms")
    wheel(walk)
    print(f"\nFrom the clone to the first call {called_s:.0f} s, to the first own tool {tool_s:.0f} s.")
    print("\n".join(walk.broken))
    return not walk.broken and called_s <= CALL_S and tool_s <= TOOL_S


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m proofs.first_hour", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="bookworm", help="the Debian to use (default bookworm, with Python 3.11)")
    suite: str = parser.parse_args().suite
    if why := missing():
        print(f"no chroot can be made: {why}", file=sys.stderr)
        return EX_CONFIG
    begun = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="first-hour-") as folder,
            debian(Path(folder) / "debian", suite=suite, packages=PACKAGES) as system,
        ):
            print(
                f"{time.monotonic() - begun:7.1f} s  Debian {suite} with {', '.join(PACKAGES)} (not counted)",
                flush=True,
            )
            return 0 if walk_all(system) else 1
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
