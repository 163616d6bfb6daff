"""The shell blocks (```sh) of README and docs, and the commands in their sentences: each can be carried out here.

Programs, targets, verbs, options, modules, marks, extras, files and addresses exist. What the README's own blocks do is
carried out by `python -m proofs.first_hour`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pytest

from twentyms import cli

from .test_docs import PAGES, ROOT, code, names_in

TEXTS: Final = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS: Final = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MARKS: Final = {line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
# A path that a server of ours answers, with `{...}` for a part that varies.
ROUTES: Final = [
    re.sub(r"\{\w+\}", "[^/]+", path)
    for file in (*ROOT.glob("gateway/**/*.py"), *ROOT.glob("callbook/**/*.py"))
    for path in re.findall(r"\b(?:WebSocket)?Route\(\s*\"([^\"]+)\"", file.read_text())
]
TOP: Final = {path.name for path in ROOT.iterdir() if path.name[0] != "."} - {"out", "data"}
# Programs that are not ours, and words of the shell.
ELSEWHERE: Final = re.findall(
    r"\S+",
    """
    cd chown cloudflared cp echo git honcho install ip kill mkdir ngrok pkill promtool
    run run() } supervisorctl systemctl twilio useradd your-client
    """,
)


def blocks(text: str) -> Iterator[str]:
    yield from re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(block: str) -> Iterator[list[str]]:
    """The words of each command of a shell block."""
    for line in block.replace("\\\n", " ").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        for word in (*lexer, ";"):
            if set(word) & set("|&;") and not set(word) - set("|&;"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def wrong_with(words: Sequence[str]) -> list[str]:
    """What there is not, of all that a command names."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words:
        return []
    program, arguments = words[0].removeprefix(".venv/bin/"), list(words[1:])
    check = OURS.get(program, lambda _: [] if program in ELSEWHERE else [f"the program {program}"])
    return check(arguments) + [f"the file {word}" for word in arguments if is_missing(word)]


def is_missing(word: str) -> bool:
    """Whether a word is a path of the project that does not exist."""
    path = word.partition("::")[0]
    return "/" in path and path.split("/")[0] in TOP and not any(ROOT.glob(path.rstrip("/")))


@functools.cache
def help_of(*verb: str) -> str:
    said = io.StringIO()
    before, sys.argv = sys.argv, ["twentyms", *verb, "--help"]
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            cli.dispatch()
    finally:
        sys.argv = before
    return said.getvalue()


def options(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("-") and not word[1:].isdecimal()]


def twentyms(words: list[str]) -> list[str]:
    if not words or words[0] in ("--version", "--help", "VERB"):
        return []
    if words[0] not in cli.VERBS:
        return [f"twentyms {words[0]}"]
    parts = 1
    if words[0] == "simulate":
        parts = 3 if words[1:2] == ["network"] else 2
    text = help_of(*words[:parts])
    return [
        f"twentyms {words[0]} {option}"
        for option in options(words[parts:])
        if option != "--help" and not re.search(rf"(?<!\S){option}\b", text)
    ]


def make(words: list[str]) -> list[str]:
    return [f"make {word}" for word in words if "=" not in word and word not in TARGETS and word != "TARGET"]


def python(words: list[str]) -> list[str]:
    if words[:1] != ["-m"]:
        return []
    module, arguments = words[1], words[2:]
    if module.partition(".")[0] in sys.stdlib_module_names:
        return []
    path = ROOT / module.replace(".", "/")
    files = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else list(path.glob("*.py"))
    if not files:
        return [f"python -m {module}"]
    text = "".join(file.read_text() for file in (*files, *path.parent.glob("*.py")))
    return [
        f"python -m {module} {option}"
        for option in options(arguments)
        if f'"{option}"' not in text and option != "--help"
    ]


def pytest_(words: list[str]) -> list[str]:
    wrong = []
    for before, word in zip(["", *words], words, strict=False):
        if before == "-m":
            marks = set(re.findall(r"\w+", word)) - {"not", "and", "or"}
            wrong += [f"the mark {mark}" for mark in marks - MARKS]
        path, _, name = word.partition("::")
        if name and name.partition("[")[0] not in names_in(ROOT / path):
            wrong.append(f"the test {word}")
    return wrong


def curl(words: list[str]) -> list[str]:
    wrong = []
    for word in words:
        found = re.fullmatch(r"(?:https?://)?localhost:\d+(/[^?]*)?(\?.*)?|\$PUBLIC_URL(/.*)", word)
        path = found and (found[1] or found[3])
        if path and not any(re.fullmatch(route, path) for route in ROUTES):
            wrong.append(f"the address {word}")
    return wrong


def pip(words: list[str]) -> list[str]:
    extras = [extra for word in words for extra in re.findall(r"(?:^|twentyms)\.?\[([\w-]+)\]$", word)]
    return [f"the extra {extra}" for extra in extras if extra not in PROJECT["project"]["optional-dependencies"]]


OURS: Final[dict[str, Callable[[list[str]], list[str]]]] = {
    "twentyms": twentyms,
    "make": make,
    "python": python,
    "python3": python,
    "pytest": pytest_,
    "curl": curl,
    "pip": pip,
}


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_of_a_shell_block_can_be_carried_out(page: str) -> None:
    wrong = [
        f"{' '.join(words)}: there is not {each}"
        for block in blocks(TEXTS[page])
        for words in commands(block)
        for each in wrong_with(words)
    ]
    assert not wrong


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_in_a_sentence_can_be_carried_out(page: str) -> None:
    wrong = []
    for token in code(TEXTS[page]):
        program = token.split(" ")[0].removeprefix(".venv/bin/")
        if program not in OURS or " " not in token:
            continue
        wrong += [f"{token}: there is not {each}" for words in commands(token) for each in wrong_with(words)]
    assert not wrong


@pytest.mark.parametrize("page", TEXTS)
def test_every_block_of_commands_is_marked_as_one(page: str) -> None:
    text = re.sub(r"^```\w+\n.*?^```", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    first_lines = re.findall(r"(?:^```\n|\n\n {4})(.+)", text)
    unmarked = [
        line for line in first_lines if line.removeprefix("$ ").split(" ")[0].removeprefix(".venv/bin/") in OURS
    ]
    assert not unmarked


@pytest.mark.parametrize(
    "line",
    [
        "make dmo",
        "twentyms docter",
        "twentyms calls --jsn",
        "twentyms simulate carrier --ur x",
        "python -m proofs.matrx",
        "python -m proofs.matrix --onyl x",
        "pytest tests/nothing.py",
        "pytest tests/test_docs.py::test_nothing",
        "pytest -m slwo",
        "curl 'localhost:9464/api/cals?limit=5'",
        "pip install '.[trace]'",
        "supervisorctl -c deploy/supervisor.conf status",
        "cd deploy/prometheus && promtol check",
    ],
)
def test_a_command_that_cannot_be_carried_out_is_found(line: str) -> None:
    assert [each for words in commands(line) for each in wrong_with(words)]
