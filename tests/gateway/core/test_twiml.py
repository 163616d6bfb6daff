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


def test_the_paths_of_a_cell_in_a_fleet_name_it():
    root = ElementTree.fromstring(twiml.connect("https://voice.example.com", {}, 3, "cell-1"))
    assert [each.attrib["url"] for each in root.iter("Stream")] == ["wss://voice.example.com/twilio/media/cell-1"]
    assert root.findtext("Redirect") == "https://voice.example.com/twilio/voice?resume=1&cell=cell-1&worker=3"


@pytest.mark.parametrize(
    ("path", "alone", "in_a_fleet"),
    [
        ("/twilio/media", True, True),
        ("/twilio/media/", True, True),
        ("/twilio/media/cell-1", False, True),
        ("/twilio/media/another/", False, True),
        ("/twilio/media//", False, False),
        ("/twilio/media/cell/1", False, False),
        ("/twilio/media/Cell", False, False),
        ("/twilio/medias", False, False),
    ],
)
def test_a_cell_of_a_fleet_takes_the_media_sockets_of_any_cell(path, alone, in_a_fleet):
    assert (twiml.media_paths(path, ""), twiml.media_paths(path, "cell-1")) == (alone, in_a_fleet)


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
