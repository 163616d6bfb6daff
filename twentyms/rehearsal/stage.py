"""Where scenarios are carried out: all processes with the user's agents and tools, and nothing of the world outside.

Twilio, the user's webhook and the user's database are left out, whatever the settings say. The model is the configured
one, or the simulated one. Tools are the real ones: their effects happen.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvloop
from dotenv import dotenv_values, set_key

from callbook.database import reading
from callbook.queries import whole
from shared.agents.agent_file import AgentFile
from shared.agents.directory import read_directory
from shared.process import ConfigError
from shared.settings import Settings
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import Caller
from simulator.carrier.client import Exchange
from simulator.network.path import PathBehaviour
from simulator.network.proxy import ProxyProcess

from ..stack import Stack
from .judgement import Rehearsed, judged
from .scenario import Scenario, script
from .voice import Voices

# Settings that lead to somebody else.
LEFT_OUT: Final = (
    *("TWILIO_ACCOUNT_SID", "TWILIO_SHARED_KEY", "TWILIO_API_URL", "ALLOW_UNSIGNED", "PHONE_PAGE", "FALLBACK_DIAL"),
    *("WEBHOOK_URL", "WEBHOOK_SECRET", "DATABASE_URL", "RECORDING", "BUS_URL", "BUS_SECRET_KEY", "METRICS_HOST"),
)
# Those that Stack sets.
STACKS: Final = (
    "TWILIO_AUTH_TOKEN", "PUBLIC_URL", "GATEWAY_HOST", "GATEWAY_PORT", "METRICS_PORT", "RUN_DIR", "DATA_DIR"
)  # fmt: skip
DEFAULT_NUMBER: Final = "+15005550001"
# callbook writes a record within this of the end of its call.
RECORD_S: Final = 10.0
# Calls that begin at once would all speak at the same instants.
STAGGER_S: Final = 0.15


class Stage:
    """A context manager. `perform` carries out scenarios while it lasts."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        out: Path,
        *,
        simulated: bool,
        network: PathBehaviour | None = None,
    ) -> None:
        """`directory` holds the user's `.env`, `out` gets records and log.

        Raises ConfigError for agents that cannot be read.
        """
        self._numbers = _numbers(settings)
        self._network = network
        self._data = out / "data"
        self._home = Path(tempfile.mkdtemp(prefix="twentyms-rehearsal-"))
        for name, value in dotenv_values(directory / ".env").items():
            if name not in (*LEFT_OUT, *STACKS):
                set_key(self._home / ".env", name, value or "")
        env = dict.fromkeys(LEFT_OUT, "") | {"DATA_DIR": str(self._data.absolute()), "GATEWAYS": "1"}
        for name, path in (("AGENT_FILE", settings.agent_file), ("AGENTS_DIR", settings.agents_dir)):
            env[name] = str(path or "")
        if not simulated:
            env["OPENAI_API_KEY"] = settings.openai_api_key
            env["OPENAI_BASE_URL"] = settings.openai_base_url
            env["OPENAI_REALTIME_MODEL"] = settings.openai_realtime_model
        embedded = ("--embedded", settings.simulated_model)
        self.log = out / "processes.log"
        self._stack = Stack(env=env, model=embedded, directory=self._home, log=self.log)
        self._records = settings.model_copy(update={"data_dir": self._data, "database_url": ""})
        self._up = contextlib.ExitStack()
        self._via = ("127.0.0.1", self._stack.gateway_port)

    def __enter__(self) -> Self:
        shutil.rmtree(self._data, ignore_errors=True)
        with self._up:
            self._up.callback(shutil.rmtree, self._home, ignore_errors=True)
            self._up.enter_context(self._stack)
            if self._network is not None:
                proxy = self._up.enter_context(ProxyProcess(self._via, self._network))
                self._via = ("127.0.0.1", proxy.port)
            self._up = self._up.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._up.close()

    def perform(self, scenarios: Sequence[Scenario], voices: Voices, *, at_once: int = 8) -> list[Rehearsed]:
        """Carry the scenarios out, and judge them. Raises ConfigError for an agent that no call reaches."""
        numbers = [self._number(scenario) for scenario in scenarios]
        return uvloop.run(self._perform(scenarios, numbers, voices, at_once))

    def _number(self, scenario: Scenario) -> str:
        if not scenario.agent:
            return DEFAULT_NUMBER
        number = self._numbers.get(scenario.agent)
        if number is None:
            known = ", ".join(sorted(self._numbers)) or "none"
            raise ConfigError(
                f"{scenario.name}: no call reaches the agent {scenario.agent}; give it numbers (reachable: {known})"
            )
        return number

    async def _perform(
        self, scenarios: Sequence[Scenario], numbers: Sequence[str], voices: Voices, at_once: int
    ) -> list[Rehearsed]:
        room = asyncio.Semaphore(at_once)
        async with Exchange() as exchange:

            async def one(n: int, scenario: Scenario) -> CallRecord:
                async with room:
                    await asyncio.sleep(n % at_once * STAGGER_S)
                    caller = Caller(script(scenario, lambda step: voices.of(scenario, step)), seed=n, noise=True)
                    return await exchange.place_call(
                        self._stack.webhook_url,
                        self._stack.auth_token,
                        caller=caller,
                        connect_to=self._via,
                        from_number=scenario.from_number,
                        to_number=numbers[n],
                        limit_s=scenario.limit_s,
                    )

            calls = await asyncio.gather(*(one(n, scenario) for n, scenario in enumerate(scenarios)))
        records = await asyncio.gather(*(self._record(call.call_sid) for call in calls))
        found = []
        for scenario, call, record in zip(scenarios, calls, records, strict=True):
            rehearsed = Rehearsed(scenario, call, record)
            rehearsed.problems += judged(rehearsed)
            found.append(rehearsed)
        return found

    async def _record(self, call_sid: str) -> dict[str, Any]:
        """The call's record when it is complete, or as it stands after RECORD_S."""
        record: dict[str, Any] | None = None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RECORD_S
        while loop.time() < deadline:
            with reading(self._records) as session:
                record = whole(session, call_sid)
            # The end of the stream and the end of the conversation come from two processes.
            if record and record["ended_at"] and all(each["ear_gaps"] is not None for each in record["streams"]):
                break
            await asyncio.sleep(0.1)
        return record or {}


def _numbers(settings: Settings) -> dict[str, str]:
    """A number that reaches each agent."""
    if settings.agents_dir is None:
        name = settings.agent_file.stem if settings.agent_file is not None else "agent"
        return {name: DEFAULT_NUMBER}
    found = read_directory(settings.agents_dir)

    def number(file: AgentFile, *, is_default: bool) -> str:
        return DEFAULT_NUMBER if is_default else next(iter(file.numbers), "")

    reached = {name: number(each.file, is_default=each is found.default) for name, each in found.agents.items()}
    return {name: number for name, number in reached.items() if number}
