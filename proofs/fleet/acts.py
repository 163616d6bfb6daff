"""What is done to a fleet during calls, and what the callers heard of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, Final

import httpx2
from twilio.request_validator import RequestValidator

from proofs.judge import judge
from proofs.retold import forgotten
from proofs.spoken import listen, read_sessions
from simulator.carrier.call import CallRecord
from simulator.carrier.caller import AiSilent, Caller, HangUp, Say, Wait
from simulator.carrier.client import Exchange
from twentyms.heard import gaps_ms, runs

from .machines import CELLS, Fleet, address

# Short greeting, then an answer that is longer than any call: the AI speaks when something is done to its cell.
BEHAVIOUR: Final = {"answer_ms": 90_000, "responses": [{"answer_ms": 3_000}]}
SPEAKS_S: Final = 9.0
# HAProxy gives a cell up after two failed checks, which are 500 ms apart and may take 500 ms each.
DETECTED_MS: Final = 2_000
# The bound of the silence: from when HAProxy gave the cell up.
ONWARD_MS: Final = 1_000


@dataclass(frozen=True)
class Heard:
    """What one caller heard of an act; ms. `silence_ms` is None when the AI was not heard again."""

    call: CallRecord
    detection_ms: float
    silence_ms: float | None
    forgotten: tuple[str, ...]
    problems: tuple[str, ...]


def is_moved(call: CallRecord) -> bool:
    """Whether the call lost its media socket, and began another one."""
    return len(call.streams) > 1


def silence_ms(call: CallRecord, since_ns: int) -> float | None:
    """How long the ear was silent for the first time after an instant at which the AI spoke; None: for ever."""
    spoken = list(runs(call))
    for before, after in itertools.pairwise(spoken):
        if before.began_ns <= since_ns <= after.began_ns:
            return (after.began_ns - max(since_ns, before.ended_ns)) / 1e6
    return 0.0 if spoken and spoken[-1].ended_ns >= call.ended_ns - 10**9 else None


def during_call(call: CallRecord, sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions that were opened before the caller hung up.

    A cell that was cut off has not noticed that the call is over. It dials again when its link is back.
    """
    return [each for each in sessions if each["opened_ns"] < call.ended_ns]


def moved(fleet: Fleet, call: CallRecord, since_ns: int) -> Heard:
    """The judgement on a call that lost its cell."""
    sessions = during_call(call, json.loads(fleet.sessions(call.call_sid)))
    lost = {number for number, session in enumerate(sessions[:-1]) if session["opened_ns"] < since_ns}
    for number in lost:
        # The model was not told either that its session is over.
        sessions[number]["closed_ns"] = min(since_ns, sessions[number]["closed_ns"] or since_ns)
    spoken, _ = listen(call, read_sessions(sessions))
    return Heard(
        call,
        (call.streams[0].ended_ns - since_ns) / 1e6,
        silence_ms(call, since_ns),
        tuple(each.text for each in forgotten(spoken, sessions, lost)),
        () if call.outcome == "hung-up-by-caller" else (f"the call ended: {call.outcome or 'without an answer'}",),
    )


def speaker(seed: int, seconds: float) -> Caller:
    """Says one word after the greeting, listens, and hangs up while the AI speaks."""
    return Caller([Say("hello", AiSilent(ms=300)), HangUp(Wait(ms=int(seconds * 1e3)))], seed=seed, noise=True)


async def during(
    fleet: Fleet, count: int, seconds: float, act: Callable[[], Awaitable[None]], *, apart_s: float = 0.1
) -> list[CallRecord]:
    """`count` calls, in whose long answer `act` happens."""
    async with Exchange() as exchange:

        async def one(number: int) -> CallRecord:
            await asyncio.sleep(number * apart_s)
            return await exchange.place_call(
                fleet.dialled_url, fleet.auth_token, caller=speaker(number, seconds), limit_s=seconds + 60
            )

        calling = [asyncio.create_task(one(number)) for number in range(count)]
        await asyncio.sleep(count * apart_s + SPEAKS_S)
        await act()
        return list(await asyncio.gather(*calling))


def counted(fleet: Fleet) -> str:
    """The hand-overs in mid-speech and their silence, as the cells' metrics have them."""
    count, seconds = (
        sum(fleet.metric(number, f"aibridge_handover_silence_seconds_{part}") for number in range(len(CELLS)))
        for part in ("count", "sum")
    )
    return f"{count:.0f} hand-overs, silence {1e3 * seconds / max(1, count):.0f} ms in the mean"


