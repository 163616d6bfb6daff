"""The browser phone against the whole pipeline, in a real browser."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.phone.browsers import Launch, Microphone
from twentyms.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]

# Seconds of the microphone's recording, which begins with the call.
GREETING_S = 6.0
TURN_S = GREETING_S + 1
INTERRUPTION_S = 10.5

STOP_MS = 200


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    path = tmp_path_factory.mktemp("stack")
    env = {"TWILIO_AUTH_TOKEN": "", "ALLOW_UNSIGNED": "on", "DATA_DIR": str(path / "data")}
    with Stack(env=env, log=path / "log") as running:
        yield running


def measures(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.evaluate("JSON.stringify(window.twentyms)"))
    return found


def test_a_call_from_the_browser_is_heard_interrupted_and_transcribed(
    stack: Stack, launch_each: Launch, microphone: Microphone
) -> None:
    voice = microphone([(TURN_S, "hello"), (INTERRUPTION_S, "vm-sorry")], INTERRUPTION_S + 4)
    with launch_each(voice) as browser:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(f"http://127.0.0.1:{stack.gateway_port}/")
        page.get_by_role("button", name="Call").click()
        expect(page.locator("#status")).to_contain_text("Connected", timeout=10_000)
        expect(page.locator("#lane-ai")).to_have_class("lane speaking", timeout=5_000)
        expect(page.locator("#transcript li.ai").first).to_contain_text("Welcome", timeout=5_000)
        # The interruption: into the answer to the first turn.
        expect(page.locator("#transcript li.ai em")).to_contain_text("interrupted after", timeout=25_000)
        struck = page.locator("#transcript li.ai del").first
        expect(struck).not_to_be_empty()
        expect(page.locator("#f-stop dd >> nth=0")).to_contain_text("ms", timeout=5_000)
        found = measures(page)
        greeting_cuts = page.locator("#transcript li.ai").first.locator("em, del").count()
        gaps_shown = page.locator("#f-gaps dd >> nth=0").inner_text()
        print(json.dumps(found))
        page.get_by_role("button", name="Keypad").click()
        for key in ("4", "2", "hash"):
            page.get_by_role("button", name=key, exact=True).click()
        expect(page.locator("#transcript li.keys")).to_have_text("Keys42", timeout=5_000)
        page.get_by_role("button", name="Hang up").click()
        expect(page.locator("#status")).to_have_text("Call ended")
        assert not errors
    (stop,) = found["stops"]
    assert 0 < stop["ms"] <= STOP_MS
    assert not greeting_cuts
    # Two marks for each second of speech. Nothing stood between socket and ear.
    assert found["heard"]["echoes"]["number"] >= 2 * GREETING_S
    assert found["delayed"] == 0
    # The figure includes gaps of this machine's own audio thread, so its value is not judged here.
    assert gaps_shown == str(len(found["gaps"]))
    _no_call_is_left(stack)


def _no_call_is_left(stack: Stack) -> None:
    deadline = time.monotonic() + 5
    while "twentyms_gateway_calls{" in (text := _metrics(stack)):
        line = next(line for line in text.splitlines() if line.startswith("twentyms_gateway_calls{"))
        if line.endswith(" 0.0"):
            return
        assert time.monotonic() < deadline, line
        time.sleep(0.1)


def _metrics(stack: Stack) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.env['METRICS_PORT']}/metrics") as response:
        text: str = response.read().decode()
        return text


def test_a_refused_microphone_is_explained_and_no_call_is_placed(stack: Stack, launch: Launch) -> None:
    with launch() as browser:
        page = browser.new_page()
        page.add_init_script(
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
        )
        page.goto(f"http://127.0.0.1:{stack.gateway_port}/")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The microphone was refused. Allow it for this page")
        expect(page.locator("#status")).to_have_text("No call")
        expect(page.get_by_role("button", name="Call")).to_be_enabled()


def test_the_page_fits_into_a_phones_screen(stack: Stack, launch: Launch) -> None:
    with launch() as browser:
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.goto(f"http://127.0.0.1:{stack.gateway_port}/")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.get_by_role("button", name="Call").bounding_box()["width"] > 250  # type: ignore[index]


def test_the_calls_page_lists_the_call_and_draws_its_timeline(stack: Stack, launch_each: Launch) -> None:
    with launch_each() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{stack.env['METRICS_PORT']}/calls")
        row = page.locator("#rows tr", has_text="browser").first
        expect(row).to_be_visible(timeout=15_000)
        row.get_by_role("link").click()
        expect(page.locator("#turns .ai small").filter(has_text="s heard")).to_have_count(1, timeout=10_000)
        expect(page.locator("#turns del").first).not_to_be_empty()
        expect(page.locator("#turns .keys span")).to_have_text("42")
        expect(page.locator("#figures")).to_contain_text("Gaps at the ear")
        drawn = "document.querySelector('#timeline').toDataURL()"
        whole = page.evaluate(drawn)
        page.get_by_role("button", name="Zoom in").click()
        assert page.evaluate(drawn) != whole
        assert not errors


def test_a_proxy_that_stalls_makes_a_gap_that_page_and_server_count_alike(
    stack: Stack, launch: Launch, microphone: Microphone
) -> None:
    with launch(microphone([], GREETING_S + 4)) as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{stack.gateway_port}/")
        page.locator("#network summary").click()
        page.get_by_role("button", name="Proxy that stalls").click()
        page.locator("input[name=roundTripMs]").fill("100")
        expect(page.locator("#network summary")).to_contain_text("round trip 100 ms, stall 400 ms")
        before_number, before_ms = _server_gaps(stack)
        page.get_by_role("button", name="Call").click()
        expect(page.locator("#status")).to_contain_text("Connected", timeout=10_000)
        expect(page.locator("#lane-ai")).to_have_class("lane speaking", timeout=5_000)
        page.wait_for_timeout(1_000 * (GREETING_S + 1))
        found = measures(page)
        expect(page.locator("#f-gaps small")).to_contain_text("longest")
        page.get_by_role("button", name="Hang up").click()
        number, ms = _server_gaps(stack)
    gaps, echoes = found["heard"]["gaps"], found["heard"]["echoes"]
    print(json.dumps({"page": gaps, "server": [number - before_number, ms - before_ms], "echoes": echoes}))
    assert found["delayed"] > 0
    # The lead is between 60 and 180 ms.
    assert 200 < gaps["longestMs"] < 400
    assert number > before_number
    assert ms - before_ms == pytest.approx(gaps["ms"], rel=0.1, abs=30)
    assert echoes["longestMs"] > 100 + gaps["longestMs"]


def _server_gaps(stack: Stack) -> tuple[float, float]:
    """How many gaps the cell counted at its ears, and their sum, ms."""
    name = "twentyms_tx_ear_gap_seconds"
    lines = [line.rsplit(" ", 1) for line in _metrics(stack).splitlines()]
    count, seconds = (sum(float(v) for k, v in lines if k.startswith(f"{name}_{part}")) for part in ("count", "sum"))
    return count, 1_000 * seconds
