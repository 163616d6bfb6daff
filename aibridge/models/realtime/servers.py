"""The servers that the agents' models run on: an address, a key, and what every session there shares."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from ...core.agent import Agent

OPENAI: Final = "https://api.openai.com/v1"
# What the SDK reads from the environment beside key and address: which budget a session counts for.
_BILLED_TO: Final = (("OPENAI_ORG_ID", "OpenAI-Organization"), ("OPENAI_PROJECT_ID", "OpenAI-Project"))


@dataclass(frozen=True)
class Server:
    """`tls`: the context of its sessions; None for plain HTTP."""

    base_url: str
    key: str = field(repr=False)
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        return urlsplit(self.base_url).netloc

    def url(self, model: str) -> str:
        """Where a session of `model` is dialled."""
        base = urlsplit(self.base_url)
        return base._replace(
            scheme={"http": "ws", "https": "wss"}.get(base.scheme, base.scheme),
            path=base.path.rstrip("/") + "/realtime",
            query=urlencode([*parse_qsl(base.query), ("model", model)]),
        ).geturl()

    def headers(self) -> dict[str, str]:
        billed_to = {header: os.environ[name] for name, header in _BILLED_TO if os.environ.get(name)}
        return {"Authorization": f"Bearer {self.key}", **billed_to}


class Servers:
    """`base_url` (empty: OpenAI's) and `key` are those of the settings. All servers share one TLS context.

    Reading the system's certificates takes 20 ms, in which no other call is served, and close to 1 MB. Without a
    context, the library would read them for each session. SSL_CERT_FILE and SSL_CERT_DIR are honoured.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url = base_url or OPENAI
        self._key = key
        self._tls: ssl.SSLContext | None = None
        self._servers: dict[tuple[str, str], Server] = {}
        self._server("", "")

    def of(self, agent: Agent, keys: Mapping[str, str]) -> Server:
        """The server of an agent's model. `keys` are the values of the variables that agents name."""
        return self._server(agent.base_url, keys.get(agent.api_key_env, ""))

    def _server(self, base_url: str, key: str) -> Server:
        server = self._servers.get((base_url, key))
        if server is None:
            address = base_url or self._base_url
            is_secure = urlsplit(address).scheme in ("https", "wss")
            if is_secure and self._tls is None:
                self._tls = ssl.create_default_context()
            server = Server(address, key or self._key, self._tls if is_secure else None)
            self._servers[base_url, key] = server
        return server
