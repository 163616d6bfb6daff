"""What every process does at its start and end: log, report an error in one line, be the only one of its name."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from .liveness import HANDOVER_S

# sysexits.h: something in the configuration is wrong; starting again will not help.
EX_CONFIG: Final = 78
# sysexits.h: it may succeed later. A supervisor starts the process again.
EX_TEMPFAIL: Final = 75
PROCESSES: Final = ("gateway", "txpacer", "aibridge", "callbook", "toolbox")
_PR_SET_PDEATHSIG: Final = 1
STDERR: Final = 2
# Of callbook and toolbox.
NICE: Final = 10


class ConfigError(Exception):
    """A setting or the machine is not as this process needs it.

    The text says what is wrong and what to do: a line for each problem.
    """


class BusyError(ConfigError):
    """Another process has what this one needs, and may yet end."""


def check_all(*checks: Callable[[], object]) -> None:
    """Run all checks. Raises one ConfigError with the lines of all that raised one."""
    problems = []
    for check in checks:
        try:
            check()
        except ConfigError as exc:
            problems.append(str(exc))
    if problems:
        raise ConfigError("\n".join(problems))


def run(name: str, main: Callable[[], None]) -> NoReturn:
    """Run `main` as the process `name` and exit: 0, or with lines on stderr 78 (ConfigError) or 75 (BusyError)."""
    die_with_parent()
    handler = ImpatientHandler(STDERR)
    handler.setFormatter(_Stamped("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # At INFO these log whole URLs, which may hold a token.
    for library in ("httpx2", "httpcore2", "aiohttp"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        main()
    except ConfigError as exc:
        for line in str(exc).splitlines():
            print(f"{_stamp(time.time())}{name}: {line}", file=sys.stderr, flush=True)
        sys.exit(EX_TEMPFAIL if isinstance(exc, BusyError) else EX_CONFIG)
    except KeyboardInterrupt:
        sys.exit(0)
    sys.exit(0)


def take_no_arguments(name: str, text: str | None) -> None:
    """Exit with the help `text`, or with a line that says what is wrong, if the process `name` was given arguments."""
    if sys.argv[1:]:
        # Not at the top of the file: it takes 0.5 MB.
        from .arguments import Parser

        Parser(f"python -m {name}", text).parse_args()


def log_at(level: str) -> None:
    """Log from `level` on. Libraries log from INFO on at most: at DEBUG they write down keys, numbers and words."""
    logging.getLogger().setLevel(max(logging.getLevelNamesMapping()[level], logging.INFO))
    for name in PROCESSES:
        logging.getLogger(name).setLevel(level)


class _Stamped(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _stamp(record.created) + super().format(record)


def _stamp(unix_s: float) -> str:
    """Time and instance, where supervisord passes lines on as they are. honcho and journald add both themselves."""
    instance_name = os.environ.get("SUPERVISOR_PROCESS_NAME")
    if not instance_name:
        return ""
    at = datetime.fromtimestamp(unix_s, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z {instance_name} "


class ImpatientHandler(logging.Handler):
    """Writes to a descriptor and never waits for its reader, which may be a stopped terminal or a full pipe.

    A line that does not fit is dropped. The next line that fits follows a line with the number of dropped lines.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped and self._write(f"{self._dropped} lines of this log were dropped: nobody read it\n"):
                self._dropped = 0
            if self._dropped or not self._write(self.format(record) + "\n"):
                self._dropped += 1
        except Exception:
            self.handleError(record)

    def _write(self, text: str) -> bool:
        data = text.encode("utf-8", "backslashreplace")
        # A pipe that is ready has room for PIPE_BUF bytes (pipe(7)). A longer text, such as a traceback, goes in parts.
        for start in range(0, len(data), select.PIPE_BUF):
            if not any(events & select.POLLOUT for _, events in self._room.poll(0)):
                return start > 0
            os.write(self._descriptor, data[start : start + select.PIPE_BUF])
        return True


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel for this signal when the parent dies. A honcho that is killed would leave its children running."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the kernel knew
        sys.exit(0)


def step_back() -> None:
    """Run after the processes that handle frames, which come first on a busy machine.

    A supervisor that starts each process in a session of its own (honcho) makes it a scheduling group of its own, where
    niceness counts inside the group only. So tell the group, too (sched(7), "The autogroup feature").
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    with suppress(OSError):  # no such groups here, or told already
        Path("/proc/self/autogroup").write_text(str(NICE))


@contextmanager
def sole(run_dir: Path, name: str, *, standby: bool = False) -> Iterator[None]:
    """Be the only process `name` in `run_dir`. At the end, remove its sockets, its metrics and the empty directory.

    Waits for another process of this name to end, because binding an ipc:// socket silently takes it from its owner:
    with `standby` without a limit, otherwise for HANDOVER_S. Raises BusyError after that.
    """
    path = run_dir / f"{name}.lock"
    give_up_s: float | None = None
    while True:
        run_dir.mkdir(mode=0o700, exist_ok=True)
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if standby else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            busy = f"another {name} already runs in RUN_DIR {run_dir}; stop it, or set another RUN_DIR"
            if give_up_s is None:
                give_up_s = time.monotonic() + HANDOVER_S
                logging.getLogger(name).warning("%s (waiting %g s for its end)", busy, HANDOVER_S)
            if time.monotonic() >= give_up_s:
                raise BusyError(busy) from None
            time.sleep(0.05)
            continue
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
        # The owner of this lock ended and removed the file: lock the new one.
        file.close()
    try:
        yield
    finally:
        # The "-" keeps aibridge-1 from removing the files of aibridge-10.
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
    """This process's number among its kind, from 0. Supervisors name the processes gateway.1, gateway.2 and so on."""
    _, _, number = os.environ.get("HONCHO_PROCESS_NAME", "").partition(".")
    return int(number) - 1 if number.isdigit() and int(number) > 0 else 0
