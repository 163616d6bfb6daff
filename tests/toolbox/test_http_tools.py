"""HTTP tools against a server of this machine: what is sent, what is read, and what is refused."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shared.messages import ToolAnswered
from tests.on_a_loop import on_a_loop
from tests.toolbox.running import Toolbox, worker
from toolbox.config import HttpTool
from toolbox.pipe import Context, RunTool
from toolbox.runners.http_tools import Requests, compose

pytestmark = pytest.mark.live

# The process, and each request that the server got: its line, headers and body.
Cell = tuple[Toolbox, list[tuple[str, dict[str, str], bytes]]]
SECRET = "s3cret-token"
AGENT = """
instructions = "Be kind."

[tools.http.order]
description = "Look up an order."
url = "http://127.0.0.1:PORT/orders/{number}?from={call.from_number}"
parameters.number = { description = "As on the receipt.", type = "integer" }
parameters.detail = { choices = ["short", "long"], optional = true }
headers = { Authorization = "Bearer ${ORDER_TOKEN}" }
answer = "order.state"
allow_private = true

[tools.http.book]
description = "Book a table."
method = "POST"
url = "http://127.0.0.1:PORT/book"
parameters.day = {}
parameters.guests = { type = "integer" }
hidden = { phone = "{call.from_number}" }
allow_private = true

[tools.http.huge]
description = "Answer 100 MB."
url = "http://127.0.0.1:PORT/huge"
deadline_s = 5
allow_private = true

[tools.http.huge_json]
description = "Answer 100 MB where JSON is expected."
url = "http://127.0.0.1:PORT/huge"
answer = "a"
allow_private = true

[tools.http.slow]
description = "Answer a byte a second."
url = "http://127.0.0.1:PORT/slow"
deadline_s = 0.3
allow_private = true

[tools.http.away]
description = "Redirect to another server."
url = "http://127.0.0.1:PORT/away"
allow_private = true

[tools.http.missing]
description = "There is no such order."
url = "http://127.0.0.1:PORT/missing"
allow_private = true

[tools.http.zipped]
description = "Answer in another encoding."
url = "http://127.0.0.1:PORT/zipped"
allow_private = true

[tools.http.private]
description = "Reach an address of this machine."
url = "http://127.0.0.1:PORT/orders/1"

[tools.http.named]
description = "Reach this machine by a name."
url = "http://localhost:PORT/orders/1"