@dataclass
class Report:
    """Lines to read, and the bounds that were broken."""

    lines: list[str]
    broken: list[str]

    def bound(self, text: str, is_kept: bool) -> None:
        self.lines.append(text)
        if not is_kept:
            self.broken.append(text)


def spread(values: Sequence[float]) -> str:
    """Times in ms, for a line of a report."""
    return f"{median(values):.0f} ms p50, {max(values):.0f} at most" if values else "-"


def _total(gaps: Sequence[float]) -> str:
    return f"{len(gaps)}, {sum(gaps):.0f} ms, {max(gaps, default=0):.0f} at most"


def cut(fleet: Fleet, count: int, times: int) -> Report:
    """The link of one cell after the other is cut, without a FIN, in mid-sentence."""
    return lose_cells(fleet, count, times, fleet.cut, fleet.mend)


def frozen(fleet: Fleet, count: int, times: int) -> Report:
    """All processes of one cell after the other are stopped in mid-sentence, and go on when the calls are over."""
    return lose_cells(fleet, count, times, fleet.freeze, fleet.thaw)


def killed(fleet: Fleet, count: int, times: int) -> Report:
    """All processes of one cell after the other are killed in mid-sentence."""
    return lose_cells(fleet, count, times, fleet.kill, fleet.boot_again)


def lose_cells(
    fleet: Fleet, count: int, times: int, lose: Callable[[int], None], mend: Callable[[int], None]
) -> Report:
    """`lose` one cell after the other, and `mend` it after the calls."""
    report, detections, silences = Report([], []), list[float](), list[float]()
    other_gaps = list[float]()
    others = lost = untold = 0
    for repetition in range(times):
        number = repetition % len(CELLS)
        at_ns = [0]

        async def act(number: int = number, at_ns: list[int] = at_ns) -> None:
            at_ns[0] = time.monotonic_ns()
            lose(number)

        records = asyncio.run(during(fleet, count, SPEAKS_S + count * 0.1 + 9, act))
        mend(number)
        for call in records:
            if not is_moved(call) and call.outcome == "hung-up-by-caller":
                others += 1
                other_gaps += gaps_ms(call)
                continue
            if not is_moved(call):
                lost += 1
                report.broken.append(f"a call ended: {call.outcome} {[each.text for each in call.warnings]}")
                continue
            heard = moved(fleet, call, at_ns[0])
            detections.append(heard.detection_ms)
            untold += bool(heard.forgotten)
            report.broken += [*heard.problems, *heard.forgotten]
            if heard.silence_ms is None:
                report.broken.append("a caller did not hear the AI again")
            else:
                silences.append(heard.silence_ms)
                if heard.silence_ms > heard.detection_ms + ONWARD_MS:
                    report.broken.append(
                        f"silent for {heard.silence_ms:.0f} ms, given up after {heard.detection_ms:.0f} ms"
                    )
        fleet.wait_until_up(number)
    report.lines.append(f"times {times}, calls {times * count}, of the lost cells {len(detections)}, lost {lost}")
    was_soon = all(each <= DETECTED_MS for each in detections)
    report.bound(f"the media socket was closed after {spread(detections)}", was_soon)
    report.lines.append(f"silence at the ear {spread(silences)}, mean {mean(silences or [0]):.0f} ms")
    report.lines.append(f"counted by the cells that live: {counted(fleet)}")
    report.bound(f"sessions that were not told all of the conversation: {untold}", not untold)
    report.bound(f"gaps of the {others} calls of other cells: {_total(other_gaps)}", not other_gaps)
    return report


def upgrade(fleet: Fleet, count: int, _: int) -> Report:
    """Each cell in turn drains, ends and starts again, while calls come and go."""
    report = Report([], [])
    placed: list[CallRecord] = []

    async def calls(exchange: Exchange, slot: int, over: asyncio.Event) -> None:
        await asyncio.sleep(slot * 0.2)
        while not over.is_set():
            placed.append(
                await exchange.place_call(
                    fleet.dialled_url, fleet.auth_token, caller=speaker(slot, 12 + slot % 5), limit_s=90
                )
            )

    async def run() -> None:
        over = asyncio.Event()
        async with Exchange() as exchange:
            calling = [asyncio.create_task(calls(exchange, slot, over)) for slot in range(count)]
            await asyncio.sleep(count * 0.2 + SPEAKS_S)
            for number in range(len(CELLS)):
                await asyncio.to_thread(fleet.drain, number)
                await asyncio.to_thread(fleet.boot, number)
                await asyncio.to_thread(fleet.wait_for, number)
                await asyncio.to_thread(fleet.wait_until_up, number)
            over.set()
            await asyncio.gather(*calling)

    asyncio.run(run())
    handed = [call for call in placed if is_moved(call)]
    refused = [call for call in placed if not call.streams]
    cut_off = [call for call in placed if call.streams and call.outcome != "hung-up-by-caller"]
    silences = [
        silence for call in handed if (silence := silence_ms(call, call.streams[0].ended_ns - 10**9)) is not None
    ]
    report.lines.append(f"calls {len(placed)}, handed to another cell {len(handed)}, silence {spread(silences)}")
    gaps = [call for call in placed if not is_moved(call) and gaps_ms(call)]
    report.bound(f"refused {len(refused)}", not refused)
    report.bound(f"cut off {len(cut_off)}", not cut_off)
    report.bound(f"calls that were not handed over and had a gap: {len(gaps)}", not gaps)
    return report


