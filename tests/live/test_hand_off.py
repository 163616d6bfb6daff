"""Two numbers, two agents, two voices; in half of the calls one hands off to the other in mid-call."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from proofs.judge import judge
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiHeard, AiSilent, Caller, HangUp, Say
from simulator.carrier.client import Exchange
from twentyms.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]

CALLS = 20
NUMBERS = {"sales": "+15550100", "office": "+15550199"}
VOICES = {"sales": "cedar", "office": "marin"}


def write(directory: Path) -> None:
    directory.mkdir()
    (directory / "sales.toml").write_text(
        f'instructions = "I am sales."\ngreeting = "Hello."\nvoice = "{VOICES["sales"]}"\n'
        f'numbers = ["{NUMBERS["sales"]}"]\n[hand_off]\noffice = "Invoices."\n'
    )
    # Another model, another address and another key.
    (directory / "office.toml").write_text(
        f'instructions = "I am the office."\ngreeting = "Hello."\nvoice = "{VOICES["office"]}"\ndefault = true\n'
        'model = "gpt-realtime-2.1-mini"\nbase_url = "http://localhost:PORT/v1"\napi_key_env = "OFFICE_KEY"\n'
    )


def test_calls_change_their_agent_in_mid_call_without_a_gap_and_with_the_whole_history(tmp_path: Path) -> None:
    agents, behaviour = tmp_path / "agents", tmp_path / "behaviour.json"
    write(agents)
    hand_off = {"tool_call": "hand_off", "tool_arguments": '{"agent": "office"}', "preamble": True}
    behaviour.write_text(json.dumps({"responses": [{}, hand_off]}))
    env = {"AGENTS_DIR": str(agents), "OFFICE_KEY": "sk-office"}
    stack = Stack(log=tmp_path / "log", env=env, model=("--behaviour", str(behaviour)))
    office = agents / "office.toml"
    office.write_text(office.read_text().replace("PORT", str(stack.model_port)))
    with stack:

        async def calls() -> list[CallRecord]:
            async with Exchange() as exchange:

                async def one(number: int, agent: str) -> CallRecord:
                    await asyncio.sleep(number * 0.1)
                    script = [
                        Say("hello", AiSilent(ms=300)),
                        Say("hello", AiSilent(ms=600)),
                        HangUp(AiHeard(ms=1_500)),
                    ]
                    return await exchange.place_call(
                        stack.webhook_url,
                        stack.auth_token,
                        caller=Caller(script, seed=number, noise=True),
                        to_number=NUMBERS[agent],
                    )

                return list(await asyncio.gather(*(one(n, list(NUMBERS)[n % 2]) for n in range(CALLS))))

        records = asyncio.run(calls())
        for number, record in enumerate(records):
            agent = list(NUMBERS)[number % 2]
            sessions = stack.sessions(record.call_sid)
            verdict = judge(record, sessions)
            assert verdict.problems() == [], f"{agent} {number}"
            assert verdict.gap_ms == 0
            expected = ["sales", "office"] if agent == "sales" else ["office"]
            assert [each["voice"] for each in sessions] == [VOICES[name] for name in expected]
            if agent == "sales":
                first, second = sessions
                assert second["instructions"] == "I am the office."
                said = [item["transcript"] for item in first["items"] if item["transcript"]]
                roles, told = zip(*((each["role"], each["text"]) for each in second["told"]), strict=True)
                assert roles == ("assistant", "user", "assistant", "system")
                assert [told[0], told[2]] == said, "the greeting, and the announcement of the office"
                assert told[1], "what the caller said"