[tools.http.nobody]
description = "Reach a port where nobody listens."
url = "http://127.0.0.1:9/"
allow_private = true
"""


@contextmanager
def server() -> Iterator[tuple[int, list[tuple[str, dict[str, str], bytes]]]]:
    """The port, and each request: its line, headers and body."""
    requests: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append((f"{self.command} {self.path}", dict(self.headers), body))
            with suppress(BrokenPipeError, ConnectionResetError):
                self.answer()

        do_POST = do_GET  # noqa: N815  # http.server's name

        def answer(self) -> None:
            path = self.path.split("?")[0]
            match path:
                case "/huge":
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(1_600):
                        self.wfile.write(b"x" * 65_536)
                case "/slow":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    for _ in range(10):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        threading.Event().wait(0.2)
                case "/away":
                    self.respond(302, b"", Location="http://169.254.169.254/")
                case "/missing":
                    self.respond(404, b"No such order.")
                case "/zipped":
                    self.respond(200, b"...", **{"Content-Encoding": "gzip"})
                case "/book":
                    self.respond(200, b"booked")
                case _:
                    self.respond(200, json.dumps({"order": {"state": "on its way", "items": ["x"]}}).encode())

        def respond(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield listening.server_port, requests
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    directory = tmp_path_factory.mktemp("agent")
    with server() as (port, requests):
        (directory / "agent.toml").write_text(AGENT.replace("PORT", str(port)))
        # A proxy that does not exist: no request may use one.
        running = Toolbox(directory, ORDER_TOKEN=SECRET, http_proxy="http://127.0.0.1:1")
        yield running, requests
        running.stop()
        assert SECRET not in running.log()


def ask(cell: Cell, tool: str, **arguments: Any) -> tuple[float, ToolAnswered]:
    found: list[tuple[float, ToolAnswered]] = []

    @on_a_loop
    async def scenario() -> None:
        async with worker(cell[0], tools=11) as asking:
            found.append(await asking.call(tool, **arguments))

    scenario()
    return found[0]


def test_arguments_facts_of_the_call_and_secrets_go_where_the_declaration_says(cell: Cell) -> None:
    _, answer = ask(cell, "order", number=12, detail="short")
    assert (answer.outcome, answer.output) == ("done", "on its way")
    line, headers, _ = cell[1][-1]
    assert line == "GET /orders/12?from=%2B15550001111&detail=short"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    _, answer = ask(cell, "book", day="Sunday", guests=4)
    assert (answer.outcome, answer.output) == ("done", "booked")
    line, _, body = cell[1][-1]
    assert line == "POST /book"
    assert json.loads(body) == {"day": "Sunday", "guests": 4, "phone": "+15550001111"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "number"),
        ({"number": "../admin"}, "Expected `int`"),
        ({"number": 1, "detail": "huge"}, "detail has to be one of short, long"),
        ({"number": 1, "other": 1}, "unknown field `other`"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    cell: Cell, arguments: dict[str, Any], words: str
) -> None:
    sent = len(cell[1])
    _, answer = ask(cell, "order", **arguments)
    assert answer.outcome == "refused"
    assert words in answer.output
    assert len(cell[1]) == sent


@pytest.mark.parametrize(
    ("tool", "outcome", "words"),
    [
        ("huge", "done", "[cut: the answer is longer]"),
        ("huge_json", "failed", "too long"),
        ("slow", "timeout", "took too long"),
        ("away", "failed", "The server answered 302"),
        ("missing", "failed", "The server answered 404: No such order."),
        ("zipped", "failed", "compressed"),
        ("private", "failed", "not of the internet"),
        ("named", "failed", "not of the internet"),
        ("nobody", "failed", "could not be reached"),
    ],
)
def test_a_server_that_floods_stalls_or_is_elsewhere_costs_one_short_answer(
    cell: Cell, tool: str, outcome: str, words: str
) -> None:
    seconds, answer = ask(cell, tool)
    assert answer.outcome == outcome
    assert words in answer.output
    assert len(answer.output) < 8_200
    assert seconds < 2


def test_the_address_that_is_checked_is_the_one_that_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers the second question with another address finds nobody who asks twice."""
    asked: list[str] = []
    real = asyncio.BaseEventLoop.getaddrinfo

    async def rebinding(self: asyncio.BaseEventLoop, host: str, port: int, **options: Any) -> Any:
        asked.append(host)
        address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return await real(self, address, port, **options)

    connected: list[str] = []

    async def connect(_self: Any, _sock: Any, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise OSError("no network in a test")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", rebinding)
    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", connect)

    async def scenario() -> None:
        requests = Requests({"a/t": HttpTool(description="", url="http://rebinding.example/")})
        context = Context("CA1", "c", "a", "inbound", "", "", {})
        outcome, _ = await requests.run(RunTool(1, "a/t", "{}", context))
        assert outcome == "failed"
        await requests.close()

    asyncio.run(scenario())
    assert connected == ["93.184.216.34"]


def test_the_callers_keys_fill_a_template_and_no_key_is_no_name() -> None:
    tool = HttpTool(
        description="", url="https://bank.example/{call.digits}", method="POST", hidden={"pin": "{call.digits}"}
    )
    context = Context("CA1", "c", "a", "inbound", "", "", {}, "40*71")
    assert compose(tool, {}, context) == ("https://bank.example/40%2A71", {}, {"pin": "40*71"})
    with pytest.raises(ValueError, match=r"call\.digits"):
        compose(tool, {}, Context("CA1", "c", "a", "inbound", "", "", {}))
