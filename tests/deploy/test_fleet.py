"""The files for many cells: their own tools find nothing wrong, and they agree with each other and the settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from shared.liveness import IDLE_S
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HAPROXY = (DEPLOY / "haproxy/haproxy.cfg").read_text()
COMPOSE = (DEPLOY / "compose.yaml").read_text()
CELLS = (DEPLOY / "kubernetes/base/cells.yaml").read_text()
KUSTOMIZATION = (DEPLOY / "kubernetes/base/kustomization.yaml").read_text()
# Checks of checkov that the manifests do not pass, and why.
LEFT = {
    "CKV_K8S_35": "the settings, secret ones too, are read from the environment",
    "CKV_K8S_43": "no image has a digest: the cell's is the user's own, and HAProxy's tag brings security fixes",
}
# Of a cell with real-time priority: root with two capabilities, and no others (docs/fleet.md).
LEFT_FOR_REALTIME = LEFT | {
    "CKV_K8S_23": "the cell is root",
    "CKV_K8S_25": "SYS_NICE and IPC_LOCK are added",
    "CKV_K8S_40": "the cell is root",
}
# An overlay is a patch, and not whole by itself.
MANIFESTS = [
    path
    for folder in ("base", "keda")
    for path in sorted((DEPLOY / "kubernetes" / folder).glob("*.yaml"))
    if path.name not in ("kustomization.yaml", "scaled-object.yaml")
]


def run(tool: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a tool; without the tool, the test is skipped."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return subprocess.run(
        [path, *arguments], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )


def rendered(overlay: str, directory: Path) -> Path:
    """A file with all manifests of an overlay, as kubectl would apply them."""
    made = run("kubectl", "kustomize", str(DEPLOY / "kubernetes" / overlay))
    assert made.returncode == 0, made.stderr
    (directory / "all.yaml").write_text(made.stdout)
    return directory / "all.yaml"


def checkov(framework: str, path: Path) -> list[dict[str, Any]]:
    """The checks that failed."""
    checked = run("checkov", "--output", "json", "--framework", framework, "--file", str(path))
    failed: list[dict[str, Any]] = json.loads(checked.stdout)["results"]["failed_checks"]
    return failed


def setting(text: str, name: str) -> str:
    found = re.search(rf"\b{name}(?:: |=)\"?([\w.-]+)", text)
    assert found is not None, name
    return found[1]


def test_haproxy_accepts_its_configuration(tmp_path):
    key = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    made = run("openssl", *key, "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/site.pem")
    assert made.returncode == 0, made.stderr
    with (tmp_path / "site.pem").open("a") as site:
        site.write((tmp_path / "key").read_text())
    (tmp_path / "key").unlink()
    checked = run(
        "haproxy",
        "-c",
        "-f",
        str(DEPLOY / "haproxy/haproxy.cfg"),
        CERTIFICATES=str(tmp_path),
        FALLBACK=str(DEPLOY / "haproxy/fallback.http"),
        STATS_SOCKET=f"{tmp_path}/admin.sock",
    )
    assert checked.returncode == 0, checked.stderr
    assert "[WARNING]" not in checked.stderr
    assert "[ALERT]" not in checked.stderr


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    checked = run("hadolint", str(DEPLOY / "container/Dockerfile"))
    assert checked.returncode == 0, checked.stdout


def test_the_manifests_have_the_fields_that_kubernetes_knows():
    checked = run("kubernetes-validate", "--strict", *map(str, MANIFESTS))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_real_time_overlay_has_the_fields_that_kubernetes_knows(tmp_path):
    checked = run("kubernetes-validate", "--strict", str(rendered("realtime", tmp_path)))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("overlay", "left"), [("base", LEFT), ("keda", LEFT), ("realtime", LEFT_FOR_REALTIME)])
def test_checkov_finds_nothing_in_the_manifests_but_what_is_left_for_a_reason(overlay, left, tmp_path):
    found = checkov("kubernetes", rendered(overlay, tmp_path))
    assert {each["check_id"] for each in found} == set(left), [(each["check_id"], each["resource"]) for each in found]


@pytest.mark.slow
def test_checkov_finds_nothing_in_the_dockerfile():
    assert not checkov("dockerfile", DEPLOY / "container/Dockerfile")


def test_every_setting_in_the_files_of_a_fleet_exists():
    ours = {setting.name.upper() for setting in fields(Settings)}
    named = set(re.findall(r"^ +- ([A-Z_]+)=", KUSTOMIZATION, re.MULTILINE))
    cell = COMPOSE.partition("  haproxy:")[0]
    named |= set(re.findall(r"^ {6}([A-Z_]+):", cell, re.MULTILINE))
    assert named
    assert named <= ours


@pytest.mark.parametrize("text", [COMPOSE, KUSTOMIZATION], ids=["compose", "kubernetes"])
def test_haproxy_asks_the_agent_of_a_cell_at_the_port_that_the_cell_opens(text):
    (port,) = set(re.findall(r"agent-port (\d+)", HAPROXY))
    assert setting(text, "AGENT_CHECK_PORT") == port
    assert setting(text, "FLEET") == "on"


def test_a_percentage_of_a_servers_weight_is_never_rounded_to_a_drain():
    (weight,) = re.findall(r"default-server .*\bweight (\d+)", HAPROXY)
    assert int(weight) >= 100


def test_haproxy_cuts_no_socket_that_a_gateway_would_keep():
    (tunnel_s,) = re.findall(r"timeout tunnel (\d+)s", HAPROXY)
    assert int(tunnel_s) > IDLE_S


def test_a_cell_is_killed_only_after_its_time_to_drain_and_to_hand_its_calls_over():
    drain_s = int(setting(KUSTOMIZATION, "DRAIN_SECONDS"))
    (grace_s,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", CELLS)
    assert int(grace_s) >= drain_s + 60
    supervisord = (DEPLOY / "supervisord.conf").read_text().partition("[program:gateway]")[2]
    (stop_s,) = re.findall(r"stopwaitsecs=(\d+)", supervisord)
    assert int(grace_s) > int(stop_s) > drain_s
    (minutes,) = re.findall(r"stop_grace_period: (\d+)m", COMPOSE)
    assert int(minutes) * 60 > int(stop_s)
