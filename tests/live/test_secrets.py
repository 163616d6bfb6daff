"""After a call at the most talkative log level, no secret is anywhere, and no caller's number or word in a log."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from simulator.caller import AfterAnswer, AiHeard, Caller, HangUp, Say
from simulator.carrier import CallRecord
from simulator.carrier_client import Exchange
from simulator.cell_processes import processes
from simulator.stack import Stack, get
from simulator.voice import clip

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

FROM, TO = "+15005551234", "+15005554321"
SECRETS = {
    "OPENAI_API_KEY": "sk-" + secrets.token_hex(16),
    "TWILIO_AUTH_TOKEN": secrets.token_hex(16),
    "TWILIO_SHARED_KEY": secrets.token_hex(16),
    "WEBHOOK_SECRET": secrets.token_hex(16),
}


def test_no_secret_is_written_anywhere_and_no_caller_in_a_log(tmp_path: Path) -> None:
    caller = Caller([Say("hello", AiHeard(ms=500)), Say("auth-thankyou", AiHeard(ms=500)), HangUp(AiHeard(ms=500))])
    # One that the model refuses, and a signature that is wrong: what goes wrong is logged, too.
    silent = Caller([HangUp(AfterAnswer(ms=300))])
    env = SECRETS | {"LOG_LEVEL": "DEBUG"}
    with Stack(log=tmp_path / "log", env=env) as stack:
        assert stack.env["TWILIO_AUTH_TOKEN"] == SECRETS["TWILIO_AUTH_TOKEN"]

        async def call() -> CallRecord:
            async with Exchange() as exchange:
                token = SECRETS["TWILIO_AUTH_TOKEN"]
                await exchange.place_call(stack.webhook_url, "wrong", caller=silent, from_number=FROM)
                return await exchange.place_call(
                    stack.webhook_url, token, caller=caller, from_number=FROM, to_number=TO
                )

        record = asyncio.run(call())
        assert record.outcome == "hung-up-by-caller"
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
    words = [b"5005551234", b"5005554321", *(clip(name).text.encode() for name in ("hello", "auth-thankyou"))]
    for word in words:
        for where, text in {"log": log, "metrics": metrics, "titles": titles}.items():
            assert word.lower() not in text.lower(), f"{word!r} is in {where}"
