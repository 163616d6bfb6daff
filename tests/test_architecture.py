"""The import graph of the project: no circle, processes that share only `shared/`, and cores that reach no I/O.

The graph is read from the source, so it holds imports inside functions and under TYPE_CHECKING, too.
`python tests/test_architecture.py` prints it, one module a line; with `--dot`, for Graphviz.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PROCESSES: Final = ("gateway", "txpacer", "aibridge", "callbook", "toolbox")
# Each folder, and the folders that its modules may import beside their own.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "shared": set(),
    **{process: {"shared"} for process in PROCESSES},
    # A product of its own: it runs without the system that it tests.
    "simulator": {"shared"},
    "proofs": {*PROCESSES, "shared", "simulator", "twentyms"},
    "twentyms": {*PROCESSES, "shared", "simulator", "proofs"},
    "benchmarks": {*PROCESSES, "shared", "simulator", "twentyms", "proofs"},
}
# Pure modules beside every `core/`; the name of a package stands for all its modules.
PURE: Final = {
    "aibridge.models.port",
    *(f"proofs.{name}" for name in ("acts", "alignment", "excuses", "inbound", "judge", "retold", "spoken", "verdict")),
    *(f"shared.{name}" for name in ("audio", "channel", "facts", "liveness", "messages", "metrics", "plan", "signing")),
    *(f"simulator.carrier.{name}" for name in ("call", "caller", "ear", "twiml")),
    "simulator.model",
    *("twentyms.finding", "twentyms.realtime_rules"),
}
# The I/O in a package of PURE.
SHELLS: Final = {"simulator.model.server"}
# What waits, tells the time, talks to the kernel or does I/O. A name stands for everything below it.
FORBIDDEN: Final = {
    *("asyncio", "concurrent", "multiprocessing", "sched", "subprocess", "threading", "uvloop"),
    *("select", "selectors", "signal", "socket", "socketserver", "ssl", "http.client", "http.server", "urllib.request"),
    *("ctypes", "fcntl", "gc", "io", "logging", "mmap", "os", "resource", "shutil", "sqlite3", "tempfile", "time"),
    *("aiohttp", "alembic", "honcho", "httpx2", "openai", "prometheus_client", "psycopg", "pydantic_settings"),
    *("sqlalchemy", "starlette", "twilio.http", "twilio.rest", "uvicorn", "websockets", "zmq"),
}

Graph = Mapping[str, frozenset[str]]


def modules(root: Path) -> dict[str, Path]:
    """Every module of the project by its dotted name; a package is the module in its `__init__.py`."""
    found = {}
    for folder in (*MAY_IMPORT, "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found[name] = path
    return found


def imported(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Dotted names of what a module imports, wherever the import stands in it; a submodule by its full name."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join((*above, *filter(None, [node.module])))
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base


def graph(root: Path) -> dict[str, frozenset[str]]:
    """What each module imports: modules of the project, and libraries. Importing a module also runs its packages."""
    known = modules(root)
    edges = {}
    for name, path in known.items():
        direct = set(imported(name, path, known))
        packages = {parent for each in direct for parent in parents(each) if parent in known}
        edges[name] = frozenset((direct | packages) - {name})
    return edges


def parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def chain(edges: Graph, start: str, is_wanted: Callable[[str], bool]) -> list[str]:
    """The shortest chain of imports from `start` to a wanted name; [] when there is none."""
    chains = [[start]]
    seen = {start}
    for way in chains:
        for target in sorted(edges.get(way[-1], ())):
            if is_wanted(target):
                return [*way, target]
            if target not in seen:
                seen.add(target)
                chains.append([*way, target])
    return []


def circles(edges: Graph) -> set[str]:
    """For each module that stands in a circle a shortest one, written from its first name in the alphabet."""
    found = set()
    for start in edges:
        ring = chain(edges, start, start.__eq__)[:-1]
        if ring:
            first = ring.index(min(ring))
            found.add(" -> ".join((*ring[first:], *ring[:first], ring[first])))
    return found


def is_forbidden(name: str) -> bool:
    return name in FORBIDDEN or not FORBIDDEN.isdisjoint(parents(name))


def is_pure(name: str) -> bool:
    return (".core." in name or not PURE.isdisjoint((name, *parents(name)))) and name not in SHELLS


CORES: Final = sorted(name for name in modules(ROOT) if is_pure(name) and not name.startswith("tests."))


@cache
def edges_here() -> dict[str, frozenset[str]]:
    """The graph of this project, drawn by the first test that needs it: every process of pytest imports this file."""
    return graph(ROOT)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circles(edges_here())


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_the_folders_that_it_may(folder: str) -> None:
    allowed = MAY_IMPORT[folder] | {folder}
    wrong = {
        f"{name} -> {target}"
        for name, targets in edges_here().items()
        for target in targets
        if name.partition(".")[0] == folder
        and target.partition(".")[0] in {*MAY_IMPORT, "tests"}
        and target.partition(".")[0] not in allowed
    }
    assert not wrong


@pytest.mark.parametrize("name", CORES)
def test_a_pure_module_reaches_no_io_clock_or_loop_through_any_import(name: str) -> None:
    way = chain(edges_here(), name, is_forbidden)
    assert not way, " -> ".join(way)


@pytest.mark.parametrize("name", [name for name in CORES if ".core." in name])
def test_a_core_imports_no_shell_of_its_own_process(name: str) -> None:
    process = name.partition(".")[0]
    own = {target for target in edges_here()[name] if target.startswith(f"{process}.")}
    packages = {parent for target in own for parent in parents(target)}
    assert not {target for target in own - packages if not is_pure(target)}


def test_every_pure_module_exists_and_every_process_has_a_core() -> None:
    assert not PURE - edges_here().keys()
    assert {name.partition(".")[0] for name in CORES if ".core." in name} >= {
        process for process in PROCESSES if (ROOT / process).is_dir()
    }


def test_the_graph_holds_relative_imports_and_those_in_functions_and_under_type_checking(tmp_path: Path) -> None:
    (tmp_path / "gateway" / "core").mkdir(parents=True)
    for path, text in {
        "gateway/__init__.py": "",
        "gateway/core/__init__.py": "",
        "gateway/core/calls.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..media import Media\n",
        "gateway/media.py": "def late():\n    from .core import calls\n    import os.path\n",
    }.items():
        (tmp_path / path).write_text(text)
    edges = graph(tmp_path)
    assert chain(edges, "gateway.core.calls", is_forbidden) == ["gateway.core.calls", "gateway.media", "os.path"]
    assert circles(edges) == {"gateway.core.calls -> gateway.media -> gateway.core.calls"}


def main() -> None:
    project = {
        name: sorted(targets & edges_here().keys())
        for name, targets in edges_here().items()
        if not name.startswith("tests.")
    }
    if "--dot" in sys.argv:
        arrows = [f'  "{name}" -> "{target}";' for name, targets in project.items() for target in targets]
        print("digraph twentyms {", *arrows, "}", sep="\n")
    else:
        print(*(f"{name}: {' '.join(targets)}" for name, targets in project.items() if targets), sep="\n")


if __name__ == "__main__":
    main()
