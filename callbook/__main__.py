"""The records: calls in the database, recordings, your webhook, and the private port with the pages of the calls.

Settings come from the environment and from .env in the working directory; .env.example explains each.
`twentyms run` starts all processes; `twentyms check` checks the settings without starting any.

SIGTERM and SIGINT end the process; what is not written yet stays in DATA_DIR. Exit status: 0, 78 for a setting that
cannot be used, 75 when another callbook has what this one needs.
"""

from __future__ import annotations

import os

from shared import process

# With a store, callers who return from another cell wait for callbook: it has READ_S for an answer. On a busy machine a
# process that stepped back needs more. The environment, because .env is read after the imports.
if __name__ == "__main__" and not os.environ.get("STATE_URL"):
    # Before the imports, which take half a second of a processor.
    process.step_back()

import asyncio
import fcntl
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop
import zmq
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared import bus, pages
from shared.facts import ConversationBegan, Noted
from shared.isolation import CollectorPauses
from shared.liveness import FACTS_HELLO_S, SENDERS_LEAVE_S
from shared.messages import UndecodableError, decode
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import Settings, load_in_child, obstacle, prepare_run_dir
from shared.signing import key_of
from shared.watch import LoopLag

from .api import Api
from .core.prices import Prices
from .database import open_engine, url_of
from .deliveries import Deliveries
from .exporter import metrics_route
from .intake import Intake
from .listening import Listening
from .metrics import DEFINITIONS, Metrics
from .models import Recording
from .orphans import Orphans
from .pages.routes import Pages
from .private_port import PrivatePort, listen
from .recorder import Recorder
from .records import Records
from .retention import Retention
from .spool import Spool
from .twilio_rest import TwilioRest
from .writer import Writer

logger = logging.getLogger("callbook")

# After the senders left, the last facts have this long to reach the database. The rest stays in the spool.
LAST_WRITES_S: Final = 0.5
# More facts than any spool holds.
_ALL: Final = 10_000_000


