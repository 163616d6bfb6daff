"""The browser phone's routes on the real port of a gateway that checks signatures."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.core.phone_access import KEY_COOKIE, mint_key, phone_key
from gateway.phone.phone import is_on
from shared.agents.directory import read_directory
from shared.audio import FRAME_BYTES
from shared.messages import CallEnded, CallNote, CallOffered, CallStarted, FollowCall, PathSeen

from ..conftest import received

AUTH_TOKEN = "twilio-auth-token-of-the-tests"
PUBLIC = {"public_url": "https://voice.example.com", "phone_page": "on"}


async def request(cell, method, target, headers=None):
    """With all headers, Host included: FakeTwilio's own are not a browser's. Status, header lines and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cell.twilio.port)
    lines = [f"{method} {target} HTTP/1.1", "Connection: close", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = (await asyncio.wait_for(reader.read(), 5)).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def headers(*, key: str | None = None, origin: str | None = "https://voice.example.com"):
    made = {"Host": "voice.example.com"}
    if origin is not None:
        made["Origin"] = origin
    if key is not None:
        made["Cookie"] = f"{KEY_COOKIE}={key}"
    return made


def a_key() -> str:
    return mint_key(phone_key(AUTH_TOKEN), int(time.time()))


async def offer(cell):
    """A call placed by a page with a key: what the page gets, and the ticket's cookie."""
    status, head, body = await request(cell, "POST", "/phone/call", headers(key=a_key()))
    assert status == 200, body
    (ticket,) = (line for line in head.splitlines() if line.lower().startswith("set-cookie: twentyms_ticket="))
    assert "HttpOnly" in ticket
    assert "Secure" in ticket
    assert "SameSite=strict" in ticket
    return json.loads(body), ticket.partition(": ")[2].partition(";")[0]


def test_on_the_internet_the_phone_is_off_by_default(run):
    async def scenario(cell):
        assert (await request(cell, "GET", "/", headers()))[0] == 404
        assert (await request(cell, "POST", "/phone/call", headers(key=a_key())))[0] == 404

    run(scenario, public_url="https://voice.example.com")


def test_with_a_proxy_in_front_of_loopback_the_phone_is_off_by_default(run):
    async def scenario(cell):
        assert (await request(cell, "GET", "/", {"Host": f"127.0.0.1:{cell.twilio.port}"}))[0] == 404

    run(scenario, public_url="https://voice.example.com", gateway_host="127.0.0.1")


@pytest.mark.parametrize(("setting", "loopback", "on"), [("", True, True), ("", False, False), ("off", True, False)])
def test_where_only_this_machine_reaches_the_port_the_phone_is_on_by_default(setting, loopback, on):
    class Chosen:
        phone_page = setting

    assert is_on(Chosen, loopback=loopback) is on  # type: ignore[arg-type]


def test_a_locked_phone_explains_how_to_open_it_and_offers_no_call(run):
    async def scenario(cell):
        for key in (None, "", "99999999999.aa"):
            status, _, body = await request(cell, "GET", "/", headers(key=key))
            assert (status, "twentyms phone" in body) == (403, True)
            assert (await request(cell, "POST", "/phone/call", headers(key=key)))[0] == 403
        assert (await request(cell, "GET", "/?key=1.a", headers()))[0] == 403
        assert cell.bridge.inbox.empty()
        assert cell.gateway.metrics.phone_refused.value == 3

    run(scenario, **PUBLIC)


def test_the_links_key_becomes_a_cookie_and_opens_the_page(run):
    async def scenario(cell):
        status, head, _ = await request(cell, "GET", f"/?key={a_key()}", headers())
        assert status == 303
        cookie = next(line for line in head.splitlines() if line.lower().startswith("set-cookie"))
        assert "HttpOnly" in cookie
        assert "Secure" in cookie
        key = cookie.partition("=")[2].partition(";")[0]
        status, head, body = await request(cell, "GET", "/", headers(key=key))
        assert (status, "<title>twentyms phone" in body) == (200, True)
        assert "content-security-policy: default-src 'none'" in head.lower()
        assert (await request(cell, "GET", "/phone/phone.js", headers()))[0] == 200
        assert (await request(cell, "GET", "/phone/..%2fphone.py", headers()))[0] == 404

    run(scenario, **PUBLIC)


def test_a_page_of_another_origin_cannot_place_a_call(run):
    async def scenario(cell):
        for bad in (headers(key=a_key(), origin="https://evil.example.com"), headers(key=a_key(), origin=None)):
            assert (await request(cell, "POST", "/phone/call", bad))[0] == 403
        rebound = {**headers(key=a_key()), "Host": "evil.example.com", "Origin": "https://evil.example.com"}
        assert (await request(cell, "POST", "/phone/call", rebound))[0] == 403
        assert (await request(cell, "GET", "/", rebound))[0] == 403
        assert cell.bridge.inbox.empty()

    run(scenario, **PUBLIC)


def test_a_phones_socket_opens_once_with_its_ticket_and_its_call_is_followed(run):
    async def scenario(cell):
        said, ticket = await offer(cell)
        offered = await cell.bridge.next(CallOffered)
        assert (offered.call_sid, offered.plan.from_number) == (said["callSid"], "browser")
        url = f"ws://127.0.0.1:{cell.twilio.port}/twilio/media"
        asked = {"Cookie": ticket}
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url, origin="https://evil.example.com", additional_headers=asked)
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url, origin="https://voice.example.com")
        async with connect(url, origin="https://voice.example.com", additional_headers=asked) as socket:
            with pytest.raises(InvalidStatus, match="403"):
                await connect(url, origin="https://voice.example.com", additional_headers=asked)
            await socket.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
            await socket.send(
                cell.twilio.start_text(said["callSid"], said["parameters"])
                if cell.twilio.account_sid == said["accountSid"]
                else ""
            )
            started = await cell.bridge.next(CallStarted)
            assert (await cell.bridge.next(FollowCall)).call == started.call
            cell.bridge.send(CallNote(started.call, b'{"speech":"started"}'), CallNote(99, b'{"turn":{}}'))
            events = asyncio.create_task(request(cell, "GET", f"/phone/events/{said['callSid']}", headers(key=a_key())))
            await asyncio.sleep(0.05)
            assert (await request(cell, "GET", f"/phone/events/{said['callSid']}", headers()))[0] == 403
            assert (await request(cell, "GET", "/phone/events/CA1", headers(key=a_key())))[0] == 404
        await cell.bridge.next(CallEnded)
        status, head, body = await events
        assert (status, "text/event-stream" in head) == (200, True)
        assert 'data: {"speech":"started"}' in body
        assert "turn" not in body
        assert "event: over" in body

    run(scenario, **PUBLIC)


