"""The file of a process's metrics: its process writes to it in place, callbook reads it whenever Prometheus asks.

The file is on a memory file system. `create` makes it empty at every start of a process and keeps it locked for the
process's lifetime. A file without a lock belongs to a process that is gone; `read` refuses it, so a restart leaves no
stale series.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .metrics import Definition, Page

# JSON, padded with spaces: the name and the id of the process, and its definitions. The doubles follow.
HEADER_BYTES: Final = 16_384


def create(directory: Path, process: str, definitions: Sequence[Definition]) -> Page:
    """Make `directory`/`process`.page, in place of the file of an earlier process.

    Raises ValueError when the definitions do not fit into the header.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = sum(definition.cells() for definition in definitions)
    fields = [[d.kind, d.name, d.help, d.label, d.values, d.buckets] for d in definitions]
    header = json.dumps({"process": process, "pid": os.getpid(), "definitions": fields}).encode()
    if len(header) > HEADER_BYTES:
        raise ValueError(f"the metric definitions of {process} take {len(header)} bytes, {HEADER_BYTES} is the limit")
    path = directory / f"{process}.page"
    temporary = directory / f".{process}.{os.getpid()}"
    temporary.write_bytes(header.ljust(HEADER_BYTES) + bytes(8 * size))
    with temporary.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # The mapping holds a duplicate of the descriptor, and with it the lock.
        mapped = mmap.mmap(file.fileno(), HEADER_BYTES + 8 * size)
    temporary.replace(path)
    return Page(definitions, memoryview(mapped)[HEADER_BYTES:].cast("d"))


class Read(NamedTuple):
    """A page as it was read."""

    process: str
    pid: int
    definitions: list[Definition]
    cells: memoryview[float]


def read(path: Path) -> Read:
    """The process, its definitions and its doubles.

    Raises OSError when no process holds the file, ValueError when the file is not a page.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            data = file.read()
        else:
            raise ProcessLookupError(f"no process holds {path}")
    header = json.loads(data[:HEADER_BYTES])
    definitions = [
        Definition(kind, name, help_text, label, tuple(values), tuple(buckets))
        for kind, name, help_text, label, values, buckets in header["definitions"]
    ]
    return Read(header["process"], header["pid"], definitions, memoryview(data)[HEADER_BYTES:].cast("d"))
