"""`proofs.chroot`: a command in a system of its own. Here, to take no time, that system is this machine's."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from proofs.chroot import Chroot, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
HERE = Chroot(Path("/"))


def test_a_command_sees_no_process_and_no_setting_of_this_machine(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    seen = HERE.run("sh", "-c", "ls /proc | grep -c ^[0-9]; env; pwd; id -u", cwd="/tmp", env={"A": "1"}, user="7:7")
    lines = seen.split()
    assert int(lines[0]) < 10
    assert lines[-2:] == ["/tmp", "7"]
    assert "A=1" in lines
    assert "secret" not in seen


def test_nothing_of_a_command_stays_mounted_or_running(tmp_path):
    before = Path("/proc/mounts").read_text()
    HERE.run("sh", "-c", f"(sleep 1; touch {tmp_path}/late) &")
    assert Path("/proc/mounts").read_text() == before
    with pytest.raises(RuntimeError, match=r"took more than 0\.1 s"):
        HERE.run("sh", "-c", "sleep 30", timeout_s=0.1)
    assert not list(tmp_path.iterdir())


def test_nothing_of_another_users_command_goes_on_when_it_is_killed():
    def runs() -> bool:
        return subprocess.run(("pgrep", "-fx", r"sleep 31\.25"), capture_output=True).returncode == 0

    process = HERE.start("sleep", "31.25", user="7:7")
    until = time.monotonic() + 5
    while not runs() and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    while runs() and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs()


def test_a_failed_command_tells_its_status_and_what_it_printed():
    with pytest.raises(RuntimeError, match=r"status 3:\nno such agent"):
        HERE.run("sh", "-c", "echo no such agent; exit 3")


def test_what_git_knows_of_a_checkout_is_copied_with_its_changes(tmp_path):
    copied = Chroot(tmp_path)
    copied.copy_checkout(Path(__file__).parents[2], "/source")
    assert copied.path("/source/proofs/chroot.py").read_text() == Path("proofs/chroot.py").read_text()
    assert not copied.path("/source/.git").exists()
    assert copied.path("/source/twentyms/examples").is_symlink()
    assert copied.path("/source/twentyms/examples/restaurant").is_dir()


def test_a_command_that_may_be_realtime_gets_a_real_time_priority_though_it_is_not_root():
    asked = ("chrt", "--fifo", "40", "id", "-u")
    assert HERE.run(*asked, user="7:7", may_be_realtime=True).split() == ["7"]
    with pytest.raises(RuntimeError, match="not permitted"):
        HERE.run(*asked, user="7:7")