def test_a_phone_is_asked_for_its_delay_by_marks_in_place_of_pings(run):
    async def scenario(cell):
        said, ticket = await offer(cell)
        await cell.bridge.next(CallOffered)
        url = f"ws://127.0.0.1:{cell.twilio.port}/twilio/media"
        async with connect(url, origin="https://voice.example.com", additional_headers={"Cookie": ticket}) as socket:
            await socket.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
            await socket.send(cell.twilio.start_text(said["callSid"], said["parameters"]))
            started = await cell.bridge.next(CallStarted)
            cell.frames(time.monotonic_ns(), (started.call, 0, bytes(FRAME_BYTES), 0))
            assert (await received(socket))["event"] == "media"
            name = (await received(socket))["mark"]["name"]
            assert name.startswith("probe.")
            await cell.ack()
            await asyncio.sleep(0.05)
            for echo in ("probe.1", name):
                await socket.send(cell.twilio.text("mark", mark={"name": echo}))
            ((call, delay_ns, _),) = (await cell.pacer.next(PathSeen)).pings
            assert call == started.call
            assert delay_ns >= 50_000_000
            assert cell.gateway.metrics.marks_unknown.value == 0

    run(scenario, **PUBLIC)


def test_a_socket_with_a_ticket_and_no_stream_token_begins_no_call(run):
    async def scenario(cell):
        said, ticket = await offer(cell)
        await cell.bridge.next(CallOffered)
        url = f"ws://127.0.0.1:{cell.twilio.port}/twilio/media"
        async with connect(url, origin="https://voice.example.com", additional_headers={"Cookie": ticket}) as socket:
            await socket.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
            await socket.send(cell.twilio.start_text(said["callSid"], {}))
            await socket.wait_closed()
        assert cell.bridge.inbox.empty()

    run(scenario, **PUBLIC)


def test_a_page_gets_the_fallback_sentence_when_the_gateway_is_full(run):
    async def scenario(cell):
        await offer(cell)
        status, _, body = await request(cell, "POST", "/phone/call", headers(key=a_key()))
        assert (status, json.loads(body)) == (503, {"error": "All busy."})

    run(scenario, max_calls=1, fallback_say="All busy.", **PUBLIC)


def test_a_page_chooses_its_agent_and_is_told_of_a_script_in_place_of_a_model(run, tmp_path):
    for name, more in (("sales", ""), ("office", "default = true\n")):
        (tmp_path / f"{name}.toml").write_text(f'instructions = "Talk."\n{more}')

    async def scenario(cell):
        cell.gateway.calls.offers.agents = read_directory(tmp_path)
        assert (await request(cell, "GET", "/phone/about", headers()))[0] == 403
        _, _, body = await request(cell, "GET", "/phone/about", headers(key=a_key()))
        assert json.loads(body) == {"agents": ["office", "sales"], "simulated": "talk", "records": ""}
        for target, agent in (("/phone/call?agent=sales", "sales"), ("/phone/call", "office")):
            assert (await request(cell, "POST", target, headers(key=a_key())))[0] == 200
            assert (await cell.bridge.next(CallOffered)).plan.agent == agent
        status, _, body = await request(cell, "POST", "/phone/call?agent=gone", headers(key=a_key()))
        assert (status, "Reload" in body) == (404, True)

    run(scenario, openai_realtime_model="gpt-realtime-2.1-simulated", **PUBLIC)
