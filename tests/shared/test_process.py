"""What a process does at its start and end."""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import process
from shared.process import EX_CONFIG, EX_TEMPFAIL, PROCESSES, BusyError, ImpatientHandler, instance, sole

ROOT = Path(__file__).parent.parent.parent


def test_each_wrong_setting_gives_a_line_and_exit_status_78() -> None:
    script = (
        "from shared.process import ConfigError, run\n"
        "def main():\n    raise ConfigError('PORT is 0; set it to another one\\nHOST is empty')\n"
        "run('gateway', main)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    lines = "gateway: PORT is 0; set it to another one\ngateway: HOST is empty\n"
    assert (done.returncode, done.stderr) == (EX_CONFIG, lines)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_explains_itself_and_refuses_unknown_arguments(name: str, monkeypatch, capsys) -> None:
    main = importlib.import_module(f"{name}.__main__").main
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    text = capsys.readouterr().out
    assert (ended.value.code, text.startswith(f"usage: python -m {name} ")) == (0, True)
    assert "SIGTERM" in text
    monkeypatch.setattr(sys, "argv", [name, "--hlep"])
    with pytest.raises(SystemExit) as ended:
        main()
    line = f"python -m {name}: unknown argument --hlep, did you mean --help?; see python -m {name} --help\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, line)


def test_a_log_that_nobody_reads_does_not_block_the_process() -> None:
    reading, writing = os.pipe()
    log = logging.Logger("gateway")
    log.addHandler(ImpatientHandler(writing))
    lines = [f"{number} " + "x" * 1_000 for number in range(200)]
    for line in lines:
        log.warning(line)  # more than a pipe holds, 64 kB
    kept = os.read(reading, 1_000_000).decode().splitlines()
    assert kept == lines[: len(kept)]
    assert 10 < len(kept) < len(lines)
    log.warning("at last")
    told = f"{len(lines) - len(kept)} lines of this log were dropped: nobody read it"
    assert os.read(reading, 1_000_000).decode().splitlines() == [told, "at last"]
    log.warning("y" * 10_000)
    assert len(os.read(reading, 1_000_000)) == 10_001
    os.close(reading)
    os.close(writing)


def test_a_run_dir_that_another_process_holds_is_exit_status_75(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from shared import process\n"
        "process.HANDOVER_S = 0.1\n"
        "def main():\n    with process.sole(Path(sys.argv[1]), 'gateway-0'): pass\n"
        "process.run('gateway', main)"
    )
    with sole(tmp_path / "run", "gateway-0"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True, timeout=30
        )
    assert done.returncode == EX_TEMPFAIL
    assert "already runs" in done.stderr.splitlines()[-1]


def test_a_process_waits_for_an_earlier_process_of_its_name(tmp_path: Path) -> None:
    before = ExitStack()
    before.enter_context(sole(tmp_path / "run", "gateway-0"))
    ended: list[bool] = []
    before.callback(ended.append, True)
    end = threading.Timer(0.2, before.close)
    end.start()
    with sole(tmp_path / "run", "gateway-0"):
        assert ended
    end.join()


SPEAKS = (
    "import logging\nfrom shared.process import run\nfrom shared.settings import load\n"
    "def main():\n    load()\n"
    "    for name in ('httpx2', 'httpcore2.http11', 'aiohttp.client', 'other', 'callbook'):\n"
    "        logging.getLogger(name).debug('POST https://example.com/?token=%s', name)\n"
    "        logging.getLogger(name).info('POST https://example.com/?token=%s', name)\n"
    "run('callbook', main)"
)


def lines_of(script: str, directory: Path, **env: str) -> list[str]:
    """What a process that runs `script` in `directory` says on stderr."""
    command, path = [sys.executable, "-c", script], {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=path | env, cwd=directory)
    return done.stderr.splitlines()


def test_the_log_holds_no_line_of_a_library_that_logs_whole_urls(tmp_path: Path) -> None:
    assert lines_of(SPEAKS, tmp_path, LOG_LEVEL="DEBUG") == [
        "INFO other: POST https://example.com/?token=other",
        "DEBUG callbook: POST https://example.com/?token=callbook",
        "INFO callbook: POST https://example.com/?token=callbook",
    ]


def test_the_log_level_of_the_settings_file_counts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=warning\n")
    assert lines_of(SPEAKS, tmp_path) == []


def test_an_unknown_log_level_is_refused_in_one_line(tmp_path: Path) -> None:
    (line,) = lines_of(SPEAKS, tmp_path, LOG_LEVEL="VERBOSE")
    assert line.startswith("callbook: LOG_LEVEL ")
    assert "'DEBUG'" in line


def test_under_supervisord_each_line_begins_with_time_and_instance(tmp_path: Path) -> None:
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z callbook\.2 "
    said = lines_of(SPEAKS, tmp_path, SUPERVISOR_PROCESS_NAME="callbook.2")
    assert [bool(re.fullmatch(stamp + "INFO (other|callbook): .*", line)) for line in said] == [True, True]
    (refusal,) = lines_of(SPEAKS, tmp_path, SUPERVISOR_PROCESS_NAME="callbook.2", LOG_LEVEL="VERBOSE")
    assert re.match(stamp + "callbook: LOG_LEVEL ", refusal)


def test_a_run_dir_holds_one_process_of_a_name_which_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "HANDOVER_S", 0.1)
    run_dir = tmp_path / "run"
    with sole(run_dir, "aibridge-1"):
        (run_dir / "aibridge-1.ipc").touch()
        (run_dir / "aibridge-10.ipc").touch()
        with (
            pytest.raises(BusyError, match=r"another aibridge-1 already runs in RUN_DIR .*; stop it"),
            sole(run_dir, "aibridge-1"),
        ):
            pass
        with sole(run_dir, "aibridge-0"):
            pass
    assert [path.name for path in run_dir.iterdir()] == ["aibridge-10.ipc"]
    (run_dir / "aibridge-10.ipc").unlink()
    with sole(run_dir, "aibridge-1"):
        assert run_dir.stat().st_mode & 0o777 == 0o700
    assert not run_dir.exists()


def test_a_standby_takes_over_when_the_active_process_ends(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from shared.process import sole\n"
        "with sole(Path(sys.argv[1]), 'txpacer', standby=True):\n    print('mine', flush=True)"
    )
    with sole(tmp_path / "run", "txpacer"):
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)
    assert other.communicate(timeout=30)[0] == "mine\n"


@pytest.mark.parametrize(("name", "number"), [("", 0), ("gateway.1", 0), ("gateway.3", 2), ("gateway.x", 0)])
def test_instances_count_from_zero(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    monkeypatch.setitem(os.environ, "HONCHO_PROCESS_NAME", name)
    assert instance() == number


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no scheduling groups")
def test_a_process_that_steps_back_does_so_in_a_session_of_its_own_too() -> None:
    script = (
        "import os; from pathlib import Path; from shared.process import step_back; step_back(); "
        "print(os.getpriority(os.PRIO_PROCESS, 0), Path('/proc/self/autogroup').read_text().split()[-2:])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, start_new_session=True
    ).stdout
    assert printed == "10 ['nice', '10']\n"
