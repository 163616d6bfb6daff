"""The files for supervisord and systemd: the processes that they start, and with which settings."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from shared.settings import NAMES, Settings

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
SUPERVISORD = RawConfigParser(inline_comment_prefixes=(";",))
SUPERVISORD.read(ROOT / "deploy/supervisord.conf")
PROGRAMS = {name: SUPERVISORD[name] for name in SUPERVISORD.sections() if name.startswith("program:")}


def directives(unit: Path, name: str) -> list[str]:
    text = unit.read_text().replace("\\\n", " ")
    return [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith(f"{name}=")]


def module(command: str) -> str:
    words = shlex.split(command)
    return words[words.index("-m") + 1]


def variables(command: str) -> dict[str, str]:
    """The variables that `env` sets in a command line."""
    return dict(word.split("=", 1) for word in shlex.split(command) if re.match(r"[A-Z_]+=", word))


def test_procfile_supervisord_and_systemd_start_the_same_processes():
    procfile = {module(line.partition(":")[2]) for line in (ROOT / "Procfile").read_text().splitlines()}
    assert len(procfile) == 5
    assert {module(program["command"]) for program in PROGRAMS.values()} == procfile
    assert {module(*directives(unit, "ExecStart")) for unit in UNITS} == procfile


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_units_own_settings_override_the_common_file(unit):
    (command,) = directives(unit, "ExecStart")
    given = variables(command)
    assert set(given) == {"GATEWAYS", "AIBRIDGE_WORKERS", "RUN_DIR", "DATA_DIR"}
    overridden = {word.partition("=")[0].lower() for each in directives(unit, "Environment") for word in each.split()}
    assert not overridden & set(NAMES)
    wanted = (ROOT / "deploy/systemd/twentyms.target").read_text()
    assert wanted.count("twentyms-gateway@") == int(given["GATEWAYS"])
    assert wanted.count("twentyms-aibridge@") == int(given["AIBRIDGE_WORKERS"])


def test_supervisord_starts_as_many_processes_as_the_settings_say():
    given = dict(each.split("=") for each in SUPERVISORD["supervisord"]["environment"].replace('"', "").split(","))
    assert PROGRAMS["program:gateway"]["numprocs"] == given["GATEWAYS"]
    assert PROGRAMS["program:aibridge"]["numprocs"] == given["AIBRIDGE_WORKERS"]


def test_a_process_that_ends_is_restarted_unless_a_setting_is_wrong():
    for unit in UNITS:
        assert directives(unit, "Restart") == ["always"]
        assert directives(unit, "RestartPreventExitStatus") == ["78"]
    for program in PROGRAMS.values():
        assert (program["autorestart"], program["exitcodes"]) == ("unexpected", "78")


def test_callbook_ends_last_and_gateways_end_first_under_supervisord():
    by_priority = sorted(PROGRAMS, key=lambda name: int(PROGRAMS[name]["priority"]), reverse=True)
    assert by_priority == [
        "program:gateway",
        "program:aibridge",
        "program:txpacer",
        "program:toolbox",
        "program:callbook",
    ]
    assert len({program["priority"] for program in PROGRAMS.values()}) == len(PROGRAMS)


def test_callbook_ends_last_and_gateways_end_first_under_systemd():
    after = {
        unit.stem.removeprefix("twentyms-").rstrip("@"): {
            name.removeprefix("twentyms-").partition("@")[0].removesuffix(".service")
            for line in directives(unit, "After")
            for name in line.split()
            if name.startswith("twentyms-")
        }
        for unit in UNITS
    }
    assert after == {
        "callbook": set(),
        "toolbox": set(),
        "txpacer": {"callbook"},
        "aibridge": {"callbook", "toolbox", "txpacer"},
        "gateway": {"callbook", "toolbox", "txpacer", "aibridge"},
    }


def test_a_gateway_may_drain_before_it_is_killed():
    drain_s = Settings.drain_seconds
    assert int(PROGRAMS["program:gateway"]["stopwaitsecs"]) > drain_s
    (unit,) = (unit for unit in UNITS if "gateway" in unit.stem)
    assert int(*directives(unit, "TimeoutStopSec")) > drain_s


def test_systemd_accepts_the_units(tmp_path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    units = [shutil.copy(path, tmp_path) for path in (*UNITS, ROOT / "deploy/systemd/twentyms.target")]
    command = [tool, "verify", "--man=no", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
