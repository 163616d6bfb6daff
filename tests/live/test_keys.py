"""Keys and tones in real calls: a secret entry is found nowhere but in its tool, and tones are received."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

import pytest

from aibridge.core.keypad import IN_WORDS
from proofs.tones import sent
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AfterAnswer, AiSilent, Caller, HangUp, Press, Say, Step, Wait
from simulator.carrier.client import Exchange
from twentyms.stack import Stack, get

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

SECRET = "".join(secrets.choice("0123456789") for _ in range(12))
TONES = "1w23#"
PIN, MENU = "+15550200", "+15550201"
# The simulated model gives all functions the same arguments.
TOOL = '''
from pathlib import Path
from twentyms import CallContext, tool

@tool
def check_pin(call: CallContext, digits: str = "") -> str:
    """Check the PIN that the caller has entered."""
    Path(__file__).with_name("entered").write_text(call.digits)
    return "right"
'''


def write(agents: Path) -> None:
    agents.mkdir()
    (agents / "pin.py").write_text(TOOL)
    (agents / "pin.toml").write_text(
        'instructions = "Ask for the PIN."\ngreeting = "Hello."\ndefault = true\n'
        '[keypad]\nsecret = true\n[tools]\npython = ["pin.py"]\n'
    )
    (agents / "menu.toml").write_text(
        f'instructions = "Talk to machines."\ngreeting = "Hello."\nnumbers = ["{MENU}"]\nsend_dtmf = true\n'
    )


def test_a_secret_entry_is_found_nowhere_but_in_its_tool_and_tones_are_received(tmp_path: Path) -> None:
    agents, behaviour = tmp_path / "agents", tmp_path / "behaviour.json"
    write(agents)
    uses = {"tool_call": "check_pin send_dtmf", "tool_arguments": json.dumps({"digits": TONES})}
    behaviour.write_text(json.dumps({"responses": [{}, uses]}))
    keys: list[Step] = [Press(SECRET[0], AiSilent(ms=500)), *(Press(key, Wait(ms=100)) for key in SECRET[1:] + "#")]
    end = HangUp(AfterAnswer(ms=14_000))
    env = {"AGENTS_DIR": str(agents), "LOG_LEVEL": "DEBUG"}
    with Stack(log=tmp_path / "log", env=env, model=("--behaviour", str(behaviour), "--keep-input")) as stack:

        async def calls() -> list[CallRecord]:
            async with Exchange() as exchange:

                def place(script: list[Step], to_number: str) -> asyncio.Future[CallRecord]:
                    caller = Caller(script, noise=True)
                    call = exchange.place_call(stack.webhook_url, stack.auth_token, caller=caller, to_number=to_number)
                    return asyncio.ensure_future(call)

                return await asyncio.gather(
                    place([*keys, end], PIN), place([Say("hello", AiSilent(ms=500)), end], MENU)
                )

        with_keys, with_tones = asyncio.run(calls())
        sessions = {call.call_sid: stack.sessions(call.call_sid) for call in (with_keys, with_tones)}
        port = int(stack.env["METRICS_PORT"])
        places = {
            "metrics": get(port, "/metrics")[1],
            "timeline": get(port, f"/api/calls/{with_keys.call_sid}")[1],
            "model's traffic": json.dumps(sessions).encode(),
            # callbook's database and spool, and whatever else the processes write.
            "files and records": b"".join(path.read_bytes() for path in stack.run_dir.rglob("*") if path.is_file()),
        }
    places["log"] = (tmp_path / "log").read_bytes()
    assert (agents / "entered").read_text() == SECRET
    (session,) = sessions[with_keys.call_sid]
    assert [each["text"] for each in session["told"]] == [f"{IN_WORDS}12 secret keys)"]
    assert b"12 secret keys" in places["timeline"]
    for where, text in places.items():
        assert len(text) > 1_000, where
        assert SECRET.encode() not in text, f"the secret is in the {where}"
    found = sent(with_tones, sessions[with_tones.call_sid])
    assert not found.problem
    assert found.received == TONES.replace("w", "")
