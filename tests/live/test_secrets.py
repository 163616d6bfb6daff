"""After a call at the most talkative log level, no secret is anywhere, and no caller's number or word in a log."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import zmq

from gateway.core.phone_access import mint_key, phone_key
from proofs.cell_processes import processes
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiHeard, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from simulator.voice import clip
from twentyms.stack import ROOT, Stack, free_port, get

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

FROM, TO = "+15005551234", "+15005554321"
SECRETS = {
    "OPENAI_API_KEY": "sk-" + secrets.token_hex(16),
    "TWILIO_AUTH_TOKEN": secrets.token_hex(16),
    "TWILIO_SHARED_KEY": secrets.token_hex(16),
    "WEBHOOK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
    "WEBHOOK_URL": secrets.token_hex(16),
    "BUS_SECRET_KEY": zmq.curve_keypair()[1].decode(),
}


@contextmanager
def receiver() -> Iterator[tuple[dict[str, str], threading.Event]]:
    """A customer's webhook with a secret URL, as a setting; the event is set when something was posted to it."""
    posted = threading.Event()

    class Customer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(204)
            self.end_headers()
            posted.set()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Customer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {"WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}/{SECRETS['WEBHOOK_URL']}"}, posted
        finally:
            server.shutdown()
            thread.join()


def test_no_secret_is_written_anywhere_and_no_callers_number_or_word_into_a_log(tmp_path: Path) -> None:
    caller = Caller([Say("hello", AiHeard(ms=500)), Say("auth-thankyou", AiHeard(ms=500)), HangUp(AiHeard(ms=500))])
    # One that the model refuses, and a signature that is wrong: what goes wrong is logged, too.
    silent = Caller([HangUp(AfterAnswer(ms=300))])
    token = SECRETS["TWILIO_AUTH_TOKEN"]
    env = SECRETS | {"LOG_LEVEL": "DEBUG", "PHONE_PAGE": "on"}
    with receiver() as (webhook_url, posted), Stack(log=tmp_path / "log", env=env | webhook_url) as stack:
        assert stack.env["TWILIO_AUTH_TOKEN"] == token

        async def call() -> CallRecord:
            async with Exchange() as exchange:
                await exchange.place_call(stack.webhook_url, "wrong", caller=silent, from_number=FROM)
                return await exchange.place_call(
                    stack.webhook_url, token, caller=caller, from_number=FROM, to_number=TO
                )

        record = asyncio.run(call())
        assert record.outcome == "hung-up-by-caller"
        key = mint_key(phone_key(token), int(time.time()))
        assert get(stack.gateway_port, f"/?key={key}")[0] == 303
        assert posted.wait(20)
        metrics = get(int(stack.env["METRICS_PORT"]), "/metrics")[1]
        titles = b""
        for process in processes(stack.run_dir):
            titles += Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/comm").read_bytes()
        files = b"".join(path.read_bytes() for path in stack.run_dir.rglob("*") if path.is_file())
    log = (tmp_path / "log").read_bytes()
    assert log.count(b"\n") > 20
    assert metrics
    assert titles
    for name, secret in SECRETS.items():
        for where, text in {"log": log, "metrics": metrics, "titles": titles, "files and records": files}.items():
            assert secret.encode() not in text, f"{name} is in {where}"
    # Neither a stream's token nor a phone's key: both end in a MAC of this form.
    assert not re.search(rb"[0-9a-f]{64}", log)
    words = [b"5005551234", b"5005554321", *(clip(name).text.encode() for name in ("hello", "auth-thankyou"))]
    for word in words:
        for where, text in {"log": log, "metrics": metrics, "titles": titles}.items():
            assert word.lower() not in text.lower(), f"{word!r} is in {where}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:{}@127.0.0.1:1/calls", "cannot be written"),
        ("postgresql://u:p@ss:{}@127.0.0.1:1/calls", "DATABASE_URL is not a URL"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path, url: str, said: str) -> None:
    password = secrets.token_hex(16)
    env = {
        "PATH": os.environ["PATH"],
        "RUN_DIR": str(tmp_path / "run"),
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": url.format(password),
        "METRICS_PORT": str(free_port()),
        "LOG_LEVEL": "DEBUG",
    }
    command = [sys.executable, "-m", "callbook"]
    log = ""
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as callbook:
        assert callbook.stderr is not None
        while said not in log:
            line = callbook.stderr.readline()
            assert line, log
            log += line
        callbook.terminate()
        log += callbook.stderr.read()
    assert password not in log
