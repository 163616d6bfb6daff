"""The webhooks and health checks over the real port."""

from __future__ import annotations

import asyncio
import json
from time import monotonic_ns
from urllib.parse import urlencode

import pytest

from gateway import web
from gateway.core import limits
from gateway.core.fallback import FallbackCause
from gateway.core.limits import LATENESS_FRAMES
from shared.facts import DialBegan
from shared.messages import CallConfigured, CallOffered, CallOver, CallTaken, WorkerState
from shared.plan import CallPlan, Dial, Reject

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_signed_webhook_dials_ahead_and_connects(run):
    async def scenario(cell):
        twiml = await cell.twilio.voice("CAone")
        url = cell.twilio.origin.replace("http", "ws", 1) + "/twilio/media"
        assert f'<Stream url="{url}"><Parameter name="token" value="' in twiml
        assert f'<Redirect method="POST">{cell.twilio.origin}/twilio/voice?resume=1&amp;worker=0</Redirect>' in twiml
        offered = await cell.bridge.next(CallOffered)
        assert offered.call_sid == "CAone"
        assert offered.plan == CallPlan(
            "inbound", cell.twilio.account_sid, "+15550001", "+15550002", made_ms=offered.plan.made_ms
        )
        assert not offered.resumed
        assert offered.token_id in twiml

    run(scenario)


def test_a_full_cell_of_a_fleet_answers_503_with_the_fallback_as_body(run):
    async def scenario(cell):
        await cell.twilio.voice("CAone")
        params = {"CallSid": "CAtwo", "AccountSid": cell.twilio.account_sid, "From": "+15550009", "To": "+15550002"}
        status, twiml = await cell.twilio.post("/twilio/voice", **params)
        assert (status, "<Say>" in twiml) == (503, True)

    run(scenario, cell="here", fleet="on", max_calls=1)


def test_the_webhook_may_be_a_get(run):
    async def scenario(cell):
        target = "/twilio/voice?" + urlencode(
            {"CallSid": "CAget", "From": "+15550001", "AccountSid": "AC1", "Blank": ""}
        )
        headers = {"X-Twilio-Signature": cell.twilio.sign(cell.twilio.origin + target, {})}
        status, text = await cell.twilio.request("GET", target, headers=headers)
        assert (status, "<Connect>" in text) == (200, True)
        assert (await cell.bridge.next(CallOffered)).plan.from_number == "+15550001"
        assert (await cell.twilio.request("GET", target + "&x=1", headers=headers))[0] == 403

    run(scenario)


@pytest.mark.parametrize("hook", ["voice", "status", "recording"])
def test_an_unsigned_webhook_is_refused_and_counted(run, hook):
    async def scenario(cell):
        body = b"CallSid=CA1"
        for headers in (FORM, {**FORM, "X-Twilio-Signature": "wrong"}):
            status, _ = await cell.twilio.request("POST", f"/twilio/{hook}", body, headers)
            assert status == 403
        assert cell.gateway.metrics.unsigned[hook].value == 2
        assert cell.bridge.inbox.empty()

    run(scenario)


def test_callbacks_are_answered_at_once(run):
    async def scenario(cell):
        for hook in ("status", "recording"):
            status, text = await cell.twilio.post(f"/twilio/{hook}", CallSid="CA1", CallStatus="completed")
            assert (status, text) == (204, "")
            assert cell.gateway.metrics.callbacks[hook].value == 1

    run(scenario)


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status"),
    [
        ("POST", "/twilio/voice", b"{}", {"Content-Type": "application/json"}, 415),
        ("POST", "/twilio/voice", b"a=1", {}, 415),
        ("POST", "/twilio/voice", b"a=" + b"x" * 70_000, FORM, 413),
        ("POST", "/twilio/voice", b"&".join([b"a=1"] * 300), FORM, 400),
        ("POST", "/twilio/voice", b"CallSid=%ff%00", FORM, 400),
        ("POST", "/twilio/voice", b"From=1", FORM, 400),
        ("GET", "/twilio/voice", b"", {}, 400),
        ("PUT", "/twilio/voice", b"", {}, 405),
        ("GET", "/twilio/status", b"", {}, 405),
        ("GET", "/twilio/media", b"", {}, 404),
        ("GET", "/elsewhere", b"", {}, 404),
    ],
)
def test_a_request_that_is_not_a_webhook_gets_the_right_status(run, method, target, body, headers, status):
    async def scenario(cell):
        assert (await cell.twilio.request(method, target, body, headers))[0] == status

    run(scenario, allow_unsigned="on")


