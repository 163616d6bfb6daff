"""Import the Python tools of the agents as toolbox does, in a process of their own, and say what they offer.

`python -m twentyms.tool_files FILE...` is that process; a file that hangs or exits ends only it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from toolbox.config import AgentSources, name_fault
from toolbox.runners import python_tools

# Files import their libraries: seconds on a slow disk.
LOAD_S: Final = 20.0


def examine(agents: list[AgentSources], env: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(a line for each agent's tools, a line for each mistake). `env` is the environment of the tools' processes."""
    lines: list[str] = []
    problems: list[str] = []
    for agent in agents:
        found: set[str] = set()
        for source, prefix in agent.sources:
            if source.kind == "python":
                files: list[str] = json.loads(source.config)
                names, problem = _load(files, env)
                if problem:
                    problems.append(f"{Path(files[0]).parent}/{problem}; correct it")
                else:
                    lines.append(f"{agent.agent}: {', '.join(names)}")
            else:
                lines.append(f"{agent.agent}: {source.label}, not asked")
                every = json.loads(source.config) if source.kind == "http" else ()
                names = [name.removeprefix(prefix) for name in every if name.startswith(prefix)]
            for name in names:
                if why := name_fault(name, found):
                    whose = f"agent {agent.agent}: the tool {name} of {source.label}"
                    problems.append(f"{whose}: its name is {why}; rename it")
                found.add(name)
    return lines, problems


def _load(files: list[str], env: Mapping[str, str]) -> tuple[list[str], str]:
    """The names of the tools, or what is wrong."""
    labels = ", ".join(Path(file).name for file in files)
    command = [sys.executable, "-m", "twentyms.tool_files", *files]
    try:
        done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=LOAD_S)
    except subprocess.TimeoutExpired:
        return [], f"{labels}: the import did not end within {LOAD_S:.0f} s"
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return [], f"{labels}: the import ended the process (exit status {done.returncode})"
    return answer["tools"], answer["problem"]


def main(files: list[str]) -> None:
    answer: dict[str, object] = {"tools": [], "problem": ""}
    # What the files print is theirs.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer["tools"] = list(python_tools.load(files))
        except python_tools.CannotLoadError as exc:
            answer["problem"] = str(exc)
    print(f"\n{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
