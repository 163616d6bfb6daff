"""The Realtime sessions of a worker: dialled ahead for calls that are offered, and again for calls that lost theirs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol

from openai import AsyncOpenAI
from websockets.exceptions import WebSocketException

from shared import liveness
from shared.gather import Gather
from shared.metrics import Page
from shared.process import ConfigError
from shared.settings import Settings

from ... import agent as agents
from ...agent import Agent
from ..port import Model, ModelEvent, Numbers, SessionReady
from .session import ModelRefusedError, Session, probe, tls_context
from .session_config import phrases, session_config
from .translator import ABILITIES

log = logging.getLogger("aibridge")

# Between tries to reach the model at the start.
PROBE_RETRY_S: Final = 5.0


class Caller(Protocol):
    """The call of a session."""

    def model_event(self, session: Model, event: ModelEvent | SessionReady) -> None: ...

    def model_gone(self, session: Model, *, refused: bool) -> None: ...


@dataclass
class Dialled:
    """A session and the numbers of its call; `call` is set once the media socket is there."""

    session: Session
    numbers: Numbers
    # Twilio returned with a call whose media socket was lost.
    resumed: bool
    call: Caller | None = None
    # The session does not come: True when no other would, False when a retry may help; None while it may still come.
    refused: bool | None = None
    expiry: asyncio.TimerHandle | None = None


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
        # By CallSid, until the media socket comes.
        self._offers: dict[str, Dialled] = {}
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

    # --- dialled ahead ---

    @property
    def offers(self) -> int:
        return len(self._offers)

    def offer(self, call_sid: str, *, resumed: bool) -> None:
        """Dial for a call whose webhook was answered. Twilio may repeat a webhook."""
        dialled = self._offers.get(call_sid)
        if dialled is None:
            dialled = self._offers[call_sid] = self._dial(call_sid, Numbers(), resumed=resumed)
        elif dialled.expiry is not None:
            dialled.expiry.cancel()
        dialled.expiry = asyncio.get_running_loop().call_later(liveness.TOKEN_S, self.withdraw, call_sid)

    def withdraw(self, call_sid: str) -> None:
        """The call does not come, or came to another worker."""
        dialled = self._take(call_sid)
        if dialled is not None:
            self._count("unused")
            dialled.session.close()

    def take(self, call_sid: str) -> Dialled:
        """The session of a call that begins. Without an offer, the worker was restarted after the webhook: dial now."""
        return self._take(call_sid) or self._dial(call_sid, Numbers(), resumed=True)

    def _take(self, call_sid: str) -> Dialled | None:
        dialled = self._offers.pop(call_sid, None)
        if dialled is not None and dialled.expiry is not None:
            dialled.expiry.cancel()
        return dialled

    def dial_again(self, call_sid: str, numbers: Numbers, call: Caller) -> Session:
        """Another session for a call that lost its own, or whose own grows old."""
        dialled = self._dial(call_sid, numbers, resumed=True)
        dialled.call = call
        return dialled.session

    # --- each session ---

    def _dial(self, call_sid: str, numbers: Numbers, *, resumed: bool) -> Dialled:
        def on_event(event: ModelEvent | SessionReady) -> None:
            if dialled.call is not None:
                dialled.call.model_event(session, event)

        session = Session(
            self._client,
            model=self.model,
            config=self._config,
            phrases=self._phrases,
            numbers=numbers,
            request_id=call_sid,
            on_event=on_event,
            on_malformed=self._page.counter("bridge_malformed_events").inc,
            tls=self._tls,
            gather=self.gather,
        )
        dialled = Dialled(session, numbers, resumed)
        session.task = asyncio.create_task(self._hold(dialled, call_sid))
        self._readers.add(session.task)
        session.task.add_done_callback(self._readers.discard)
        return dialled

    async def _hold(self, dialled: Dialled, call_sid: str) -> None:
        """Keep one session until it ends, and say how."""
        self._open.inc()
        self._count("opened")
        outcome = "lost"
        try:
            await dialled.session.run()
        except asyncio.CancelledError:
            # Ours, and the task's end. Raised on, it would hang on the task in a cycle that keeps all of the call.
            outcome, dialled.call = "closed", None
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
        dialled.refused = outcome == "refused"
        if dialled.call is not None:
            dialled.call.model_gone(dialled.session, refused=dialled.refused)
            dialled.call = None

    def _count(self, outcome: str) -> None:
        self._page.counter("bridge_sessions", outcome).inc()
