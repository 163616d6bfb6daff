"""`twentyms simulate`: usable without twentyms and without settings."""

from __future__ import annotations

from twentyms import simulate
from twentyms.stack import free_port


def test_a_webhook_without_an_answer_is_a_failed_call(home, capsys):
    url = f"http://127.0.0.1:{free_port()}/twilio/voice"
    assert simulate.main(["carrier", "--url", url, "--calls", "2"]) == 1
    out = capsys.readouterr().out
    assert out.count("BROKEN: the caller did not end the call: failed") == 2
    assert out.endswith("\n0 of 2 calls were as they should be.\n")
