"""Carries out a Dockerfile without a container engine: each stage is a Debian in a folder, each RUN a command in it.

It knows the instructions that deploy/container/Dockerfile needs, and refuses others. Two things differ from an engine:
a base image `python:3.13-slim-trixie` is Debian trixie with its own Python (of the same version), and what is copied
from uv's image is the same program from PyPI.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from .chroot import PATH, Chroot, debian

# What the base image has and Debian's smallest variant has not.
_PACKAGES: Final = ("python3", "python3-venv")
_UV_IMAGE: Final = re.compile(r".*/uv:(\d+\.\d+)$")
_DESCRIPTIONS: Final = frozenset({"EXPOSE", "LABEL", "STOPSIGNAL"})


class DockerfileError(Exception):
    """An instruction that is not carried out here."""


@dataclass
class Stage:
    """One FROM with its instructions, as (name, argument)."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Image:
    """What an engine would start."""

    system: Chroot
    env: dict[str, str]
    user: str
    cwd: str
    command: list[str]
    health: list[str]


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile. Raises DockerfileError for an instruction before the first FROM."""
    found: list[Stage] = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, argument = line.strip().partition(" ")
        if not name:
            continue
        if name == "FROM":
            base, _, stage = argument.partition(" AS ")
            found.append(Stage(base.strip(), stage.strip()))
        elif not found:
            raise DockerfileError(f"{name} stands before FROM")
        else:
            found[-1].steps.append((name, argument.strip()))
    return found


@contextmanager
def built(dockerfile: Path, checkout: Path, folder: Path) -> Iterator[Image]:
    """Carry out `dockerfile` on the files that git knows in `checkout`. `folder` is removed at the end."""
    made = stages(dockerfile.read_text())
    (suite,) = {_suite(stage.base) for stage in made}
    with debian(folder / "base", suite=suite, packages=_PACKAGES) as base:
        context = Chroot(folder / "context")
        context.copy_checkout(checkout, "/")
        for pattern in Path(f"{dockerfile}.dockerignore").read_text().split():
            _remove(context.root, pattern)
        try:
            roots: dict[str, Chroot] = {}
            for stage in made:
                system = Chroot(folder / f"stage-{stage.name or 'last'}")
                subprocess.run(("cp", "-a", "--reflink=auto", str(base.root), str(system.root)), check=True)
                image = _carry_out(stage, system, context, roots)
                roots[stage.name] = system
            yield image
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _suite(base: str) -> str:
    named = re.fullmatch(r"python:[\d.]+-slim-(\w+)", base)
    if named is None:
        raise DockerfileError(f"a base image {base} is not known here")
    return named[1]


def _carry_out(stage: Stage, system: Chroot, context: Chroot, roots: dict[str, Chroot]) -> Image:
    env: dict[str, str] = {}
    cwd, user = "/", "0:0"
    command: list[str] = []
    health: list[str] = []
    for name, argument in stage.steps:
        match name:
            case "RUN":
                system.run("sh", "-ec", argument, env=env, cwd=cwd, user=user, timeout_s=600)
            case "COPY":
                _copy(argument, system, context, roots, cwd)
            case "ENV":
                for each in shlex.split(argument):
                    key, _, value = each.partition("=")
                    env[key] = value.replace("$PATH", env.get("PATH", PATH))
            case "WORKDIR":
                cwd = argument
                system.path(cwd).mkdir(parents=True, exist_ok=True)
            case "USER":
                user = f"{argument}:{argument}"
            case "CMD":
                command = _listed(argument)
            case "HEALTHCHECK":
                health = _listed(argument.partition("CMD")[2])
            case _ if name not in _DESCRIPTIONS:
                raise DockerfileError(f"{name} is not known here")
    return Image(system, env, user, cwd, command, health)


def _listed(argument: str) -> list[str]:
    """The words of `["a", "b"]`: no shell takes part."""
    inner = re.fullmatch(r"\s*\[(.*)\]\s*", argument)
    if inner is None:
        raise DockerfileError(f"a command in a shell: {argument}")
    return [each.rstrip(",") for each in shlex.split(inner[1])]


def _copy(argument: str, system: Chroot, context: Chroot, roots: dict[str, Chroot], cwd: str) -> None:
    words = argument.split()
    options = [word for word in words if word.startswith("--")]
    *sources, target = (word for word in words if not word.startswith("--"))
    origin = options[0].removeprefix("--from=") if options else ""
    place = system.path(target if target.startswith("/") else f"{cwd}/{target}")
    if uv := _UV_IMAGE.match(origin):
        system.run("python3", "-m", "venv", "/tmp/uv")
        system.run("/tmp/uv/bin/pip", "install", "--quiet", f"uv=={uv[1]}.*")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(system.path("/tmp/uv/bin/uv"), place)
        shutil.rmtree(system.path("/tmp/uv"))
        return
    for source in sources:
        given = (roots[origin] if origin else context).path(source)
        into = place / given.name if target.endswith("/") and given.is_file() else place
        if given.is_dir():
            shutil.copytree(given, place, symlinks=True, dirs_exist_ok=True)
        else:
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(given, into)


def _remove(root: Path, pattern: str) -> None:
    """Take out what a line of .dockerignore names."""
    for path in sorted(root.rglob("*"), reverse=True):
        name = path.relative_to(root).as_posix()
        if fnmatch(name, pattern) or (pattern.startswith("**/") and fnmatch(path.name, pattern[3:])):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
