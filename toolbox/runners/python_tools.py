"""A child that runs the Python tools of an agent: it imports their files once, and then runs one call after the other.

A plain function runs in the main thread, and nothing but a kill can stop it. An async function runs on a loop that
also reads the socket, so that it can be cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import msgspec
from pydantic_core import to_json

from ..core.answers import NO_SUCH_TOOL, cut
from ..decorator import MARK, CallContext, Options, ToolError
from ..pipe import CannotStart, Ended, Frames, Offered, RunTool, Setup, StopTool, ToChild, frame
from .limits import limit_memory
from .signatures import ArgumentsError, Signature, UnusableError

_DONE: Final = "Done."


class CannotLoadError(Exception):
    """A file of tools cannot be used; the text says where, and why."""


def load(files: list[str]) -> dict[str, Signature]:
    """The tools of these files by name. Raises CannotLoadError."""
    tools: dict[str, Signature] = {}
    for path in map(Path, files):
        module = _import(path)
        for value in list(vars(module).values()):
            options = getattr(value, MARK, None)
            if not isinstance(options, Options):
                continue
            try:
                signature = Signature(value, options)
            except UnusableError as exc:
                raise CannotLoadError(f"{path.name}: {exc}") from None
            other = tools.setdefault(signature.offer.name, signature)
            if other.function is not value:
                raise CannotLoadError(f"{path.name}: there are two tools with the name {signature.offer.name}")
    if not tools:
        raise CannotLoadError(f"{', '.join(Path(file).name for file in files)}: no function has @tool")
    return tools


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # For files that the tools import from beside them, and for type hints, which are looked up in sys.modules.
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise CannotLoadError(f"{_where(exc, path)}: {type(exc).__name__}: {exc}") from None
    return module


def _where(exc: BaseException, path: Path) -> str:
    """The last line of the tools' file that an exception passed."""
    if isinstance(exc, SyntaxError) and exc.filename == str(path):
        return f"{path.name}, line {exc.lineno}"
    lines = [each.lineno for each in traceback.extract_tb(exc.__traceback__) if each.filename == str(path)]
    return f"{path.name}, line {lines[-1]}" if lines else path.name


class Child:
    """`run` returns when toolbox closes the socket."""

    def __init__(self, sock: socket.socket, tools: dict[str, Signature]) -> None:
        self._sock = sock
        self._tools = tools
        self._frames = Frames(ToChild)
        self._runner: asyncio.Runner | None = None
        # Another process takes the next call: this one's memory is full.
        self._is_spent = False

    def run(self) -> None:
        self._sock.sendall(frame(Offered(tuple(signature.offer for signature in self._tools.values()))))
        while data := self._sock.recv(65_536):
            for message in self._frames.feed(data):
                if isinstance(message, RunTool):
                    self._sock.sendall(frame(self._answer(message)))
                    if self._is_spent:
                        return

    def _answer(self, run: RunTool) -> Ended:
        outcome: Literal["done", "failed", "refused"]
        signature = self._tools.get(run.tool)
        if signature is None:  # its file was changed; other children have read it since
            return Ended(run.number, "refused", NO_SUCH_TOOL)
        try:
            context = CallContext(**msgspec.structs.asdict(run.context))
            values = signature.bind(run.arguments, context)
            value = self._run_async(signature, values) if signature.is_async else signature.function(**values)
            outcome, output = "done", _text(value)
        except ArgumentsError as exc:
            outcome, output = "refused", f"The arguments do not fit: {exc}"
        except ToolError as exc:
            outcome, output = "failed", str(exc)
        except asyncio.CancelledError:
            outcome, output = "failed", "The tool was stopped."
        except BaseException as exc:
            self._is_spent = isinstance(exc, MemoryError)
            # The text of an exception may quote a caller, so only its place goes into the log.
            files = {signature.function.__code__.co_filename} if hasattr(signature.function, "__code__") else set()
            where = [each for each in traceback.extract_tb(exc.__traceback__) if each.filename in files]
            place = f" at {Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
            print(f"{run.tool} raised {type(exc).__name__}{place}", file=sys.stderr, flush=True)
            outcome, output = "failed", f"The tool failed ({type(exc).__name__})."
        return Ended(run.number, outcome, cut(output).encode("utf-8", "replace").decode(), self._is_spent)

    def _run_async(self, signature: Signature, values: dict[str, Any]) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._watched(signature, values))

    async def _watched(self, signature: Signature, values: dict[str, Any]) -> Any:
        """Run the tool, and cancel it when toolbox asks for that or is gone."""
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(signature.function(**values))

        def read() -> None:
            data = self._sock.recv(65_536)
            if not data:
                loop.remove_reader(self._sock)
                task.cancel()
            for message in self._frames.feed(data):
                if isinstance(message, StopTool):
                    task.cancel()

        loop.add_reader(self._sock, read)
        try:
            return await task
        finally:
            with contextlib.suppress(ValueError, OSError):
                loop.remove_reader(self._sock)


def _text(value: Any) -> str:
    if value is None:
        return _DONE
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()


def main(sock: socket.socket, setup: Setup) -> None:
    try:
        tools = load(msgspec.json.decode(setup.config, type=list[str]))
    except CannotLoadError as exc:
        sock.sendall(frame(CannotStart(" ".join(str(exc).split())[:500])))
        sys.exit(1)
    limit_memory(setup.memory_mb)
    Child(sock, tools).run()
