"""TwiML as the simulated carrier reads it."""

from __future__ import annotations

import pytest

from simulator.carrier.twiml import TwimlError, parse, stream_url

WEBHOOK = "https://voice.example.com/twilio/voice"


def test_a_stream_keeps_its_parameters_and_the_verbs_their_order() -> None:
    connect, redirect = parse(
        '<?xml version="1.0" encoding="UTF-8"?><Response><Connect action="/next"><Stream url="wss://a/b">'
        '<Parameter name="token" value="&lt;1&gt;"/></Stream></Connect><Redirect> /again </Redirect></Response>'
    )
    assert (connect.name, connect.attributes) == ("Connect", {"action": "/next"})
    assert (connect.stream, connect.parameters) == ({"url": "wss://a/b"}, {"token": "<1>"})
    assert (redirect.name, redirect.text) == ("Redirect", "/again")


@pytest.mark.parametrize("document", ["", "Sorry", "<Response>", "<Call/>"])
def test_a_document_that_is_not_twiml_is_refused(document: str) -> None:
    with pytest.raises(TwimlError):
        parse(document)


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("wss://a.example/media", "wss://a.example/media"),
        ("ws://127.0.0.1:8080/media", "ws://127.0.0.1:8080/media"),
        ("/twilio/media", "wss://voice.example.com/twilio/media"),
    ],
)
def test_the_socket_to_dial_may_be_relative_to_the_webhook(url: str, dialled: str) -> None:
    assert stream_url(WEBHOOK, url) == dialled


@pytest.mark.parametrize("url", ["https://a.example/media", "wss://a.example/media?token=1", "ftp://a/b"])
def test_schemes_and_query_strings_that_twilio_refuses_are_refused(url: str) -> None:
    with pytest.raises(TwimlError):
        stream_url(WEBHOOK, url)
