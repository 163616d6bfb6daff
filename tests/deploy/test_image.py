"""deploy/container/Dockerfile, carried out in a Debian of its own without a container engine."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proofs import chroot
from proofs.image import DockerfileError, Image, built, stages

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/container/Dockerfile"
# docker run --read-only, with these as volumes.
WRITABLE = ("/run/twentyms", "/tmp", "/var/lib/twentyms")


def test_a_dockerfile_is_read_as_its_stages_with_their_steps():
    text = '# Why\nFROM a:1 AS build\nRUN one && \\\n    two\nFROM b\nCMD ["x"]\n'
    build, last = stages(text)
    assert (build.base, build.name, build.steps) == ("a:1", "build", [("RUN", "one &&      two")])
    assert last.steps == [("CMD", '["x"]')]
    with pytest.raises(DockerfileError, match="before FROM"):
        stages("RUN one\n")


def test_the_image_has_no_tools_of_the_build_and_no_root():
    *_, last = stages(DOCKERFILE.read_text())
    assert ("USER", "10001") in last.steps
    assert not [
        argument for name, argument in last.steps if name == "RUN" and re.search(r"\b(pip|uv|apt-get)\b", argument)
    ]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The image, built once. Prints its size and the time it took."""
    if lack := chroot.missing():
        pytest.skip(lack)
    folder = tmp_path_factory.mktemp("image")
    began = time.monotonic()
    with built(DOCKERFILE, ROOT, folder) as made:
        size = subprocess.run(
            ("du", "-sm", made.system.root), capture_output=True, text=True, check=True
        ).stdout.split()[0]
        print(f"built in {time.monotonic() - began:.0f} s; the image has {size} MB", file=sys.stderr)
        yield made
    assert not folder.exists()


def run(image: Image, *command: str, **settings: str) -> str:
    """Carry out a command as a container would: as the image's user, its root read-only."""
    return image.system.run(
        *command,
        env={**image.env, **settings},
        cwd=image.cwd,
        user=image.user,
        writable=WRITABLE,
        may_be_realtime=True,
        timeout_s=150,
    )


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.timeout(900)
def test_the_image_starts_is_healthy_and_drains_on_sigterm(image):
    with socket.socket() as free, socket.socket() as private:
        free.bind(("127.0.0.1", 0))
        private.bind(("127.0.0.1", 0))
        ports = {"GATEWAY_PORT": str(free.getsockname()[1]), "METRICS_PORT": str(private.getsockname()[1])}
    health = shlex.join(image.health).replace("8080", ports["GATEWAY_PORT"])
    script = f"""
        {shlex.join(image.command)} & cell=$!
        for second in $(seq 100); do
            {health.replace("healthz", "readyz")} 2>/dev/null && break
            sleep 0.2
        done
        {health} && echo healthy
        touch /opt/twentyms/x 2>/dev/null || echo read-only
        kill -TERM $cell && wait $cell
        echo ended with $?
    """
    settings = {"OPENAI_API_KEY": "none", "TWILIO_AUTH_TOKEN": "none", "PUBLIC_URL": "https://voice.example.com"}
    printed = run(image, "sh", "-c", script, **settings, **ports)
    for expected in ("\nhealthy\n", "\nread-only\n", "\nended with 0"):
        assert expected in printed, printed[-3_000:]


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.timeout(900)
def test_the_demo_passes_inside_the_image(image):
    assert "BROKEN" not in run(image, "twentyms", "demo")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_image_lists_what_is_in_it(image):
    listed = image.system.path("/opt/twentyms/sbom.json").read_text()
    assert '"bomFormat": "CycloneDX"' in listed
    assert '"name": "websockets"' in listed
