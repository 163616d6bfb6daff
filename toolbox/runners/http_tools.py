"""A child that makes the requests of HTTP tools, to checked addresses only, and reads a bounded part of each answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import jmespath
import msgspec
from aiohttp.connector import AddrInfoType
from yarl import URL

from ..config import HttpTool, Parameter
from ..core import urls
from ..core.addresses import is_public
from ..core.answers import ANSWER_CHARS_MAX
from ..pipe import Context, Offer, RunTool, Setup
from .limits import limit_memory
from .serving import Outcome, Serving

# A JSON answer from which a part is taken has to be read whole.
JSON_BYTES_MAX: Final = 1_000_000
# UTF-8 has up to four bytes a character.
TEXT_BYTES_MAX: Final = 4 * ANSWER_CHARS_MAX
# What a server may say about an error.
ERROR_BYTES_MAX: Final = 500
_TYPES: Final[Mapping[str, Any]] = {"string": str, "integer": int, "number": float, "boolean": bool}


class RefusedAddressError(OSError):
    """The server's name leads to an address that is not of the internet."""


class ArgumentsType:
    """The arguments of a tool: a JSON schema for the model, and the check of what it sends."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        fields: list[Any] = []
        properties: dict[str, dict[str, Any]] = {}
        for name, parameter in parameters.items():
            hint = _TYPES[parameter.type]
            properties[name] = {"type": parameter.type}
            if parameter.description:
                properties[name]["description"] = parameter.description
            if parameter.choices:
                properties[name]["enum"] = parameter.choices
            fields.append((name, hint | None, None) if parameter.optional else (name, hint))
        self._parameters = parameters
        self._decoder = msgspec.json.Decoder(
            msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True), strict=False
        )
        required = [name for name, parameter in parameters.items() if not parameter.optional]
        self.schema = json.dumps(
            {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        )

    def read(self, arguments: str) -> dict[str, Any]:
        """The arguments that were given. Raises ValueError."""
        values = msgspec.structs.asdict(self._decoder.decode(arguments or "{}"))
        for name, parameter in self._parameters.items():
            if parameter.choices and values[name] is not None and values[name] not in parameter.choices:
                raise ValueError(f"{name} has to be one of {', '.join(parameter.choices)}")
        return {name: value for name, value in values.items() if value is not None}


class Requests:
    """Makes the requests. A request follows no redirect and uses no proxy: both would lead to other addresses."""

    def __init__(self, tools: Mapping[str, HttpTool]) -> None:
        self._tools = tools
        self._types = {name: ArgumentsType(tool.parameters) for name, tool in tools.items()}
        self._sessions = {
            allowed: self._session(allowed) for allowed in {tool.allow_private for tool in tools.values()}
        }

    def offers(self) -> tuple[Offer, ...]:
        return tuple(
            Offer(
                name,
                tool.description,
                self._types[name].schema,
                tool.deadline_s,
                tool.concurrency,
                tool.has_side_effect,
                tool.on_interruption,
                tool.cancellable,
            )
            for name, tool in self._tools.items()
        )

    async def run(self, run: RunTool) -> tuple[Outcome, str]:
        tool = self._tools[run.tool]
        try:
            arguments = self._types[run.tool].read(run.arguments)
            url, query, body = compose(tool, arguments, run.context)
        except ValueError as exc:
            return "refused", f"The arguments do not fit: {exc}"
        try:
            async with self._sessions[tool.allow_private].request(
                tool.method,
                URL(url, encoded=True).extend_query(query),
                json=body,
                headers=tool.headers,
                allow_redirects=False,
            ) as response:
                return await read(response, tool.answer)
        except aiohttp.ClientError as exc:
            cause = exc.__cause__ or exc
            if isinstance(cause, RefusedAddressError):
                return "failed", "The server's address is not of the internet; its declaration does not allow that."
            return "failed", "The server could not be reached."

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    @staticmethod
    def _session(allow_private: bool) -> aiohttp.ClientSession:
        def make(info: AddrInfoType) -> socket.socket:
            """A socket for exactly the address that is connected next: no second look-up can change it."""
            family, kind, protocol, _, address = info
            if not allow_private and not is_public(str(address[0])):
                raise RefusedAddressError("not an address of the internet")
            return socket.socket(family, kind, protocol)

        return aiohttp.ClientSession(
            # The limits are those of the tools.
            connector=aiohttp.TCPConnector(limit=0, socket_factory=make),
            # toolbox stops a call at its deadline.
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None),
            # A compressed answer may be a thousand times as long as what was received.
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "twentyms"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )


def compose(
    tool: HttpTool, arguments: Mapping[str, Any], context: Context
) -> tuple[str, dict[str, str], dict[str, Any] | None]:
    """The URL, the query and the JSON body. Raises ValueError."""
    facts = {
        f"call.{name}": getattr(context, name) for name in ("call_sid", "from_number", "to_number", "agent", "digits")
    }
    missing = dict.fromkeys(tool.parameters, "")
    texts = missing | {name: as_text(value) for name, value in arguments.items()} | facts
    url = urls.fill(tool.url, texts)
    used = set(urls.placeholders(tool.url))
    rest = {name: value for name, value in arguments.items() if name not in used}
    rest |= {name: urls.substitute(value, facts) for name, value in tool.hidden.items()}
    if tool.method in ("GET", "DELETE"):
        return url, {name: as_text(value) for name, value in rest.items()}, None
    return url, {}, rest


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


async def read(response: aiohttp.ClientResponse, path: str) -> tuple[Outcome, str]:
    """The answer for the model. No more is read than what can be used; the connection is then closed."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        response.close()
        return "failed", "The server compressed its answer although it was asked not to."
    if response.status >= 300:
        body, _ = await _some(response, ERROR_BYTES_MAX)
        said = body.decode("utf-8", "replace").strip()
        return "failed", f"The server answered {response.status}" + (f": {said}" if said else ".")
    if not path:
        body, is_whole = await _some(response, TEXT_BYTES_MAX)
        text = body.decode("utf-8", "replace")
        return "done", text if is_whole else f"{text[: ANSWER_CHARS_MAX - 100]}\n[cut: the answer is longer]"
    body, is_whole = await _some(response, JSON_BYTES_MAX)
    if not is_whole:
        return "failed", "The server's answer is too long."
    try:
        found = jmespath.search(path, json.loads(body))
    except (ValueError, RecursionError, jmespath.exceptions.JMESPathError):
        return "failed", "The server's answer is not the JSON that was expected."
    return "done", as_text(found)


async def _some(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """The body, or its first `limit` bytes."""
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > limit:
            response.close()
            return bytes(found[:limit]), False
    return bytes(found), True


async def _serve(sock: socket.socket, setup: Setup) -> None:
    requests = Requests(msgspec.json.decode(setup.config, type=dict[str, HttpTool]))
    serving = Serving(sock, requests.run)
    limit_memory(setup.memory_mb)
    await serving.offer(requests.offers())
    await serving.serve()
    await requests.close()


def main(sock: socket.socket, setup: Setup) -> None:
    asyncio.run(_serve(sock, setup))
