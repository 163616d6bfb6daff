"""What every process does at its start: say its errors in one line, log in one form, die with its parent."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

# sysexits.h: something in the configuration is wrong; starting again will not help.
EX_CONFIG: Final = 78
_PR_SET_PDEATHSIG: Final = 1


class ConfigError(Exception):
    """A setting or the machine is not as this process needs it. The text says what is wrong and what to do."""


def run(name: str, main: Callable[[], None]) -> NoReturn:
    """Run `main` as the process `name` and exit: 0, or 78 with one line on stderr for a ConfigError."""
    die_with_parent()
    level = logging.getLevelName(os.environ.get("LOG_LEVEL", "INFO").upper())
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Libraries: at DEBUG they write down keys, numbers and words, and these at INFO whole URLs, which may hold a token.
    logging.getLogger().setLevel(max(logging.getLogger().level, logging.INFO))
    for library in ("httpx2", "httpcore2", "aiohttp"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger(name).setLevel(level)
    try:
        main()
    except ConfigError as exc:
        print(f"{name}: {exc}", file=sys.stderr, flush=True)
        sys.exit(EX_CONFIG)
    except KeyboardInterrupt:
        sys.exit(0)
    sys.exit(0)


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies: honcho, killed itself, leaves its children running."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died between the two lines
        sys.exit(0)


@contextmanager
def sole(run_dir: Path, name: str, *, standby: bool = False) -> Iterator[None]:
    """Be the only process `name` in `run_dir`, and take its sockets, metrics and the empty directory away at the end.

    Raises ConfigError when another one lives there: binding an ipc:// socket would silently take it from that one. With
    `standby`, waits for that one's end instead.
    """
    path = run_dir / f"{name}.lock"
    while True:
        run_dir.mkdir(mode=0o700, exist_ok=True)
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if standby else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            raise ConfigError(
                f"another {name} already runs in RUN_DIR {run_dir}; stop it, or set another RUN_DIR"
            ) from None
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
        # The one before ended in good order, and took the file away that was waited for.
        file.close()
    try:
        yield
    finally:
        # "-": what belongs to aibridge-10 is not aibridge-1's.
        for left in (
            run_dir / f"{name}.ipc",
            *run_dir.glob(f"{name}-*.ipc"),
            run_dir / "metrics" / f"{name}.page",
            path,
        ):
            left.unlink(missing_ok=True)
        file.close()
        for directory in (run_dir / "metrics", run_dir):
            with suppress(OSError):  # another process still has files there
                directory.rmdir()


def instance() -> int:
    """This process's number among its kind, from 0: honcho names them gateway.1, gateway.2 and so on."""
    _, _, number = os.environ.get("HONCHO_PROCESS_NAME", "").partition(".")
    return int(number) - 1 if number.isdigit() and int(number) > 0 else 0
