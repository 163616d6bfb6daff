"""The servers that the agents' models run on: a client of the SDK for each address and key."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from openai import AsyncOpenAI

from ...core.agent import Agent


@dataclass(frozen=True)
class Server:
    """`tls`: the context of its sessions; None for plain HTTP."""

    client: AsyncOpenAI
    tls: ssl.SSLContext | None


class Servers:
    """`client` has the key and the address of the settings; the others share its connections and its TLS context.

    Reading the system's certificates takes 20 ms, in which no other call is served, and close to 1 MB. Without a
    context, the library would read them for each session. SSL_CERT_FILE and SSL_CERT_DIR are honoured.
    """

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._tls: ssl.SSLContext | None = None
        self._servers: dict[tuple[str, str], Server] = {}
        self._server("", "")

    def of(self, agent: Agent, keys: Mapping[str, str]) -> Server:
        """The server of an agent's model. `keys` are the values of the variables that agents name."""
        return self._server(agent.base_url, keys.get(agent.api_key_env, ""))

    def _server(self, base_url: str, key: str) -> Server:
        server = self._servers.get((base_url, key))
        if server is None:
            client = self._client
            if base_url or key:
                client = client.copy(api_key=key or None, base_url=base_url or None)
            is_secure = client.base_url.scheme in ("https", "wss")
            if is_secure and self._tls is None:
                self._tls = ssl.create_default_context()
            server = self._servers[base_url, key] = Server(client, self._tls if is_secure else None)
        return server
