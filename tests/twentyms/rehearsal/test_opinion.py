"""The opinion of a text model: asked with transcript and statement, and a problem only when the model says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shared.process import ConfigError
from twentyms.rehearsal import opinion
from twentyms.rehearsal.judgement import Rehearsed
from twentyms.rehearsal.scenario import convert

from .test_judgement import BOOKED, call, record

ASKED: list[dict[str, Any]] = []
ANSWERS = {
    "polite": '{"is_true": true, "why": "It says good evening."}',
    "rude": '{"is_true": false, "why": "It is polite."}',
    "silly": "I would rather not say.",
}


class Model(BaseHTTPRequestHandler):
    """Answers as the Responses API does, by the last word of the question."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        ASKED.append(asked)
        answer = ANSWERS.get(asked["input"].split()[-1].rstrip("."))
        if answer is None:
            self.send_error(400)
            return
        text = {"type": "output_text", "text": answer, "annotations": []}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        body = json.dumps({"id": "resp_1", "object": "response", "created_at": 1, "output": [message]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def base_url() -> Iterator[str]:
    ASKED.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def rehearsed(*statements: str) -> Rehearsed:
    scenario = convert({"step": [{"say": "x"}], "expect": {"opinion": list(statements)}}, "here")
    return Rehearsed(scenario, call(), record(BOOKED))


def test_a_statement_that_the_model_finds_untrue_is_a_problem_with_its_reason(base_url: str) -> None:
    one = rehearsed("The agent is polite.", "The agent is rude.", "The agent is silly.")
    opinion.ask([one], model="judge", api_key="sk-test", base_url=base_url)
    assert sorted(one.problems) == [
        'no opinion on "The agent is silly.": the model judge did not answer in the asked form',
        'not true: "The agent is rude.": It is polite.',
    ]
    assert all(one.transcript in asked["input"] and asked["store"] is False for asked in ASKED)


def test_a_model_that_cannot_be_asked_is_one_line(base_url: str) -> None:
    with pytest.raises(ConfigError, match="the model judge gave no opinion"):
        opinion.ask([rehearsed("Who knows?")], model="judge", api_key="sk-test", base_url=base_url)
