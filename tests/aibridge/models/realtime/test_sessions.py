"""The sessions of a worker, with the simulated model on a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aibridge import agents
from aibridge.metrics import DEFINITIONS
from aibridge.models.realtime import sessions
from aibridge.models.realtime.servers import Servers
from aibridge.models.realtime.sessions import Sessions
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import Settings
from simulator.model.behaviour import Behaviour
from simulator.model.server import ModelServer
from tests.on_a_loop import on_a_loop

STRANGE = {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "no such type"}}}}


@pytest.mark.parametrize(
    ("key", "config", "advice"),
    [("sk-test", STRANGE, "agent.toml"), ("sk-refused", {"type": "realtime"}, "OPENAI_API_KEY")],
)
@on_a_loop
async def test_a_start_that_the_model_refuses_names_what_to_change(
    monkeypatch: pytest.MonkeyPatch, key: str, config: Any, advice: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sessions, "session_config", lambda *_: config)
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    async with ModelServer(behaviour_for=lambda _: Behaviour()) as model:
        servers = Servers(f"http://127.0.0.1:{model.port}/v1", key)
        starting = Sessions(agents.load(settings), servers, Page.in_memory(DEFINITIONS))
        with pytest.raises(ConfigError, match=advice):
            await asyncio.wait_for(starting.probe(), 10)
        assert not starting.is_ready
