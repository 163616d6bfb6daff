"""What the export of a call's trace costs callbook: `python -m benchmarks.traces`.

Each call lasts a minute and has what the demo's call has: 20 turns, three of them calls of tools, and three
interruptions. The database is SQLite in a file. The collector is a process of its own; its work is not counted.
"""

from __future__ import annotations

import asyncio
import http.server
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Engine, func, select
from sqlalchemy.orm import Session

from callbook.core.prices import Prices
from callbook.database import migrate, open_engine
from callbook.metrics import DEFINITIONS, Metrics
from callbook.models import TraceExport
from callbook.otlp import Traces, collector
from callbook.records import Records
from shared.facts import ConversationBegan, Fact, Interruption, Noted, StreamBegan, StreamEnded, Turn
from shared.metrics import Page
from shared.settings import read_settings

CALLS: Final = 200
TURNS: Final = 20
TOOLS: Final = (6, 11, 19)
INTERRUPTED: Final = (1, 10, 14)
LENGTH_MS: Final = 60_000


def facts(call_sid: str) -> Iterator[Fact]:
    """A call that ended before the delay after which its trace is due."""
    began_ms = round(time.time() * 1_000) - LENGTH_MS - 60_000
    yield StreamBegan(call_sid, f"MZ{call_sid}", "AC1", "+15550001111", "+15550002222", False, began_ms, began_ms + 300)
    yield ConversationBegan(call_sid, began_ms, "gpt-realtime", "restaurant", False, False)
    for number in range(1, TURNS + 1):
        at_ms = began_ms + number * 2_800
        span = (at_ms, at_ms + 2_500)
        words = "On Saturday we are open from noon until eleven in the evening. Shall I book a table?"
        spoken = (words, words, 2_500, 2_500, False)
        if number in TOOLS:
            told = ("done", "", 0, 0, False, "book", '{"guests": 4}', "done")
            yield Turn(call_sid, f"t{number}", number, "tool", *span, *told)
        elif number % 2:
            yield Turn(call_sid, f"a{number}", number, "ai", *span, *spoken, latency_ms=(20, 500, 300, 1, 25))
        else:
            yield Turn(call_sid, f"c{number}", number, "caller", *span, *spoken)
        if number in INTERRUPTED:
            yield Interruption(call_sid, at_ms, 64, False, True)
    yield StreamEnded(call_sid, f"MZ{call_sid}", began_ms + LENGTH_MS, "stop", 1_500, 0, 0, 0)


def collect(ready: Connection) -> None:
    class Collector(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    ready.send(server.server_port)
    server.serve_forever()


def write(engine: Engine) -> tuple[float, float]:
    """CPU seconds for calls without and with traces, by turns."""
    spent = [0.0, 0.0]
    for source in range(1, 2 * CALLS + 1):
        records = Records(prices=Prices(""), cell="c", traces=bool(source % 2))
        batch = [Noted(source, seq, fact) for seq, fact in enumerate(facts(f"CA{source:032}"), 1)]
        before = time.process_time()
        with Session(engine) as session, session.begin():
            records.write(session, batch)
        spent[source % 2] += time.process_time() - before
    return spent[0], spent[1]


async def export(engine: Engine, port: int) -> float:
    """CPU seconds."""
    settings = read_settings(otel_exporter_otlp_endpoint=f"http://127.0.0.1:{port}")
    metrics = Metrics(Page.in_memory(DEFINITIONS))
    traces = Traces(engine, to=collector(settings, "c"), words=True, metrics=metrics)
    before = time.process_time()
    running = asyncio.create_task(traces.run())
    while metrics.traces["delivered"].value < CALLS:
        await asyncio.sleep(0.2)
        assert not running.done()
    spent = time.process_time() - before
    running.cancel()
    return spent


def main() -> None:
    near, far = multiprocessing.Pipe()
    receiver = multiprocessing.Process(target=collect, args=(far,), daemon=True)
    receiver.start()
    port: int = near.recv()
    with tempfile.TemporaryDirectory() as directory:
        engine = open_engine(URL.create("sqlite", database=str(Path(directory) / "calls.db")))
        migrate(engine)
        without, with_traces = write(engine)
        exported = asyncio.run(export(engine, port))
        with Session(engine) as session:
            assert session.scalar(select(func.count()).where(TraceExport.state == "delivered")) == CALLS
        engine.dispose()
    receiver.terminate()
    print(f"{CALLS} calls of {LENGTH_MS // 1000} s with {TURNS} turns; CPU of callbook, ms a call:")
    print(f"  writing its record                {1e3 * without / CALLS:6.2f}")
    print(f"  writing that its trace is due     {1e3 * (with_traces - without) / CALLS:6.2f}")
    print(f"  exporting its trace               {1e3 * exported / CALLS:6.2f}")


if __name__ == "__main__":
    main()
