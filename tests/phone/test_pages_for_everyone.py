"""The pages by keyboard, on a narrow screen, in the dark, for a screen reader, and when something fails.

axe-core, from npm, judges contrast, names and roles: it finds nothing serious.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.phone.browsers import Launch, Microphone
from twentyms.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]

AXE = Path(__file__).parents[2] / "out" / "axe"
WIDTHS = (1200, 390)
# Firefox shows light pages in both: tests/phone/firefox.py.
SCHEMES = ("light", "dark")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    env = {"TWILIO_AUTH_TOKEN": "", "ALLOW_UNSIGNED": "on", "DATA_DIR": str(tmp_path / "data")}
    with Stack(env=env, model=("--embedded", "talk"), log=tmp_path / "log") as running:
        # callbook starts after the processes that a call needs.
        deadline = time.monotonic() + 20
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", int(running.env["METRICS_PORT"]))):
                assert time.monotonic() < deadline, "callbook does not start"
                time.sleep(0.1)
        yield running


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    npm = shutil.which("npm")
    source = AXE / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        if npm is None:
            pytest.skip("npm is not installed")
        subprocess.run([npm, "install", "--silent", "--prefix", str(AXE), "axe-core@4"], check=True, timeout=60)
    return source.read_text()


def serious(page: Page, axe: str) -> list[str]:
    """What axe-core calls serious or critical, with the first element of each."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate("axe.run().then((result) => result.violations)")
    return [
        f"{each['id']}: {json.dumps(each['nodes'][0]['target'])} {each['nodes'][0]['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def phone(stack: Stack) -> str:
    return f"http://localhost:{stack.gateway_port}/"


def private(stack: Stack, path: str) -> str:
    return f"http://localhost:{stack.env['METRICS_PORT']}{path}"


def test_axe_finds_nothing_serious_on_any_page_before_during_and_after_a_call(
    stack: Stack,
    axe: str,
    launch_each: Launch,
    microphone: Microphone,
) -> None:
    found: dict[str, list[str]] = {}
    with launch_each(microphone([(4.0, "vm-sorry")], 30.0)) as browser:
        talking = browser.new_page()
        watching = browser.new_page()

        def look(page: Page, what: str) -> None:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    page.set_viewport_size({"width": width, "height": 800})
                    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                    found[f"{what}, {width}, {scheme}"] = serious(page, axe)
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, what

        watching.goto(private(stack, "/"))
        expect(watching.locator("#empty")).to_be_visible()
        look(watching, "no calls")
        talking.goto(phone(stack))
        look(talking, "phone at rest")
        talking.get_by_role("button", name="Call", exact=True).click()
        expect(talking.locator("#status")).to_contain_text("Connected", timeout=10_000)
        talking.keyboard.press("k")
        expect(talking.locator("#transcript em").first).to_contain_text("interrupted after", timeout=15_000)
        watching.goto(private(stack, "/live"))
        expect(watching.locator("#live-rows tr")).to_have_count(1, timeout=5_000)
        expect(watching.locator("#live-rows")).to_contain_text("browser")
        look(watching, "live calls")
        watching.get_by_role("button", name="Listen").click()
        heard = watching.locator("#heard")
        expect(heard).to_have_text(re.compile("speaks?$"), timeout=10_000)
        expect(watching.get_by_role("button", name="Stop")).to_be_focused()
        look(watching, "listening in")
        watching.keyboard.press("Enter")
        expect(heard).to_have_text("")
        expect(watching.get_by_role("button", name="Listen")).to_be_focused()
        look(talking, "phone in a call")
        talking.keyboard.press("Escape")
        expect(talking.locator("#keypad")).to_be_hidden()
        expect(talking.locator("#status")).to_contain_text("Connected")
        talking.keyboard.press("Escape")
        expect(talking.locator("#status")).to_have_text("Call ended")
        expect(talking.locator("#transcript")).not_to_contain_text("…")
        look(talking, "phone after a call")
        address = talking.get_by_role("link", name="The timeline of this call").get_attribute("href")
        assert address is not None
        watching.goto(address)
        expect(watching.locator("#turns li").first).to_be_visible(timeout=10_000)
        look(watching, "a call")
        watching.get_by_role("link", name="All").click()
        expect(watching.locator("#rows tr")).to_have_count(1)
        look(watching, "list")
        watching.get_by_role("searchbox").fill("nobody said this")
        expect(watching.locator("#nothing")).to_be_visible()
        watching.get_by_role("button", name="Clear").click()
        expect(watching.locator("#rows tr")).to_have_count(1)
    assert not "\n".join(f"{where}: {fault}" for where, faults in found.items() for fault in faults)


def test_a_gateway_that_is_gone_is_said_in_words(stack: Stack, launch: Launch) -> None:
    with launch() as browser:
        page = browser.new_page()
        page.goto(phone(stack))
        page.route("**/phone/**", lambda route: route.abort())
        page.get_by_role("button", name="Call", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("The gateway does not answer. Start twentyms")
        expect(page.locator("#status")).to_have_text("No call")


def test_a_model_that_says_nothing_is_said_in_words(launch: Launch, tmp_path: Path, microphone: Microphone) -> None:
    env = {"TWILIO_AUTH_TOKEN": "", "ALLOW_UNSIGNED": "on", "DATA_DIR": str(tmp_path / "data")}
    env |= {"MODEL_RECONNECT_SECONDS": "6"}
    with Stack(env=env, log=tmp_path / "log") as stack, launch(microphone([], 20.0)) as browser:
        page = browser.new_page()
        page.goto(phone(stack))
        os.kill(stack.model_pid, 9)
        page.get_by_role("button", name="Call", exact=True).click()
        expect(page.locator("#status")).to_contain_text("the model has said nothing yet", timeout=15_000)
        expect(page.get_by_role("alert")).to_contain_text("its model did not answer", timeout=20_000)


def test_without_callbook_the_calls_page_says_so(stack: Stack, launch: Launch) -> None:
    with launch() as browser:
        page = browser.new_page()
        page.goto(private(stack, "/calls"))
        page.route("**/api/**", lambda route: route.abort())
        page.get_by_role("searchbox").fill("x")
        expect(page.get_by_role("alert")).to_contain_text("callbook does not answer; is twentyms running?")
