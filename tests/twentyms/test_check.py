"""`twentyms check`: settings and agent, without starting anything."""

from __future__ import annotations

import os

import pytest

from shared.process import ConfigError
from twentyms import check


def test_good_settings_pass(home, capsys):
    assert check.main([]) == 0
    assert "can be used, with the simulated model" in capsys.readouterr().out


def test_every_problem_is_a_line(home, capsys):
    (home / ".env").write_text(
        "OPENAI_API_KEY=x\nTWILIO_AUTH_TOKN=x\nRECORDING=on\nAGENT_FILE=/dev/null/agent.toml\nDATABASE_URL=mysql://h/n\n"
    )
    assert check.main([]) == 78
    lines = capsys.readouterr().out.splitlines()
    for line, word in zip(
        lines,
        ("TWILIO_AUTH_TOKN in .env", "AGENT_FILE", "RECORDING", "DATABASE_URL", "TWILIO_AUTH_TOKEN is not"),
        strict=True,
    ):
        assert word in line


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (
            "RECORDING=on\nMODEL_PRICES=x\nDATA_DIR=agent.toml/x\nWEBHOOK_URL=x\nOTEL_EXPORTER_OTLP_ENDPOINT=x\n",
            ["RECORDING", "MODEL_PRICES", "DATA_DIR", "WEBHOOK_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        ),
        ("BUS_URL=tcp://127.0.0.1:7400\n", ["BUS_SECRET_KEY"]),
        (f"RUN_DIR=/tmp/{'x' * 70}\n", ["RUN_DIR"]),
        ("RUN_DIR=agent.toml\n", ["RUN_DIR"]),
        ("TX_CPU=900\n", ["TX_CPU"]),
        ("TX_LEAD_MS\n", ["TX_LEAD_MS"]),
    ],
)
def test_what_a_process_refuses_at_its_start_is_a_line_for_each(wrong, names, home, capsys):
    (home / "agent.toml").write_text('instructions = "x"\n')
    (home / ".env").write_text(wrong)
    cpus = os.sched_getaffinity(0)
    assert check.main([]) == 78
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names
    assert os.sched_getaffinity(0) == cpus
    assert sorted(path.name for path in home.iterdir()) == [".env", "agent.toml"]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (b"GATEWAY_PORT=9464\n", "GATEWAY_PORT and METRICS_PORT are both 9464"),
        (b"OPENAI_BASE_URL=host/v1\n", "OPENAI_BASE_URL must be a URL"),
        (b"TWILIO_API_URL=x\n", "TWILIO_API_URL must be a URL"),
        (b"TX_LEAD_MS=100\nFALLBACK_SAY=\xe9\n", "is not UTF-8 text"),
    ],
)
def test_a_setting_that_no_process_can_read_is_named(wrong, name, home):
    (home / ".env").write_bytes(wrong)
    with pytest.raises(ConfigError, match=name):
        check.main([])


def test_every_mistake_of_every_agent_is_a_line(home, capsys):
    (home / "agents").mkdir()
    (home / "agents" / "a.toml").write_text('instructions = "{{nmae}}"\nvoise = "cedar"\n')
    (home / "agents" / "b.toml").write_text('instructions = "x"\nbase_url = "https://host/v1"\n')
    (home / ".env").write_text("OPENAI_API_KEY=x\nALLOW_UNSIGNED=on\nAGENTS_DIR=agents\n")
    assert check.main([]) == 78
    lines = capsys.readouterr().out.splitlines()
    found = [line.removeprefix(f"{home}/agents/").split(": ")[:2] for line in lines]
    assert found[:3] == [["a.toml", "voise"], ["a.toml", "instructions"], ["b.toml", "base_url"]]
    assert "no agent is the default" in lines[3]


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "TWILIO_AUTH_TOKEN"])
def test_check_does_not_print_a_secret(name, home, capsys):
    (home / ".env").write_text(f"{name}=sk-secret\nAGENT_FILE=/dev/null\n")
    check.main([])
    assert "sk-secret" not in capsys.readouterr().out


def test_a_mistake_in_the_tools_of_an_agent_is_a_line(home, capsys):
    (home / "agent.toml").write_text('instructions = "x"\n[tools]\npython = ["missing.py"]\n')
    (home / ".env").write_text("AGENT_FILE=agent.toml\n")
    assert check.main([]) == 78
    (line,) = capsys.readouterr().out.splitlines()
    assert "agent.toml: tools: there is no file missing.py beside it" in line


@pytest.mark.parametrize(
    ("name", "http"), [("end_call", ""), ("book", '[tools.http.book]\ndescription = "x"\nurl = "https://host"\n')]
)
def test_a_tool_whose_name_is_taken_is_a_line_because_the_agent_would_lack_it(name, http, home, capsys):
    (home / "my_tools.py").write_text(f"from twentyms import tool\n\n@tool\ndef {name}() -> str:\n    'Do it.'\n")
    (home / "agent.toml").write_text(f'instructions = "x"\n[tools]\npython = ["my_tools.py"]\n{http}')
    (home / ".env").write_text("AGENT_FILE=agent.toml\n")
    assert check.main([]) == 78
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"agent agent: the tool {name} of")
    assert "its name is taken" in line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("from twentyms import tool\n\n@tool\ndef f(x) -> str:\n    '''F.'''\n    return x\n", "my_tools.py: "),
        ("import no_such_library\n", "my_tools.py, line 1: ModuleNotFoundError"),
        ("import os\nos._exit(3)\n", "the import ended the process (exit status 3)"),
        ("print('hello')\n", "no function has @tool"),
    ],
)
def test_a_file_of_tools_that_cannot_be_used_is_named_with_the_reason(source, said, home, capsys):
    (home / "my_tools.py").write_text(source)
    (home / "agent.toml").write_text('instructions = "x"\n[tools]\npython = ["my_tools.py"]\n')
    (home / ".env").write_text("AGENT_FILE=agent.toml\n")
    assert check.main([]) == 78
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{home}/my_tools.py")
    assert said in line
