"""The Realtime sessions of a worker: dialled ahead for calls that are offered, and again for calls that lost theirs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Sequence
from typing import Any, Final

from websockets.exceptions import WebSocketException

from shared.gather import Gather
from shared.metrics import Page
from shared.process import ConfigError

from ...core.agent import Agent, Agents
from ..port import Numbers, Receiver
from .servers import Servers
from .session import ModelRefusedError, Session, probe
from .session_config import phrases, session_config
from .translator import ABILITIES

log = logging.getLogger("aibridge")

# Between tries to reach the model at the start.
PROBE_RETRY_S: Final = 5.0


class Sessions:
    """Dials, holds and counts sessions. `gather` is told of all their reads.

    `servers` have the settings' key and address; agents may have others.
    """

    def __init__(self, agents: Agents, servers: Servers, page: Page) -> None:
        self.abilities = ABILITIES
        self.gather = Gather()
        # The model has accepted our key, model name and session.
        self.is_ready = False
        self._servers = servers
        self._page = page
        self.use(agents)
        # The readers of all sessions, dialled ahead or in use.
        self._readers: set[asyncio.Task[None]] = set()
        self._open = page.gauge("bridge_sessions_open")

    async def probe(self) -> None:
        """Return when the default agent's model is ready. Raises ConfigError when it refuses key, model or agent."""
        agent = self._agents.default
        while not self.is_ready:
            try:
                await self._probe(agent)
            except (OSError, TimeoutError, WebSocketException) as exc:
                address = self._servers.of(agent, self._agents.keys).address
                log.warning("the model at %s cannot be reached (%s); trying again, no calls until then", address, exc)
                await asyncio.sleep(PROBE_RETRY_S)
            else:
                self.is_ready = True
                self._page.gauge("bridge_ready").set(1)
                log.info("ready: the model is %s", agent.model)

    async def probe_others(self, known: Container[str] = ()) -> None:
        """Ask the models of the other agents once, except for agents of `known` versions, and log which are refused.

        Only the callers of such an agent get the fallback.
        """
        for agent in list(self._agents.by_name.values()):
            if agent is not self._agents.default and agent.version not in known:
                try:
                    await self._probe(agent)
                except ConfigError as exc:
                    log.error("agent %s: %s; its callers get the fallback until then", agent.name, exc)
                except (OSError, TimeoutError, WebSocketException) as exc:
                    log.warning("agent %s: its model cannot be reached (%s)", agent.name, exc)

    def use(self, agents: Agents) -> None:
        """Let these agents answer new calls."""
        self._agents = agents
        for agent in agents.by_name.values():
            self._servers.of(agent, agents.keys)  # certificates are read now, and not during a call

    async def _probe(self, agent: Agent) -> None:
        """Raises ConfigError when the agent's model refuses it, and what `session.probe` raises."""
        server = self._servers.of(agent, self._agents.keys)
        try:
            config = session_config(agent, agent.model)
            await probe(server, model=agent.model, config=config)
        except ModelRefusedError as exc:
            key = agent.api_key_env or "OPENAI_API_KEY"
            about = f"{key}, OPENAI_REALTIME_MODEL and OPENAI_BASE_URL"
            if exc.is_settings:
                about = f"the agent's file ({agent.name}.toml)"
            elif agent.api_key_env:  # an agent with a server of its own has this, too
                about = f"{key}, and model and base_url in the agent's file ({agent.name}.toml)"
            raise ConfigError(f"the model refused us ({exc}); check {about}") from None

    async def close(self) -> None:
        """End all sessions."""
        self.is_ready = False
        readers = list(self._readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    def dial(
        self, call_sid: str, agent: Agent, functions: Sequence[dict[str, Any]], numbers: Numbers, receiver: Receiver
    ) -> Session:
        """Open a session of an agent with these tools; `receiver` gets its events."""
        server = self._servers.of(agent, self._agents.keys)
        session = Session(
            server,
            model=agent.model,
            config=session_config(agent, agent.model, functions),
            phrases=phrases(agent),
            numbers=numbers,
            request_id=call_sid,
            on_event=receiver.event,
            on_malformed=self._page.counter("bridge_malformed_events").inc,
            gather=self.gather,
        )
        session.task = asyncio.create_task(self._hold(session, receiver, call_sid, agent.name))
        self._readers.add(session.task)
        session.task.add_done_callback(self._readers.discard)
        return session

    async def _hold(self, session: Session, receiver: Receiver, call_sid: str, agent: str) -> None:
        """Keep one session until it ends, and say how."""
        self._open.inc()
        self._count("opened")
        outcome = "lost"
        try:
            await session.run()
        except asyncio.CancelledError:
            # Ours, and the task's end. Raised on, it would hang on the task in a cycle that keeps all of the call.
            outcome = "closed"
        except ModelRefusedError as exc:
            outcome = "refused"
            advice = "check its key and model"
            log.error("call %s: the model refused the session of agent %s (%s); %s", call_sid, agent, exc.code, advice)
        except (OSError, TimeoutError, WebSocketException) as exc:
            log.warning("call %s: the model's socket failed (%s)", call_sid, type(exc).__name__)
        except Exception as exc:
            # A fault of ours in dealing with an event: the call goes on with another session. The type only: a message
            # can quote what was said.
            log.error("call %s: an event of the model could not be dealt with (%s)", call_sid, type(exc).__name__)
        finally:
            self._open.inc(-1)
            self._count(outcome)
        if outcome != "closed":
            receiver.gone(refused=outcome == "refused")

    def _count(self, outcome: str) -> None:
        self._page.counter("bridge_sessions", outcome).inc()
