"""The browser phone without a key: a script answers, and calls the tool that the README shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.phone.browsers import Launch, Microphone
from twentyms.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]

README = (Path(__file__).parents[2] / "README.md").read_text()
# Into the script's greeting, and after its answer to that.
SPEAKS_S = (3.0, 9.0)


def test_the_readmes_tool_is_called_in_a_simulated_conversation(
    tmp_path: Path, launch: Launch, microphone: Microphone
) -> None:
    (code,) = re.findall(r"^```python\n(from twentyms import tool\n.*?)^```", README, re.DOTALL | re.MULTILINE)
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "my_tools.py").write_text(code)
    (agents / "mine.toml").write_text(
        'instructions = "Be friendly."\ngreeting = "Hello."\n[tools]\npython = ["my_tools.py"]\n'
    )
    (agents / "other.toml").write_text('instructions = "Be friendly."\ndefault = true\n')
    env = {
        "TWILIO_AUTH_TOKEN": "",
        "ALLOW_UNSIGNED": "on",
        "DATA_DIR": str(tmp_path / "data"),
        "AGENTS_DIR": str(agents),
    }
    voice = microphone([(at, "vm-sorry") for at in SPEAKS_S], 20)
    with Stack(env=env, model=("--embedded", "talk"), log=tmp_path / "log") as stack, launch(voice) as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{stack.gateway_port}/")
        expect(page.locator("#simulated")).to_contain_text("A script answers")
        page.get_by_label("Agent").select_option("mine")
        page.get_by_role("button", name="Call").click()
        expect(page.locator("#transcript li.tool")).to_contain_text("9 to 18", timeout=30_000)
        expect(page.locator("#transcript li.ai").last).to_contain_text("It has answered", timeout=5_000)
        call_sid = json.loads(page.evaluate("JSON.stringify(window.twentyms)"))["callSid"]
        page.get_by_role("button", name="Hang up").click()
        (session,) = stack.sessions(call_sid)
    assert [each["type"] for each in session["functions"]] == ["function_call", "function_call_output"]
