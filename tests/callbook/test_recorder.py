"""Recordings with the real client and a failing REST side: started once, or given up with the reason."""

from __future__ import annotations

import asyncio

import pytest

from callbook.metrics import DEFINITIONS, Metrics
from callbook.recorder import Recorder
from callbook.twilio_rest import TwilioRest
from shared.metrics import Page
from shared.settings import read_settings
from simulator.carrier.rest import CarrierRest, Trouble

# twilio 9.13 uses what aiohttp 3.14 calls deprecated; theirs to change.
pytestmark = pytest.mark.filterwarnings("ignore:(BasicAuth|The 'auth' parameter) is deprecated:DeprecationWarning")

ACCOUNT = "AC" + "0" * 32
SID = "CA" + "1" * 32


def play(scenario, *, troubles=(), trouble=None, timeout_s=0.3, give_up_s=20.0):
    """Run `scenario(recorder, rest, moves)` against a new REST side. Returns its result."""

    async def playing():
        moves = []
        async with asyncio.timeout(20), CarrierRest(ACCOUNT, "secret", troubles=list(troubles)) as rest:
            rest.trouble = trouble or Trouble()
            settings = read_settings(
                twilio_account_sid=ACCOUNT,
                twilio_auth_token="secret",
                twilio_api_url=rest.url,
                public_url="https://voice.example.com",
            )
            client = TwilioRest(settings, timeout_s=timeout_s)
            metrics = Metrics(Page.in_memory(DEFINITIONS))
            recorder = Recorder(client, note=moves.append, metrics=metrics, first_retry_s=0.01, give_up_s=give_up_s)
            try:
                recorder.want(SID)
                return await scenario(recorder, rest, moves)
            finally:
                await recorder.close()
                await client.close()

    return asyncio.run(playing())


async def outcome(moves):
    while not moves:  # noqa: ASYNC110  # a list sets no event
        await asyncio.sleep(0.005)
    return moves[0]


@pytest.mark.parametrize(
    "troubles",
    [
        [],
        [Trouble(status=429)] * 3,
        [Trouble(status=500), Trouble(status=503)],
        [Trouble(wait_s=1)],
        [Trouble(status=500, done=True)],
        [Trouble(status=429), Trouble(status=500, done=True)],
    ],
    ids=["well", "429", "5xx", "time-out", "done but 500", "429, then done but 500"],
)
def test_a_call_gets_one_recording_whatever_twilio_answers_first(troubles):
    async def scenario(recorder, rest, moves):
        move = await outcome(moves)
        recorder.want(SID)
        await asyncio.sleep(1.1 if any(each.wait_s for each in troubles) else 0.05)
        assert [(each.state, each.error) for each in moves] == [("started", "")]
        return move, rest

    move, rest = play(scenario, troubles=troubles)
    if not any(each.wait_s for each in troubles):
        assert [each.sid for each in rest.of_call(SID)] == [move.recording_sid]
    assert dict(rest.creates(SID)[0].form)["RecordingStatusCallback"] == "https://voice.example.com/twilio/recording"


def test_after_a_lost_answer_the_recording_is_looked_up_before_a_retry():
    async def scenario(recorder, rest, moves):
        await outcome(moves)
        return [request.method for request in rest.requests]

    assert play(scenario, troubles=[Trouble(status=500, done=True)]) == ["POST", "GET"]


def test_a_recording_that_an_earlier_callbook_started_is_found():
    async def scenario(recorder, rest, moves):
        first = await outcome(moves)
        moves.clear()
        other = Recorder(recorder._rest, note=moves.append, metrics=recorder._metrics)
        other.want(SID, may_exist=True)
        assert (await outcome(moves)).recording_sid == first.recording_sid
        return rest

    assert len(play(scenario).of_call(SID)) == 1


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_recording_that_twilio_refuses_is_given_up_with_the_reason(status):
    async def scenario(recorder, rest, moves):
        move = await outcome(moves)
        await asyncio.sleep(0.05)
        return move, rest

    move, rest = play(scenario, trouble=Trouble(status=status))
    assert move.state == "given-up"
    assert str(status) in move.error
    assert len(rest.creates(SID)) == 1


def test_a_recording_is_given_up_when_twilio_never_answers():
    async def scenario(recorder, rest, moves):
        return await outcome(moves)

    move = play(scenario, trouble=Trouble(status=503), give_up_s=0.1)
    assert (move.state, move.recording_sid) == ("given-up", "")


def test_without_an_account_a_wanted_recording_is_given_up_with_the_reason():
    async def scenario():
        moves = []
        Recorder(None, note=moves.append, metrics=Metrics(Page.in_memory(DEFINITIONS))).want(SID)
        return moves

    (move,) = asyncio.run(scenario())
    assert "TWILIO_ACCOUNT_SID" in move.error
