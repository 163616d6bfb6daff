"""A real Prometheus with the shipped rules, accelerated: no `for`, and windows of seconds instead of minutes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twentyms.stack import free_port, get

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
WINDOW = "20s"


def need(tool: str) -> str:
    """The path of a Debian tool. When it is missing, the test is skipped; in CI, which installs it, the test fails."""
    path = shutil.which(tool)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{tool} is not installed: apt-get install prometheus")
        pytest.skip(f"{tool} is not installed")
    return path


class Prometheus:
    def __init__(self, port: int) -> None:
        self.port = port

    def _get(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.loads(response.read())["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def ever_fired(self) -> set[str]:
        """The names of all alerts that fired since the start."""
        result = self.query(f'count_over_time(ALERTS{{alertstate="firing"}}[{int(time.monotonic())}s])')
        return {each["metric"]["alertname"] for each in result}


@pytest.fixture
def prometheus(tmp_path: Path) -> Callable[[int], contextlib.AbstractContextManager[Prometheus]]:
    """Watches the metrics on a port of loopback."""
    binary = need("prometheus")

    @contextlib.contextmanager
    def running(target: int) -> Iterator[Prometheus]:
        config = (DEPLOY / "prometheus/prometheus.yml").read_text()
        config = re.sub(r"(\w+_interval): \d+s", r"\1: 1s", config).replace("127.0.0.1:9464", f"127.0.0.1:{target}")
        rules = (DEPLOY / "prometheus/alerts.yml").read_text()
        rules = re.sub(r"^ +for: .*\n", "", rules, flags=re.MULTILINE).replace("[5m]", f"[{WINDOW}]")
        (tmp_path / "prometheus.yml").write_text(config)
        (tmp_path / "alerts.yml").write_text(rules)
        port = free_port()
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={tmp_path}/prometheus.yml",
                    f"--storage.tsdb.path={tmp_path}/tsdb",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
            try:
                deadline = time.monotonic() + 20
                while get(port, "/-/ready")[0] != 200:
                    assert process.poll() is None, (tmp_path / "prometheus.log").read_text()[-2_000:]
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                watching = Prometheus(port)
                # Prometheus waits 5 s before its first scrape; an increase needs two scrapes.
                while not watching.query("count_over_time(up[1m]) >= 2"):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                yield watching
            finally:
                process.terminate()
                process.wait(10)

    return running


@pytest.fixture
def promtool() -> str:
    return need("promtool")