def full(fleet: Fleet, count: int, _: int) -> Report:
    """Twice as many calls as fit into all cells (MAX_CALLS of each is a third of `count`)."""
    report = Report([], [])

    async def nothing() -> None:
        await asyncio.sleep(0)

    records = asyncio.run(during(fleet, 2 * count, SPEAKS_S + 2 * count * 0.1 + 3, nothing))
    taken = [call for call in records if call.streams]
    told = [call for call in records if not call.streams and any(verb.name == "Say" for verb in call.verbs)]
    report.lines.append(f"calls {len(records)}, room for {count}")
    report.bound(f"taken {len(taken)}", len(taken) == count)
    report.bound(f"told the fallback {len(told)}", len(told) == len(records) - count)
    return report


def goodbye(fleet: Fleet, count: int, _: int) -> Report:
    """Calls that ended on purpose; then their redirect reaches another cell, as if the answer had been lost."""
    report = Report([], [])

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def again(call: CallRecord) -> str:
        """TwiML's answer to the redirect of a call that is over, at a cell that never had it."""
        redirect = next(verb.text for verb in call.verbs if verb.name == "Redirect")
        home = CELLS.index(httpx2.URL(redirect).params["cell"])
        other = (home + 1) % len(CELLS)
        url = str(httpx2.URL(fleet.webhook_url).join(redirect))
        form = {"CallSid": call.call_sid, "AccountSid": "AC" + 32 * "0", "CallStatus": "in-progress"}
        form |= {"From": "+15005550006", "To": "+15005550001", "Direction": "inbound"}
        signature = RequestValidator(fleet.auth_token).compute_signature(url, form)
        target = url.replace(f"127.0.0.1:{fleet.front_port}", f"{address(other)}:8080")
        async with httpx2.AsyncClient(trust_env=False) as client:
            host = f"127.0.0.1:{fleet.front_port}"
            answer = await client.post(
                target, data=form, headers={"X-Twilio-Signature": signature, "Host": host}, timeout=10
            )
        return answer.text

    records = asyncio.run(during(fleet, count, 60, nothing))
    ended = [call for call in records if call.outcome == "hung-up-by-server"]
    report.bound(f"ended by the agent {len(ended)} of {count}", len(ended) == count)
    answers = [asyncio.run(again(call)) for call in ended]
    hung_up = sum("<Hangup" in answer and "<Connect" not in answer for answer in answers)
    report.bound(f"hung up by another cell {hung_up} of {len(ended)}", hung_up == len(ended))
    return report


def store(fleet: Fleet, count: int, _: int) -> Report:
    """redis-server frozen, thawed, killed, and started again empty, each for three seconds of the calls."""
    report = Report([], [])

    async def act() -> None:
        for step in (fleet.store.freeze, fleet.store.thaw, fleet.store.kill, fleet.store.start):
            await asyncio.to_thread(step)
            await asyncio.sleep(3)

    records = asyncio.run(during(fleet, count, SPEAKS_S + count * 0.1 + 16, act))
    gap = [ms for call in records for ms in gaps_ms(call)]
    kept = [call for call in records if call.outcome == "hung-up-by-caller" and not is_moved(call)]
    problems = [
        text
        for call in kept
        for text in judge(call, json.loads(fleet.sessions(call.call_sid))).problems(tolerance_ms=100)
    ]
    report.bound(f"calls that went on {len(kept)} of {count}", len(kept) == count)
    report.bound(f"gaps: {_total(gap)}", not gap)
    report.bound(f"problems {sorted(set(problems))}", not problems)
    return report


ACTS: Final = {
    "cut": cut,
    "frozen": frozen,
    "killed": killed,
    "upgrade": upgrade,
    "full": full,
    "goodbye": goodbye,
    "store": store,
}
