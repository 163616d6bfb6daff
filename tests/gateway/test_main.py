"""The gateway's process: the settings that it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import check
from shared.messages import CallEnded, CloseLine
from shared.process import EX_CONFIG, ConfigError
from shared.settings import Settings, read_settings


def settings(**values: Any) -> Settings:
    return read_settings(**values)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "TWILIO_AUTH_TOKEN"),
        ({"twilio_auth_token": "x"}, "PUBLIC_URL"),
        ({"twilio_auth_token": "x", "public_url": "http://voice.example.com"}, "PUBLIC_URL"),
        ({"allow_unsigned": "on", "gateways": 2}, "GATEWAYS"),
        ({"allow_unsigned": "on", "cell": "c", "fleet": "on"}, "FLEET"),
        ({"allow_unsigned": "on", "twilio_account_sid": "AC1", "public_url": "http://10.0.0.1"}, "PUBLIC_URL"),
    ],
)
def test_settings_that_open_the_gateway_or_keep_twilio_out_are_refused_in_one_line(values, name):
    with pytest.raises(ConfigError, match=name) as caught:
        check(settings(**values))
    assert "\n" not in str(caught.value)


def test_every_setting_that_is_refused_is_a_line():
    with pytest.raises(ConfigError) as caught:
        check(settings(twilio_account_sid="AC1", gateways=2, cell="c", fleet="on"))
    first_words = [line.split()[0] for line in str(caught.value).splitlines()]
    assert first_words == ["TWILIO_AUTH_TOKEN", "GATEWAYS", "FLEET", "PUBLIC_URL"]


@pytest.mark.parametrize(
    "values",
    [
        {"allow_unsigned": "on"},
        {"twilio_auth_token": "x", "public_url": "https://voice.example.com"},
        {"twilio_auth_token": "x", "public_url": "http://127.0.0.1:8080"},
        {"twilio_auth_token": "x", "public_url": "http://localhost:8080"},
        {"twilio_auth_token": "x", "public_url": "http://[::1]:8080"},
    ],
)
def test_valid_settings_are_accepted(values):
    check(settings(**values))


@pytest.fixture
def process(short_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "ALLOW_UNSIGNED": "on", "RUN_DIR": str(short_path / "run"), "GATEWAY_PORT": str(port)}
    command = [sys.executable, "-m", "gateway"]
    with subprocess.Popen(command, env=env, cwd=short_path, stderr=subprocess.PIPE, text=True) as started:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
                        assert answer.status == 200
                        break
                except urllib.error.URLError:
                    time.sleep(0.05)
            yield started, port
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_calls_a_signal_ends_the_gateway_at_once_and_leaves_no_file(process, short_path, number):
    started, _ = process
    assert (short_path / "run/metrics/gateway-0.page").exists()
    started.send_signal(number)
    assert started.wait(timeout=5) == 0
    assert [path for path in (short_path / "run").rglob("*") if path.is_file() or path.is_socket()] == []
    assert started.stderr is not None
    assert "ALLOW_UNSIGNED=on" in started.stderr.read()


def test_a_second_gateway_on_the_port_says_so_and_exits(process, short_path):
    _, port = process
    env = {**os.environ, "ALLOW_UNSIGNED": "on", "RUN_DIR": str(short_path / "other"), "GATEWAY_PORT": str(port)}
    second = subprocess.run(
        [sys.executable, "-m", "gateway"], env=env, cwd=short_path, capture_output=True, text=True, timeout=20
    )
    assert second.returncode == EX_CONFIG
    assert "GATEWAY_PORT" in second.stderr.splitlines()[-1]
    assert "Traceback" not in second.stderr


def test_a_live_call_finishes_after_the_first_signal(run):
    async def scenario(cell):
        async with cell.call():
            cell.gateway.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                while (await cell.twilio.request("GET", "/readyz"))[0] != 503:  # noqa: ASYNC110 - over HTTP
                    await asyncio.sleep(0.01)
            assert cell.gateway.returncode is None
        assert await asyncio.wait_for(cell.gateway.wait(), 5) == 0

    run(scenario, as_process=True)


def test_a_second_signal_ends_live_calls_at_once(run):
    async def scenario(cell):
        async with cell.call() as (media, started):
            cell.gateway.send_signal(signal.SIGTERM)
            cell.gateway.send_signal(signal.SIGINT)
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "hung-up")
            assert await cell.pacer.next(CloseLine) == CloseLine(started.call)
            await asyncio.wait_for(media.wait_closed(), 5)
            assert await asyncio.wait_for(cell.gateway.wait(), 5) == 0

    run(scenario, as_process=True)


def test_a_second_signal_does_not_wait_for_closing_handshakes(run):
    async def scenario(cell):
        async with cell.call() as (media, _):
            media.transport.pause_reading()
            cell.gateway.send_signal(signal.SIGTERM)
            cell.gateway.send_signal(signal.SIGINT)
            await cell.bridge.next(CallEnded)
            # Less than a closing handshake may take (port.CLOSE_S).
            assert await asyncio.wait_for(cell.gateway.wait(), 1.8) == 0
            media.transport.abort()

    run(scenario, as_process=True)


def test_the_death_of_the_supervisor_ends_a_gateway_and_its_calls_at_once(run):
    async def scenario(cell):
        async with cell.call() as (media, started):
            cell.gateway.kill()
            assert await cell.bridge.next(CallEnded) == CallEnded(started.call, "hung-up")
            await asyncio.wait_for(media.wait_closed(), 5)

    run(scenario, as_process=True, supervised=True)
