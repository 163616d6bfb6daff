from __future__ import annotations

from xml.etree import ElementTree

import pytest

from gateway.core import twiml


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://voice.example.com", "wss://voice.example.com/twilio/media"),
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/twilio/media"),
    ],
)
def test_the_media_socket_is_under_the_origin(origin, url):
    assert twiml.media_url(origin) == url


def test_a_call_is_connected_and_returns_to_the_webhook_when_the_socket_ends():
    root = ElementTree.fromstring(twiml.connect("https://voice.example.com", {"token": 'a<&"', "plan0": "x"}, 3))
    assert [child.tag for child in root] == ["Connect", "Redirect"]
    stream, redirect = root.find("./Connect/Stream"), root.find("Redirect")
    assert stream is not None
    assert redirect is not None
    assert stream.attrib == {"url": "wss://voice.example.com/twilio/media"}
    assert [(p.attrib["name"], p.attrib["value"]) for p in stream] == [("token", 'a<&"'), ("plan0", "x")]
    assert redirect.attrib == {"method": "POST"}
    assert redirect.text == "https://voice.example.com/twilio/voice?resume=1&worker=3"