def test_without_signatures_every_webhook_is_accepted(run):
    async def scenario(cell):
        status, text = await cell.twilio.request("POST", "/twilio/voice", b"CallSid=CA1", FORM)
        assert (status, "<Connect>" in text) == (200, True)
        async with cell.twilio.socket(signature="none"):
            pass

    run(scenario, allow_unsigned="on", twilio_auth_token="")


@pytest.mark.parametrize("hook", ["voice", "status", "recording"])
def test_without_signatures_a_page_under_a_name_of_its_own_gets_no_call(run, hook):
    async def scenario(cell):
        for host, status in (("rebound.example:8080", 403), ("127.0.0.1", 403), (f"LocalHost:{cell.twilio.port}", 200)):
            got, text = await cell.twilio.request("POST", f"/twilio/{hook}", b"CallSid=CA1", {**FORM, "Host": host})
            assert (got, "<Connect>" in text) == (status if status != 200 or hook == "voice" else 204, got == 200)
        assert cell.gateway.metrics.unsigned[hook].value == 2

    run(scenario, allow_unsigned="on", twilio_auth_token="")


@pytest.mark.parametrize("target", ["/twilio/voice/", "/twilio/status/", "/healthz/", "/readyz/"])
def test_a_host_header_causes_no_redirect(run, target):
    async def scenario(cell):
        for method in ("GET", "POST"):
            status, text = await cell.twilio.request(method, target, headers={"Host": "elsewhere.example"})
            assert (status, "elsewhere" in text) == (404, False)

    run(scenario)


def test_at_max_calls_the_fallback_answers(run):
    async def scenario(cell):
        assert "<Connect>" in await cell.twilio.voice("CA1")
        assert "<Say>Full</Say><Dial>+15550100</Dial>" in await cell.twilio.voice("CA2")
        assert "<Connect>" in await cell.twilio.voice("CA1")

    run(scenario, max_calls=1, fallback_say="Full", fallback_dial="+15550100")


def test_a_late_machine_accepts_returning_calls_only(run, monkeypatch):
    monkeypatch.setattr(limits, "LATE_STEPS", 1)  # for here all frames are late at once

    async def scenario(cell):
        async with cell.call("CAlive") as (socket, started):
            frames = LATENESS_FRAMES
            cell.frames(monotonic_ns() - 200_000_000, (started.call, 0, bytes(160 * frames), 0))
            await cell.ack()
            assert "<Say>" in await cell.twilio.voice("CAnew")
            assert cell.gateway.metrics.fallbacks[FallbackCause.LATE].value == 1
            assert "<Connect>" in await cell.twilio.voice("CAback", resume=True)
            socket.transport.abort()

    run(scenario)


def test_at_max_calls_a_returning_call_is_accepted(run):
    async def scenario(cell):
        assert "<Connect>" in await cell.twilio.voice("CA1")
        assert "<Connect>" in await cell.twilio.voice("CAback", resume=True)
        cell.bridge.answer = WorkerState(0, True, 5)
        await cell.until(lambda: cell.gateway.calls.neighbours.calls(monotonic_ns()) == 5)
        assert "<Connect>" in await cell.twilio.voice("CAother", resume=True)

    run(scenario, max_calls=1)


def test_readiness_names_what_is_missing(run):
    async def scenario(cell):
        async def ready() -> tuple[int, list[str]]:
            status, text = await cell.twilio.request("GET", "/readyz")
            return status, json.loads(text)["missing"]

        assert await ready() == (200, [])
        cell.bridge.answer = WorkerState(0, False, 0)
        cell.bridge.send(cell.bridge.answer)
        await cell.until(lambda: not cell.gateway.calls.neighbours.ready_workers(0))
        assert await ready() == (503, ["no aibridge worker is ready"])
        assert "<Say>" in await cell.twilio.voice("CA1")
        cell.bridge.answer = WorkerState(0, True, 0)
        cell.bridge.send(cell.bridge.answer)
        await cell.ready()
        await cell.gateway.drain(1)
        assert await ready() == (503, ["this gateway is draining"])
        assert "<Say>" in await cell.twilio.voice("CA1")
        assert await cell.twilio.request("GET", "/healthz") == (200, "ok\n")

    run(scenario)


