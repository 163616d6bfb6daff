"""Reads the record of a run of the nemesis: the damage to each call, and the acts of harm that may explain it.

No damage is excused for its size alone. A gap, a leftover, a cut or a lost socket needs an act that hit this call at
about that time, and an act excuses no more than its bound (excuses.py). The rest is a broken promise, however short.

Pure, but for `check`, which reads the record's folder.
"""

from __future__ import annotations

import pickle
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from shared.audio import BYTES_PER_MS, FRAME_BYTES
from simulator.carrier.call import STREAM_CLOSED, STREAM_REFUSED, WEBHOOK_FAILED, CallRecord

from .acts import NEAR_NS, Deed
from .counted import counted
from .counted import problems as tool_problems
from .excuses import HANDOVER_S, Account, Damage, Ledger
from .judge import judge
from .retold import forgotten
from .spoken import Spoken, listen, read_sessions
from .verdict import ALREADY_ACTIVE, ANSWER_MS, Cut, Interruption, Verdict

_MS: Final = 1_000_000
# From an interruption to silence without any act: the lead, a frame, and the lateness of a machine that runs it all.
SILENCE_MS: Final = 240
# Likewise for an answer.
LATE_MS: Final = ANSWER_MS + 150
# Speech that the model had made this long before its session was lost has to be heard.
MADE_NS: Final = 300 * _MS
# No answer is made sooner after a turn: an answer that seems to be is not the interrupted one.
INSTANT_NS: Final = 50 * _MS
# The history of an ended session is not corrected: interruptions this shortly before its end may be missing.
UNTOLD_NS: Final = 500 * _MS
# The carrier's own lateness makes speech seem late, by this much at most: a later carrier measures nothing.
LATENESS: Final[tuple[Damage, ...]] = ("gap", "leftover", "late answer")
LAG_MS: Final = 250
# A call may be refused this soon after an act that takes processes away. A larger share of refusals is a fault,
# whatever the acts were.
REFUSED_NS: Final = 5_000 * _MS
REFUSED_SHARE: Final = 0.05
# A worker that takes over a call needs this long for the model's first sign of life.
DIALLING_NS: Final = 50 * _MS
# The protection ends by the clock of the ear this long after the greeting began, unless the ear is known to be late.
PROTECTED_NS: Final = 500 * _MS
# A session counts as new for this long.
FRESH_NS: Final = 200 * _MS
_REFUSES: Final = {"gateway", "aibridge", "txpacer"}


def check(folder: Path, *, early: bool = False) -> list[str]:
    """The problems of the record of a run."""
    left = msgspec.json.decode((folder / "left.json").read_bytes())
    deeds = msgspec.json.decode((folder / "deeds.json").read_bytes(), type=list[Deed])
    calls = (
        (pickle.loads(path.read_bytes()), msgspec.json.decode(path.with_suffix(".sessions").read_bytes()))
        for path in sorted(folder.glob("*.call"))
    )
    effects = msgspec.json.decode((folder / "effects.json").read_bytes(), type=dict[str, int])
    return check_run(calls, deeds, left, effects, early=early)


def check_run(
    run: Iterable[tuple[CallRecord, Sequence[dict[str, Any]]]],
    deeds: Sequence[Deed],
    left: Sequence[str],
    effects: Mapping[str, int],
    *,
    early: bool = False,
) -> list[str]:
    """The problems of a run, a sentence each. Prints the figures, and how much of them each act excuses.

    `effects`: how often each call of the counting tool was carried out. `early`: the near ear pauses the AI.
    """
    problems = list(left)
    ledger = Ledger()
    calls = refused = losses = interruptions = answers = tools = 0
    speech_ms = 0.0
    for call, sessions in run:
        found, verdict = problems_of(call, sessions, deeds, ledger, effects, early=early)
        problems += [f"{call.call_sid}: {problem}" for problem in found]
        calls += 1
        refused += is_refused(call, verdict)
        losses += max(0, len(call.streams) - 1)
        speech_ms += verdict.speech_ms
        interruptions += len(verdict.interruptions)
        answers += len(verdict.answers)
        tools += len(counted(sessions))
    if refused > REFUSED_SHARE * calls:
        problems.append(f"{refused} of {calls} calls got the fallback")
    undone = sum(bool(deed.failure) for deed in deeds)
    print(
        f"{len(deeds)} acts, {undone} without a target; {calls - refused} calls ({refused} more got the fallback),"
        f" {losses} lost sockets, {speech_ms / 1_000:.0f} s of speech, {interruptions} interruptions,"
        f" {answers} answers, {tools} calls of tools, {sum(effects.values())} carried out"
    )
    print("\n".join(ledger.lines()))
    return problems