class Callbook:
    """All parts of the process. It needs a running loop, and owns `listener`."""

    def __init__(self, settings: Settings, *, engine: Engine, listener: socket.socket, page: Page, cell: str) -> None:
        self._engine = engine
        self._cell = cell
        self.metrics = metrics = Metrics(page)
        self.spool = Spool(settings.data_dir / "spool", max_bytes=settings.spool_mb * 1_000_000)
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._rest = TwilioRest(settings) if settings.twilio_account_sid and settings.twilio_auth_token else None
        self.intake = Intake(
            self._context,
            bus.callbook_url(settings.bus),
            spool=self.spool,
            metrics=metrics,
            on_kept=self._on_kept,
        )
        self._recorder = Recorder(self._rest, note=self.intake.note, metrics=metrics)
        records = Records(
            prices=Prices(settings.model_prices),
            cell=cell,
            name=settings.cell,
            deliveries=bool(settings.webhook_url),
            traces=bool(settings.otel_exporter_otlp_endpoint),
        )
        self._orphans = Orphans(engine, cell=cell, records=records, alive=self.intake.senders.sources)
        self._writer = Writer(engine, spool=self.spool, records=records, metrics=metrics)
        self._retention = Retention(engine, days=settings.retention_days, rest=self._rest, metrics=metrics)
        self._deliveries: Deliveries | None = None
        if settings.webhook_url:
            key = key_of(settings.webhook_secret)
            self._deliveries = Deliveries(engine, url=settings.webhook_url, key=key, metrics=metrics)
        self._stories: Any = None
        if settings.state_url:
            # They import the extra `fleet`, which a cell without STATE_URL does not need.
            from .sealing import Seals
            from .sealing import key_of as state_key
            from .store import Store
            from .stories import Stories

            self._stories = Stories(
                self._context,
                bus.stories_url(settings.bus),
                store=Store(settings.state_url),
                seals=Seals(state_key(settings.state_key)),
                cell=cell,
                metrics=metrics,
            )
        self._export_traces: Callable[[], Coroutine[Any, Any, None]] | None = None
        if settings.otel_exporter_otlp_endpoint:
            from .otlp import Traces, collector

            words = settings.trace_words == "on"
            self._export_traces = Traces(engine, to=collector(settings, cell), words=words, metrics=metrics).run
        self._listening = Listening(self._context, bus.copies_url(settings.bus), metrics)
        routes = [
            metrics_route(settings.metrics_dir),
            *Api(engine).routes(),
            *Pages(engine, settings).routes(),
            *self._listening.routes(),
        ]
        self._port = PrivatePort(listener, routes, host=settings.metrics_host)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._take_up(await asyncio.to_thread(self.spool.read, _ALL))
        self._listening.start()
        self._port.start()
        for work in (self.intake.run(), self._writer.run(), self._look_for_senders(), self._when_caught_up()):
            self._tasks.append(asyncio.create_task(work))
        if self._stories is not None:
            self._tasks.append(asyncio.create_task(self._stories.run()))

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises the exception of a task that failed."""
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait((stopping, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            task.result()

    async def close(self, *, is_asked: bool = True) -> None:
        """Take the facts of the processes that end with this one, write what can be written, leave the rest on disk."""
        loop = asyncio.get_running_loop()
        leave_by = loop.time() + SENDERS_LEAVE_S
        while is_asked and self.intake.senders.sources() and loop.time() < leave_by:  # noqa: ASYNC110  # at the exit only
            await asyncio.sleep(0.02)
        write_by = loop.time() + LAST_WRITES_S
        while (self.intake.has_pending or self.spool.unread) and loop.time() < write_by:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self._recorder.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._port.close()
        self._listening.close()
        if self._rest is not None:
            await self._rest.close()
        self._context.destroy(linger=0)
        self.spool.close()
        self._engine.dispose()

    def _on_kept(self, new: Sequence[Noted]) -> None:
        for noted in new:
            fact = noted.fact
            if isinstance(fact, ConversationBegan) and fact.record:
                self._recorder.want(fact.call_sid, may_exist=fact.resumed)
        self._writer.wake()

    async def _take_up(self, left: tuple[list[bytes], object]) -> None:
        """Continue with recordings that are in an earlier callbook's spool and not yet in the database."""
        for payload in left[0]:
            try:
                facts = [noted.fact for noted in decode(payload, Noted)]
            except UndecodableError:
                continue  # the writer counts it
            for fact in facts:
                if isinstance(fact, ConversationBegan) and fact.record:
                    self._recorder.want(fact.call_sid, may_exist=True)

    async def _look_for_senders(self) -> None:
        while True:
            await asyncio.sleep(FACTS_HELLO_S)
            self.intake.look_for_silent_senders()

    async def _when_caught_up(self) -> None:
        """Start the work that needs the database: an earlier callbook's recordings, webhooks, retention, orphans."""
        await self._writer.caught_up.wait()
        while True:
            try:
                for call_sid in await asyncio.to_thread(self._wanted):
                    self._recorder.want(call_sid, may_exist=True)
                break
            except SQLAlchemyError:
                await asyncio.sleep(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._retention.run())
            group.create_task(self._orphans.run())
            if self._deliveries is not None:
                group.create_task(self._deliveries.run())
            if self._export_traces is not None:
                group.create_task(self._export_traces())

    def _wanted(self) -> list[str]:
        with Session(self._engine) as session:
            query = select(Recording.call_sid).where(Recording.state == "wanted", Recording.cell == self._cell)
            return list(session.scalars(query))


def check(settings: Settings) -> None:
    """Raises ConfigError for settings with which recordings or records would fail, silently or at the start."""
    checks = [_check_recording, _check_prices, _check_data_dir]
    if settings.webhook_url:
        checks.append(_check_webhook)
    if settings.otel_exporter_otlp_endpoint:
        checks.append(_check_traces)
    if settings.state_url:
        checks.append(_check_state)
    process.check_all(*(partial(each, settings) for each in checks))


