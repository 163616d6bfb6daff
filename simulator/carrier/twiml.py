"""TwiML as Twilio reads it: a document of verbs that are carried out in order.

It covers the verbs of a voice call with a media stream. Any other verb is skipped, as Twilio does (error 12200, a
warning).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit
from xml.etree import ElementTree

# A longer chain of <Redirect>s is a circle; Twilio's own bound is higher and not documented.
MAX_REDIRECTS: Final = 10
# The verbs that end the agent's part of a call, and its outcome.
OUTCOMES: Final = {"Reject": "rejected", "Dial": "dialled", "Hangup": "hung-up-by-server"}


class TwimlError(ValueError):
    """The document is not TwiML (error 12100)."""


@dataclass(frozen=True)
class Verb:
    """One verb: its name, its text without surrounding space, its attributes.

    A <Connect> or <Start> carries the attributes of its <Stream> in `stream`, and its <Parameter>s; a <Dial> with
    nouns has their text.
    """

    name: str
    text: str
    attributes: Mapping[str, str]
    stream: Mapping[str, str] | None = None
    parameters: Mapping[str, str] | None = None


def parse(document: str) -> list[Verb]:
    """The verbs of a TwiML document. Raises TwimlError when it is not well-formed or has another root."""
    try:
        root = ElementTree.fromstring(document.strip())
    except ElementTree.ParseError as exc:
        raise TwimlError(f"not well-formed: {exc}") from None
    if root.tag != "Response":
        raise TwimlError(f"the root is <{root.tag}>, not <Response>")
    return [_verb(element) for element in root]


def _verb(element: ElementTree.Element) -> Verb:
    text = "".join(element.itertext()).strip()
    stream = element.find("Stream")
    if stream is None:
        return Verb(element.tag, text, dict(element.attrib))
    parameters = {each.attrib.get("name", ""): each.attrib.get("value", "") for each in stream.findall("Parameter")}
    return Verb(element.tag, text, dict(element.attrib), dict(stream.attrib), parameters)


def stream_url(webhook_url: str, url: str) -> str:
    """The socket to dial for <Stream url>, which may be relative to the webhook's own URL.

    Twilio accepts wss only; ws is accepted here for tests on one machine. Raises TwimlError for any other scheme, and
    for a query string, which Twilio does not support (error 31920).
    """
    absolute = urlsplit(urljoin(webhook_url, url))
    scheme = (
        {"https": "wss", "http": "ws"}.get(absolute.scheme, absolute.scheme) if "://" not in url else absolute.scheme
    )
    if scheme not in ("wss", "ws"):
        raise TwimlError(f"a stream's URL has the scheme {scheme}, not wss")
    if absolute.query:
        raise TwimlError("a stream's URL has a query string")
    return urlunsplit((scheme, absolute.netloc, absolute.path, "", ""))