def is_refused(call: CallRecord, verdict: Verdict) -> bool:
    """Whether the call got the fallback and no conversation, which is right while too much is broken at once."""
    return verdict.first_audio_ms is None and any(verb.name == "Say" for verb in call.verbs)


def problems_of(
    call: CallRecord,
    sessions: Sequence[dict[str, Any]],
    deeds: Iterable[Deed],
    ledger: Ledger | None = None,
    effects: Mapping[str, int] | None = None,
    *,
    early: bool = False,
) -> tuple[list[str], Verdict]:
    """The problems of one call that no act on it explains; and the verdict."""
    done = [deed for deed in deeds if not deed.failure]
    own = [deed for deed in done if call.call_sid in deed.victims]
    sessions = lived(sessions, own, call.ended_ns)
    verdict = judge(call, sessions)
    if is_refused(call, verdict):
        at_ns = call.verbs[0].at_ns
        if any(deed.act.target in _REFUSES and deed.began_ns <= at_ns <= deed.ended_ns + REFUSED_NS for deed in done):
            return [], verdict
        return ["it got the fallback, and nothing had been broken"], verdict
    account = Account(own, ledger or Ledger(), early=early)
    found = list(_Call(call, sessions, verdict, account).problems())
    return [*found, *_of_tools(call, sessions, account, effects or {})], verdict


def _of_tools(
    call: CallRecord, sessions: Sequence[dict[str, Any]], account: Account, effects: Mapping[str, int]
) -> Iterator[str]:
    for each in tool_problems(sessions, effects, call.ended_ns):
        if isinstance(each, str):
            yield each
            continue
        account.note("tool", 1)
        if account.settle("tool", 1, each.at_ns, each.until_ns):
            yield f"{each.text}, {(each.at_ns - call.started_ns) / 1e9:.1f} s into the call"


def lived(
    sessions: Sequence[dict[str, Any]], deeds: Sequence[Deed], call_ended_ns: int | None = None
) -> list[dict[str, Any]]:
    """The sessions, each until its worker was stopped if another one has opened the next before that woke.

    Or up to DIALLING_NS afterwards: the other one was dialling, and the one that woke closed its session at once.

    Likewise the last one, if the call was over before that. Its socket is closed when the worker wakes, but nothing of
    what the session says until then is heard, and its history is not cut any more.
    """
    stops = [
        deed
        for deed in deeds
        if (deed.act.kind, deed.act.target) == ("stop", "aibridge") and deed.act.seconds >= HANDOVER_S
    ]
    ended = list(sessions)
    for number, (session, successor) in enumerate(pairwise(sessions)):
        for stop in stops:
            closed_ns, opened_ns = session["closed_ns"], successor["opened_ns"]
            if closed_ns is None or opened_ns <= stop.began_ns:
                continue
            was_dialling = stop.ended_ns <= closed_ns < opened_ns < stop.ended_ns + DIALLING_NS
            if opened_ns < min(closed_ns, stop.ended_ns) or was_dialling:
                ended[number] = _until(session, stop.began_ns)
    for stop in stops:
        is_unread = call_ended_ns is not None and stop.began_ns < call_ended_ns < stop.ended_ns
        if ended and is_unread and ended[-1]["opened_ns"] < stop.began_ns:
            ended[-1] = _until(ended[-1], min(stop.began_ns, ended[-1]["closed_ns"] or stop.began_ns))
    return ended