def test_a_call_that_returns_again_and_again_gets_the_fallback(run):
    async def scenario(cell):
        answers = [await cell.twilio.voice("CAloop", resume=True) for _ in range(4)]
        assert ["<Connect>" in answer for answer in answers] == [True, True, True, False]
        assert [(await cell.bridge.next(CallOffered)).resumed for _ in range(3)] == [True] * 3

    run(scenario)


def test_a_repeated_webhook_holds_one_place_and_asks_the_same_worker(run):
    async def scenario(cell):
        await cell.until(lambda: cell.gateway.metrics.workers_ready.value == 2)
        for _ in range(3):
            assert "<Connect>" in await cell.twilio.voice("CAagain")
        await cell.until(lambda: sorted(bridge.inbox.qsize() for bridge in cell.bridges) == [0, 3])
        assert "<Connect>" in await cell.twilio.voice("CAother")

    run(scenario, workers=2, max_calls=2)


def test_a_call_returns_to_its_agent_after_a_dial(run):
    async def scenario(cell):
        cell.bridge.send(CallOver("CAdial", Dial("+15550100", "+15550002", 20)))
        await cell.until(lambda: "CAdial" in cell.gateway.calls.offers.admission._orders)
        answer = await cell.twilio.voice("CAdial", resume=True)
        action = f"{cell.twilio.origin}/twilio/voice?resume=1&amp;after=order"
        assert f'<Dial action="{action}" callerId="+15550002" method="POST" timeout="20"><Number>+15550100<' in answer
        status, text = await cell.twilio.post(
            "/twilio/voice?resume=1&after=order", CallSid="CAdial", AccountSid=cell.twilio.account_sid
        )
        assert (status, "<Connect>" in text) == (200, True)

    run(scenario)


def test_each_attempt_to_connect_a_caller_is_noted_with_how_it_went(run):
    async def scenario(cell):
        facts = []
        cell.gateway.media._note = facts.append
        cell.bridge.send(CallOver("CAdial", Dial("+15550100", "+15550001", 20, "+15550002")))
        await cell.until(lambda: "CAdial" in cell.gateway.calls.offers.admission._orders)
        await cell.twilio.voice("CAdial", resume=True)
        target = "/twilio/voice?resume=1&after=order"
        fields = {"CallSid": "CAdial", "AccountSid": cell.twilio.account_sid}
        _, again = await cell.twilio.post(target, **fields, CallStatus="in-progress", DialCallStatus="failed")
        assert 'callerId="+15550002"' in again
        _, last = await cell.twilio.post(
            target, **fields, CallStatus="completed", DialCallStatus="completed", DialCallDuration="7"
        )
        assert "<Hangup" in last
        told = [(each.caller_id if isinstance(each, DialBegan) else each.outcome) for each in facts]
        assert told == ["+15550001", "failed", "+15550002", "completed"]
        assert (facts[3].duration_s, facts[3].caller_left) == (7, True)

    run(scenario)


def test_a_webhook_waits_for_call_config_url_and_no_longer_than_its_deadline(run, monkeypatch):
    monkeypatch.setattr(web, "CONFIG_WAIT_S", 0.3)

    async def scenario(cell):
        async def ring(call_sid):
            return await cell.twilio.voice(call_sid)

        rejected = asyncio.create_task(ring("CAno"))
        offered = await cell.bridge.next(CallOffered)
        cell.bridge.send(CallConfigured("CAno", offered.plan, Reject("busy")))
        assert '<Reject reason="busy" />' in await rejected
        assert await cell.bridge.next(CallTaken) == CallTaken("CAno")
        before = monotonic_ns()
        assert "<Connect>" in await ring("CAslow")
        assert monotonic_ns() - before > 0.25e9
        assert cell.gateway.metrics.config_unanswered.value == 1

    run(scenario, call_config_url="http://config")


def test_garbage_on_the_port_disturbs_no_call(run):
    async def scenario(cell):
        upgrade = b"GET /twilio/media HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        for garbage in (
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /" + b"x" * 20_000,
            upgrade + b"\r\n",
            upgrade.replace(b"GET", b"POST") + b"\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", cell.twilio.port)
            writer.write(garbage)
            writer.write_eof()
            assert b" 101 " not in await asyncio.wait_for(reader.read(), 5)
            writer.close()
        async with cell.call():
            pass

    run(scenario)
