"""The shipped rules, checked without a running system."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS = re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text())


@pytest.mark.parametrize("arguments", [["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]])
def test_promtool_accepts_the_rules_and_their_tests_pass(arguments, promtool):
    done = subprocess.run([promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_alerts_have_the_same_name():
    assert len(ALERTS) == len(set(ALERTS)) >= 11


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tested_firing_and_silent_and_the_docs_say_what_to_do(alert):
    tests = (PROMETHEUS / "alerts.test.yml").read_text()
    assert f"name: {alert} fires" in tests
    assert f"name: {alert} is silent" in tests
    section = (ROOT / "docs/operations.md").read_text().partition(f"### {alert}\n")[2].partition("\n###")[0]
    assert "**What to do.**" in section
    assert f"docs/operations.md#{alert.lower()}" in (PROMETHEUS / "alerts.yml").read_text()


def test_the_dashboard_has_one_data_source_and_no_overlapping_panels():
    panels = json.loads((ROOT / "deploy/grafana/twentyms.json").read_text())["panels"]
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", []))
