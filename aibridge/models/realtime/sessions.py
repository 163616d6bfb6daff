"""The Realtime sessions of a worker: dialled ahead for calls that are offered, and again for calls that lost theirs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from openai import AsyncOpenAI
from websockets.exceptions import WebSocketException

from shared.gather import Gather
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import Settings

from ... import agent as agents
from ...agent import Agent
from ..port import Numbers, Receiver
from .session import ModelRefusedError, Session, probe, tls_context
from .session_config import phrases, session_config
from .translator import ABILITIES

log = logging.getLogger("aibridge")

# Between tries to reach the model at the start.
PROBE_RETRY_S: Final = 5.0


class Sessions:
    """Dials, holds and counts sessions. `gather` is told of all their reads."""

    def __init__(self, settings: Settings, agent: Agent, client: AsyncOpenAI, page: Page) -> None:
        self.model = settings.openai_realtime_model
        self.abilities = ABILITIES
        self.gather = Gather()
        # The model has accepted our key, model name and session.
        self.is_ready = False
        self._agent_file = settings.agent_file or agents.DEFAULT_FILE
        self._client = client
        self._page = page
        self._tls = tls_context(client)
        self._config = session_config(agent, self.model)
        self._phrases = phrases(agent)
        # The readers of all sessions, dialled ahead or in use.
        self._readers: set[asyncio.Task[None]] = set()
        self._open = page.gauge("bridge_sessions_open")

    async def probe(self) -> None:
        """Return when the model is ready. Raises ConfigError when it refuses key, model name or agent."""
        while not self.is_ready:
            try:
                await probe(self._client, model=self.model, config=self._config, tls=self._tls)
            except ModelRefusedError as exc:
                about = "OPENAI_API_KEY, OPENAI_REALTIME_MODEL and OPENAI_BASE_URL"
                if exc.is_settings:
                    about = f"the agent's file ({self._agent_file})"
                raise ConfigError(f"the model refused us ({exc}); check {about}") from None
            except (OSError, TimeoutError, WebSocketException) as exc:
                address = self._client.base_url.netloc.decode()
                log.warning("the model at %s cannot be reached (%s); trying again, no calls until then", address, exc)
                await asyncio.sleep(PROBE_RETRY_S)
            else:
                self.is_ready = True
                self._page.gauge("bridge_ready").set(1)
                log.info("ready: the model is %s", self.model)

    async def close(self) -> None:
        """End all sessions."""
        self.is_ready = False
        readers = list(self._readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    def dial(self, call_sid: str, numbers: Numbers, receiver: Receiver) -> Session:
        """Open a session; `receiver` gets its events."""
        session = Session(
            self._client,
            model=self.model,
            config=self._config,
            phrases=self._phrases,
            numbers=numbers,
            request_id=call_sid,
            on_event=receiver.event,
            on_malformed=self._page.counter("bridge_malformed_events").inc,
            tls=self._tls,
            gather=self.gather,
        )
        session.task = asyncio.create_task(self._hold(session, receiver, call_sid))
        self._readers.add(session.task)
        session.task.add_done_callback(self._readers.discard)
        return session

    async def _hold(self, session: Session, receiver: Receiver, call_sid: str) -> None:
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
            advice = "check OPENAI_API_KEY and the model"
            log.error("call %s: the model refused the session (%s); %s", call_sid, exc.code, advice)
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
