"""What docs/ and every README.md name exists: links, files, functions, commands, settings with their defaults, metrics.

A file is written `folder/file.py` from the project's root or the page's folder, and what is in it
`folder/file.py:Class.method`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest

import shared.messages
from shared.settings import Settings
from twentyms.cli import VERBS

ROOT: Final = Path(__file__).parents[1]
# What a bench installs into out/ has pages of its own.
PAGES: Final = [
    *sorted(page for top in ROOT.glob("[!.]*/") if top.name != "out" for page in top.rglob("README.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS: Final = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
ARCHITECTURE: Final = TEXTS["docs/architecture.md"]
TOP: Final = {path.name for path in ROOT.iterdir()} - {"out", "data"}
FOLDERS: Final = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"benchmarks"}
SOURCES: Final = [path for folder in sorted(FOLDERS) for path in sorted((ROOT / folder).rglob("*.py"))]
# The unions of shared/messages.py by the row of the table that lists them.
ROWS: Final = {
    "gateway to aibridge": "GatewayToBridge",
    "aibridge to gateway": "BridgeToGateway",
    "aibridge to txpacer": "BridgeToPacer",
    "txpacer to aibridge": "PacerToBridge",
    "txpacer to gateway": "PacerToGateway",
    "gateway to txpacer": "GatewayToPacer",
    "aibridge to toolbox": "BridgeToToolbox",
    "toolbox to aibridge": "ToolboxToBridge",
    "gateway to callbook, with `STATE_URL`": "GatewayToStore",
    "callbook to gateway, with `STATE_URL`": "StoreToGateway",
}


def code(text: str) -> Iterator[str]:
    """Everything in backticks, and each line of a code block."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    text = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))
    yield from re.findall(r"`([^`\n]+)`", text)


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of each table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names_in(path: Path) -> set[str]:
    """Qualified names of the classes, functions and constants of a Python file."""
    found = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse(path.read_text()).body, "")
    return found


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sections(text: str) -> set[str]:
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", TEXTS)
def test_relative_links_lead_to_a_file_and_a_section(page: str) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, section = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (section and section not in sections(file.read_text())):
            wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_what_is_in_them_exist(page: str) -> None:
    wrong = []
    for token in code(TEXTS[page]):
        for word in re.findall(r"(?<![\w./:=-])[\w.-]+/[\w./*-]*(?::[\w.]+)?|(?<![\w./-])\w+\.py\b(?::[\w.]+)?", token):
            path, _, name = word.partition(":")
            # Files called my_... are the reader's own.
            if (path.split("/")[0] not in TOP and not path.endswith(".py")) or "my_" in path:
                continue
            files = [file for folder in (ROOT, (ROOT / page).parent) for file in folder.glob(path.rstrip("/") or "-")]
            if not files or (name and not name.isdigit() and name not in names_in(files[0])):
                wrong.append(word)
    assert not wrong


