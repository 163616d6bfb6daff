from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import HMAC_SHA256, RequestValidator

from gateway.core.signatures import Signatures

ORIGIN = "https://voice.example.com"
TWILIO = RequestValidator("secret")
SIGNATURES = Signatures("secret", ORIGIN)


def test_blank_and_repeated_form_values_are_part_of_the_signature():
    form = ImmutableMultiDict([("CallSid", "CA1"), ("CallerName", ""), ("X", "b"), ("X", "a"), ("Space", " x ")])
    signature = TWILIO.compute_signature(f"{ORIGIN}/twilio/voice?resume=1", form)
    assert SIGNATURES.webhook("/twilio/voice?resume=1", form, signature, None)
    assert not SIGNATURES.webhook("/twilio/voice", form, signature, None)
    without_blank = ImmutableMultiDict([item for item in form.multi_items() if item[1]])
    assert not SIGNATURES.webhook("/twilio/voice?resume=1", without_blank, "x" + signature[1:], None)


@pytest.mark.parametrize("host", ["voice.example.com", "voice.example.com:443"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("origin", [ORIGIN, f"{ORIGIN}:443"])
def test_every_spelling_of_the_media_url_that_twilio_signs_is_accepted(origin, host, slash):
    signature = TWILIO.compute_signature(f"wss://{host}/twilio/media{slash}", {})
    assert Signatures("secret", origin).media("/twilio/media", signature, None)


def test_the_handshake_is_signed_for_the_cell_in_its_path():
    signature = TWILIO.compute_signature("wss://voice.example.com/twilio/media/cell-1", {})
    assert SIGNATURES.media("/twilio/media/cell-1", signature, None)
    assert SIGNATURES.media("/twilio/media/cell-1/", signature, None)
    assert not SIGNATURES.media("/twilio/media/cell-2", signature, None)
    assert not SIGNATURES.media("/twilio/media", signature, None)


@pytest.mark.parametrize(
    "url",
    [
        "wss://other.example.com/twilio/media",
        "https://voice.example.com/twilio/media",
        "wss://voice.example.com/twilio/media?x=1",
        "wss://voice.example.com:8443/twilio/media",
    ],
)
def test_a_signature_over_another_media_url_is_refused(url):
    assert not SIGNATURES.media("/twilio/media", TWILIO.compute_signature(url, {}), None)


def test_a_signature_over_a_loopback_origin_with_a_port_is_accepted():
    signatures = Signatures("secret", "http://127.0.0.1:8080")
    assert signatures.media("/twilio/media", TWILIO.compute_signature("ws://127.0.0.1:8080/twilio/media", {}), None)
    form = {"CallSid": "CA1"}
    url = "http://127.0.0.1:8080/twilio/voice"
    assert signatures.webhook("/twilio/voice", form, TWILIO.compute_signature(url, form), None)


def test_the_algorithm_header_selects_the_shared_key_and_sha_256():
    url = "wss://voice.example.com/twilio/media"
    header = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    signature = RequestValidator("shared").compute_signature(url, {}, HMAC_SHA256)
    signatures = Signatures("secret", ORIGIN, "shared")
    assert signatures.media("/twilio/media", signature, header)
    assert signatures.media("/twilio/media", TWILIO.compute_signature(url, {}), None)
    assert not signatures.media("/twilio/media", signature, None)
    assert not signatures.media("/twilio/media", signature, "key=k,algorithm=none")
    assert not signatures.media("/twilio/media", TWILIO.compute_signature(url, {}, HMAC_SHA256), header)
    assert not SIGNATURES.media("/twilio/media", TWILIO.compute_signature(url, {}, HMAC_SHA256), header)


@pytest.mark.parametrize("signature", [None, "", "x", "\u00fc" * 28])
def test_a_missing_signature_is_refused(signature):
    assert not SIGNATURES.media("/twilio/media", signature, None)
    assert not SIGNATURES.webhook("/twilio/voice", {}, signature, None)


def test_values_that_cannot_be_encoded_are_refused():
    assert not SIGNATURES.webhook("/twilio/voice", {"a": "\ud800"}, "x" * 28, None)


@given(st.text(), st.dictionaries(st.text(), st.text()), st.text(), st.none() | st.text())
def test_no_input_raises_and_no_forged_signature_passes(target, form, signature, header):
    assert not SIGNATURES.webhook(target, form, signature, header)