def _check_recording(settings: Settings) -> None:
    if settings.recording == "on" and not (settings.twilio_account_sid and settings.twilio_auth_token):
        raise ConfigError(
            "RECORDING is on, but there is no account to record with; "
            "set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or RECORDING=off"
        )


def _check_prices(settings: Settings) -> None:
    try:
        Prices(settings.model_prices)
    except ValueError as exc:
        raise ConfigError(f"MODEL_PRICES cannot be used: {exc}; see docs/records.md, or leave it empty") from None


def _check_data_dir(settings: Settings) -> None:
    if reason := obstacle(settings.data_dir):
        raise _unusable(settings.data_dir, reason)


def _unusable(data_dir: Path, reason: str) -> ConfigError:
    return ConfigError(f"DATA_DIR {data_dir} cannot be used ({reason}); set it to a directory of its own")


def _check_webhook(settings: Settings) -> None:
    if urlsplit(settings.webhook_url).scheme not in ("http", "https"):
        raise ConfigError("WEBHOOK_URL is not an http:// or https:// URL; correct it, or leave it empty")
    try:
        key_of(settings.webhook_secret)
    except ValueError as exc:
        raise ConfigError(f"WEBHOOK_SECRET {exc}; the receiver checks signatures with it") from None


def _check_traces(settings: Settings) -> None:
    try:
        # Not at the top of the file: an extra, and 6 MB that a callbook without a collector does not need.
        from .otlp import collector
    except ImportError:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but opentelemetry-proto is not installed; "
            "pip install 'twentyms[traces]', or leave it empty"
        ) from None
    collector(settings, "")


def _check_state(settings: Settings) -> None:
    try:
        import redis  # noqa: F401  # only whether it is there

        from .sealing import key_of as state_key
    except ImportError:
        raise ConfigError("STATE_URL is set, which needs the extra: pip install 'twentyms[fleet]'") from None
    try:
        state_key(settings.state_key)
    except ValueError as exc:
        raise ConfigError(f"STATE_KEY {exc}; every cell of the fleet needs the same") from None


@contextmanager
def data_directory(settings: Settings) -> Iterator[str]:
    """Make DATA_DIR, be the only callbook in it, and give the name of its cell. Raises ConfigError."""
    path: Path = settings.data_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (path / "callbook.lock").open("w")
    except OSError as exc:
        raise _unusable(path, exc.strerror or type(exc).__name__) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another callbook already uses DATA_DIR {path}; give each cell its own") from None
        name = path / "cell"
        if not name.exists():
            name.write_text(secrets.token_hex(8))
        # A cell that has a name keeps its rows when its disk is new.
        yield settings.cell or name.read_text()


async def serve(settings: Settings, engine: Engine, listener: socket.socket, page: Page, cell: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    LoopLag(page).start()
    callbook = Callbook(settings, engine=engine, listener=listener, page=page, cell=cell)
    await callbook.start()
    logger.info("calls are on http://%s:%d/api/calls", *listener.getsockname()[:2])
    try:
        await callbook.run(stop)
    finally:
        await callbook.close(is_asked=stop.is_set())


def main() -> None:
    process.take_no_arguments("callbook", __doc__)
    settings = load_in_child()
    check(settings)
    engine = open_engine(url_of(settings))
    run_dir = prepare_run_dir(settings)
    with process.sole(run_dir, "callbook"), data_directory(settings) as cell:
        listener = listen(settings)
        page = pages.create(settings.metrics_dir, "callbook", DEFINITIONS)
        CollectorPauses(page).start()
        uvloop.run(serve(settings, engine, listener, page, cell))


if __name__ == "__main__":
    process.run("callbook", main)