@pytest.mark.parametrize("page", TEXTS)
def test_commands_exist(page: str) -> None:
    wrong = []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for token in code(TEXTS[page]):
        wrong += [
            f"python -m {module}"
            for module in re.findall(r"python -m ([\w.]+)", token)
            if module.split(".")[0] not in sys.stdlib_module_names
            and not (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
            and not (ROOT / module.replace(".", "/") / "__main__.py").exists()
        ]
        wrong += [
            f"twentyms {verb}"
            for verb in re.findall(r"(?<![/\w])(?<!from )twentyms ([a-z]\w*)", token)
            if verb not in VERBS
        ]
        wrong += [f"make {target}" for target in re.findall(r"^make ([a-z][\w-]*)", token) if target not in targets]
    assert not wrong


@pytest.mark.parametrize("page", TEXTS)
def test_settings_exist_and_have_the_default_that_a_table_gives(page: str) -> None:
    wrong = []
    defaults = {each.name.upper(): each.default for each in fields(Settings)}
    for token in code(TEXTS[page]):
        wrong += [
            name
            for name in re.findall(r"^([A-Z]+_[A-Z_]+)(?:=|$)", token)
            if name not in defaults and not name.startswith(ELSEWHERE)
        ]
    in_table = False
    for cells in rows(TEXTS[page]):
        if cells[:2] == ["name", "default"]:
            in_table = True
        name = cells[0].strip("`")
        if in_table and name in defaults and not is_default(cells[1].strip("`"), defaults[name]):
            wrong.append(f"{name}: {cells[1]} is not {defaults[name]!r}")
    assert not wrong


# Names in capitals that are not settings of twentyms: the kernel's, systemd's, a test's.
ELSEWHERE: Final = (
    "CAP_",
    "RLIMIT_",
    "SCHED_",
    "SO_",
    "CONFIG_",
    "IPC_LOCK",
    "SYS_NICE",
    "CLOCK_",
    "TCP_",
    "ORDER_CALLS",
    # Names that operators of such systems know from elsewhere.
    "TX_STALL",
    "TX_METRICS",
    "TX_SEND_SLOW",
    "FIRST_FRAME_SENT",
)


def is_default(text: str, default: Any) -> bool:
    """A table may describe a default that is empty in words."""
    return default in ("", None) or text == str(default) or text.replace(".", "") == str(default).replace(".0", "")


def metrics_of(folder: str) -> set[str]:
    """The names of the metrics that the code in `folder` defines."""
    text = "\n".join(path.read_text() for path in (ROOT / folder).rglob("*.py"))
    return set(re.findall(r"\b(?:counter|gauge|histogram)\(\s*\"(\w+)\"", text))


# The word that begins the names of a process's metrics.
WORDS: Final = {name: name for name in ("gateway", "aibridge", "callbook", "toolbox")} | {"txpacer": "tx"}
METRICS: Final = {folder: metrics_of(folder) for folder in (*WORDS, "shared")}
DEFINED: Final = {name for names in METRICS.values() for name in names} | {"build_info"}
SUFFIXES: Final = ("_total", "_bucket", "_sum", "_count")


def is_metric(name: str) -> bool:
    return name in DEFINED or any(name.removesuffix(suffix) in DEFINED for suffix in SUFFIXES)


@pytest.mark.parametrize("page", TEXTS)
def test_metrics_exist(page: str) -> None:
    """`twentyms_` may be left out. A name that ends in `_` is a prefix."""
    short = "|".join(WORDS.values())
    wrong = set()
    for token in code(TEXTS[page]):
        for whole, name in re.findall(rf"(?<![\w./-])(twentyms_(\w+)|(?:{short})_\w+)(?![\w./(])", token):
            name = name or whole
            if not name.endswith("_") and not is_metric(name):
                wrong.add(whole)
    assert not wrong


@pytest.mark.parametrize("path", ["deploy/prometheus/alerts.yml", "deploy/grafana/twentyms.json"])
def test_dashboard_and_alerts_name_metrics_that_exist(path: str) -> None:
    named = re.findall(r"\btwentyms_(\w+)", (ROOT / path).read_text())
    assert named
    assert not {name for name in named if not is_metric(name)}


@pytest.mark.parametrize(("folder", "word"), WORDS.items())
def test_the_metrics_of_a_process_begin_with_its_word(folder: str, word: str) -> None:
    stall = {"tx_stall", "tx_stall_seconds"} if folder == "gateway" else set()
    every = {name for name in METRICS["callbook"] if name.startswith("process_")} if folder == "callbook" else set()
    assert not {name for name in METRICS[folder] - METRICS["shared"] - stall - every if not name.startswith(f"{word}_")}


@pytest.mark.parametrize("row", ROWS)
def test_the_architecture_lists_every_message_between_two_processes(row: str) -> None:
    listed = next(cells for cells in rows(ARCHITECTURE) if cells[0] == row)
    union = getattr(shared.messages, ROWS[row])
    assert set(re.findall(r"`(\w+)`", listed[1])) == {message.__name__ for message in union.__args__}


def test_classes_that_the_architecture_names_exist() -> None:
    known = {name.rpartition(".")[2] for path in SOURCES for name in names_in(path)}
    named = {token for token in code(ARCHITECTURE) if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", token)}
    assert not named - known


def test_the_architecture_names_every_folder_of_the_project() -> None:
    assert not FOLDERS - {cells[0].strip("`/") for cells in rows(ARCHITECTURE)}