def _until(session: dict[str, Any], closed_ns: int) -> dict[str, Any]:
    """The record as if the session had been closed then."""
    responses = [each for each in session.get("responses", ()) if each["created_ns"] <= closed_ns]
    made = {each["id"] for each in responses}
    heard = max((size for at_ns, size in session.get("input_at", ()) if at_ns <= closed_ns), default=0)
    change: dict[str, Any] = {
        "closed_ns": closed_ns,
        "responses": responses,
        "items": [item for item in session.get("items", ()) if item["response_id"] in made],
        "speech": [
            each | {"stopped_ns": None if (each["stopped_ns"] or closed_ns + 1) > closed_ns else each["stopped_ns"]}
            for each in session.get("speech", ())
            if each["started_ns"] <= closed_ns
        ],
        "errors": [each for each in session.get("errors", ()) if each["at_ns"] <= closed_ns],
    }
    if session.get("input_b64") is not None and "input_at" in session:
        change["input_b64"] = b64encode(b64decode(session["input_b64"])[:heard]).decode()
    return session | change


class _Call:
    """One call and the acts that hit it."""

    def __init__(
        self, call: CallRecord, sessions: Sequence[dict[str, Any]], verdict: Verdict, account: Account
    ) -> None:
        self._call = call
        self._sessions = sessions
        self._verdict = verdict
        self._account = account
        truths = read_sessions(sessions)
        self._spoken = {each.truth.item_id: each for each in listen(call, truths)[0]}
        self._created_ns = {response.id: response.created_ns for truth in truths for response in truth.responses}
        # Items in whose silence the caller hung up.
        self._ended_in: set[str] = set()
        self._speech_ns = [speech.started_ns for truth in truths for speech in truth.speech]

    def problems(self) -> Iterator[str]:
        verdict = self._verdict
        if self._call.outcome != "hung-up-by-caller":
            yield f"the call ended as {self._call.outcome}{self._when(self._call.ended_ns)}"
        yield from self._broken_sockets()
        yield from self._damage_at_the_ear()
        yield from self._leftovers()
        yield from self._cuts()
        yield from self._answers()
        yield from self._history()
        for lack in forgotten(
            list(self._spoken.values()), self._sessions, self._lost_with_their_worker(), self._heard_from_ns()
        ):
            yield f"{lack.text}{self._when(lack.opened_ns)}"
        yield from self._inbound()
        yield from self._greeting()
        if verdict.cancels > 1:
            yield f"one response was cancelled {verdict.cancels} times"
        if verdict.cancel_not_active:
            yield f"{verdict.cancel_not_active} cancels hit nothing"
        if verdict.clears:
            yield f"{verdict.clears} clears"
        yield from self._errors()

    def _settle(self, damage: Damage, amount: float, from_ns: int, to_ns: int) -> float:
        """Note this damage; how much of it neither an act nor the carrier's own lateness explains."""
        self._account.note(damage, amount)
        left = self._account.settle(damage, amount, from_ns, to_ns)
        lags = [
            lag.late_ns / _MS for lag in self._call.lags if from_ns <= lag.at_ns and lag.at_ns - lag.late_ns <= to_ns
        ]
        share = min(left, sum(lags), LAG_MS) if damage in LATENESS else 0.0
        if share:
            self._account.excuse(damage, "the carrier was late", share)
        return left - share

    def _errors(self) -> Iterator[str]:
        for error in self._verdict.errors:
            at_ns = error.at_ns
            if error.code == ALREADY_ACTIVE:
                # A fresh session that is given a whole turn answers it by itself, just as it is asked to.
                fresh = (s for s in pairwise(self._sessions) if 0 <= at_ns - s[1]["opened_ns"] <= FRESH_NS)
                at_ns = next((before["closed_ns"] for before, _ in fresh), at_ns)
            if self._settle("error", 1, at_ns, at_ns):
                yield f"an error of the model, {error.code}{self._when(error.at_ns)}"

    def _broken_sockets(self) -> Iterator[str]:
        """Media sockets and sessions that ended before the call did, and what Twilio's debugger says about it."""
        for stream in self._call.streams[:-1]:
            if self._settle("lost socket", 1, stream.ended_ns, stream.ended_ns):
                yield f"a socket was lost{self._when(stream.ended_ns)}"
        ends = [session["closed_ns"] for session in self._sessions if session["closed_ns"] is not None]
        for closed_ns in ends:
            if closed_ns < self._call.ended_ns and self._settle("lost session", 1, closed_ns, closed_ns):
                yield f"a session ended{self._when(closed_ns)}"
        for warning in self._call.warnings:
            known = warning.code in (STREAM_CLOSED, STREAM_REFUSED, WEBHOOK_FAILED)
            if not known or self._settle("warning", 1, warning.at_ns, warning.at_ns):
                yield f"Twilio's debugger: {warning.code} {warning.text}{self._when(warning.at_ns)}"

    def _damage_at_the_ear(self) -> Iterator[str]:
        for each in self._verdict.damages:
            if left := self._settle(each.kind, each.size, each.at_ns, each.at_ns):
                what = {"twice": "heard twice", "order": "out of order"}.get(each.kind, each.kind)
                yield f"{left:.0f} bytes of speech were {what}{self._when(each.at_ns)}"
        for gap in self._verdict.gaps:
            until_ns = gap.at_ns + int(gap.ms * _MS)
            if left := self._settle("gap", gap.ms, gap.at_ns, until_ns):
                yield f"a gap of {gap.ms:.0f} ms, {left:.0f} of them unexplained{self._when(gap.at_ns)}"

    def _greeting(self) -> Iterator[str]:
        greeting = self._verdict.greeting
        if greeting is None or not greeting.is_breached:
            return
        missing_ms = greeting.protected_ms - greeting.heard_ms
        if left := self._settle("greeting", missing_ms, greeting.began_ns, greeting.began_ns + PROTECTED_NS):
            yield f"the greeting was interrupted after {greeting.heard_ms:.0f} ms, {left:.0f} too early"

    def _leftovers(self) -> Iterator[str]:
        for each in self._verdict.interruptions:
            if each.effective_ns is None or self._is_instant(each):
                continue
            until_ns = each.effective_ns + int(each.silence_ms * _MS)
            over_ms = each.leftover_ms(SILENCE_MS)
            if not over_ms:
                continue
            left = self._settle("leftover", over_ms, each.effective_ns - NEAR_NS, until_ns)
            # A socket that was read again while this was being made may be ahead of the ear until the AI is silent.
            made_ns = min(
                (self._created_ns.get(response, until_ns) for response in each.response_ids), default=until_ns
            )
            left = self._account.settle("leftover", left, made_ns - NEAR_NS, until_ns, only=("slow", "media"))
            if left:
                yield (
                    f"{over_ms:.0f} ms were heard later than {SILENCE_MS} ms after their interruption,"
                    f" {left:.0f} of them unexplained{self._when(each.effective_ns)}"
                )

    def _is_instant(self, each: Interruption) -> bool:
        """A process that stood still hands over what the caller said at once: begin, end and answer in one instant."""
        is_instant = any(
            0 <= each.at_ns - self._created_ns.get(response, 0) <= INSTANT_NS for response in each.response_ids
        )
        stood_still = [
            deed
            for deed in self._account.deeds
            if deed.act.kind in ("stop", "slow") and deed.ended_ns <= each.at_ns <= deed.ended_ns + NEAR_NS
        ]
        if not (is_instant and stood_still):
            return False
        self._account.note("instant turn", 1)
        self._account.excuse("instant turn", f"{stood_still[0].act.kind} {stood_still[0].act.target}", 1)
        return True

    def _cuts(self) -> Iterator[str]:
        """Items whose end was never heard: lost with their session, or given up by a caller who heard silence."""
        for cut in self._verdict.cuts:
            item = self._spoken[cut.item_id]
            missing_ms = cut.missing_bytes / BYTES_PER_MS
            closed_ns = item.closed_ns or self._call.ended_ns
            self._account.note("cut", missing_ms)
            left = self._account.settle("cut", missing_ms, closed_ns, closed_ns, most=self._unmade_ms(item))
            if left and not self._is_given_up(cut, left):
                yield f"{missing_ms:.0f} ms of {cut.item_id} never came, {left:.0f} unexplained{self._when(cut.at_ns)}"

    def _unmade_ms(self, item: Spoken) -> float:
        """How much of an item may have died with its session: what was made later than MADE_NS before its end."""
        made_ms = len(item.coverage) / BYTES_PER_MS
        closed_ns = item.closed_ns or self._call.ended_ns
        until_ns = item.response.done_ns or closed_ns
        began_ns = item.truth.first_delta_ns or item.response.created_ns
        return made_ms * min(1.0, max(0.0, (until_ns - closed_ns + MADE_NS) / max(1, until_ns - began_ns)))

    def _is_given_up(self, cut: Cut, missing_ms: float) -> bool:
        """Whether the caller spoke, or hung up, in the silence that an act explains."""
        for deed in self._account.near("gap", cut.at_ns, cut.due_ns):
            for at_ns in (self._call.ended_ns, *self._speech_ns):
                if cut.at_ns <= at_ns <= deed.ended_ns + NEAR_NS:
                    cause = f"the caller, in the silence of {deed.act.kind} {deed.act.target}"
                    self._account.excuse("cut", cause, missing_ms)
                    if at_ns == self._call.ended_ns:
                        self._ended_in.add(cut.item_id)
                    return True
        return False

    def _answers(self) -> Iterator[str]:
        for answer in self._verdict.answers:
            over_ms = answer.own_ms - LATE_MS
            until_ns = answer.at_ns + int(answer.ms * _MS)
            if over_ms > 0 and (left := self._settle("late answer", over_ms, answer.at_ns - NEAR_NS, until_ns)):
                yield (
                    f"an answer took {answer.own_ms:.0f} ms beyond the model's {answer.model_ms:.0f},"
                    f" {left:.0f} of them unexplained{self._when(answer.at_ns)}"
                )
        for at_ns in self._verdict.unanswered_ns:
            yield f"a turn got no answer{self._when(at_ns)}"

    def _history(self) -> Iterator[str]:
        for each in self._verdict.history:
            if not each.error_ms:
                continue
            item = self._spoken[each.item_id]
            from_ns = item.response.created_ns
            to_ns = item.ended_ns if item.heard else from_ns
            closed_ns = item.closed_ns
            if closed_ns is not None and closed_ns <= to_ns + UNTOLD_NS and closed_ns < self._call.ended_ns:
                # Its session was lost during it: `forgotten` compares what the successor was told instead.
                self._account.note("history", each.error_ms)
                self._account.excuse(
                    "history", "its session was lost: judged by what the successor was told", each.error_ms
                )
            elif each.item_id in self._ended_in or (item.withdrawn_ns or 0) > self._call.ended_ns - UNTOLD_NS:
                self._account.note("history", each.error_ms)
                self._account.excuse("history", "the end of the call", each.error_ms)
            elif left := self._settle("history", each.error_ms, from_ns, to_ns):
                yield (
                    f"the model holds {each.held_ms} ms of {each.item_id}, {each.heard_ms} were heard:"
                    f" {left:.0f} unexplained{self._when(to_ns)}"
                )

    def _lost_with_their_worker(self) -> set[int]:
        """The sessions whose worker died, or was stopped until another one took its calls."""
        return {
            number
            for number, session in enumerate(self._sessions)
            if session["closed_ns"] is not None
            and any(
                deed.act.target == "aibridge"
                for deed in self._account.near("lost session", session["closed_ns"], session["closed_ns"])
            )
        }

    def _heard_from_ns(self) -> dict[int, int]:
        """For each session, when the first bytes that it heard of the caller were sent."""
        if self._verdict.inbound is None:
            return {}
        begins: dict[int, int] = {}
        for each in self._verdict.inbound.heard:
            begins[each.session] = min(each.begin, begins.get(each.session, each.begin))
        return {session: self._call.sent_ns[begin // FRAME_BYTES] for session, begin in begins.items()}

    def _inbound(self) -> Iterator[str]:
        inbound = self._verdict.inbound
        if inbound is None:
            return
        for each in inbound.missing:
            until_ns = each.at_ns + int(each.ms * _MS)
            if left := self._settle("inbound", each.ms, each.at_ns, until_ns):
                yield (
                    f"{each.ms:.0f} ms of the caller reached no session, {left:.0f} unexplained{self._when(each.at_ns)}"
                )
        if inbound.repeated_bytes or inbound.invented_bytes:
            yield f"sessions heard {inbound.repeated_bytes} bytes twice, and {inbound.invented_bytes} of another caller"

    def _when(self, at_ns: int) -> str:
        """Where in the call that was, and the last act on the call before it."""
        at_s = f", {(at_ns - self._call.started_ns) / 1e9:.1f} s into the call"
        before = [deed for deed in self._account.deeds if deed.began_ns <= at_ns]
        if not before:
            return f"{at_s}, before any act"
        last = max(before, key=lambda deed: deed.began_ns)
        return f"{at_s}, {(at_ns - last.began_ns) / 1e9:.1f} s after {last.act} (at {last.act.at_s} s)"
