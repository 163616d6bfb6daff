"""Reads the record of a run of the nemesis: what happened to each call, and which act of harm may explain it.

Nothing is excused for its size alone. A gap, a leftover, a cut or a lost socket needs an act that can cause it, close
by; without one it is a broken promise, however short.

Pure, but for `check`, which reads the record's folder.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from simulator.carrier.call import CallRecord, StreamRecord

from .judge import Spoken, judge, listen, read_sessions
from .retold import forgotten
from .verdict import Cut, Interruption, Verdict

_MS: Final = 1_000_000
# What follows from an act begins while it lasts, or so soon afterwards.
NEAR_NS: Final = 1_000 * _MS
# What a dead process or a lost socket may cost, and what a stopped or unread one may cost beyond the time it was so.
DEATH_MS: Final = 1_000
WAKING_MS: Final = 300
# From an interruption to silence without any act: the lead, a frame, and the lateness of a machine that runs it all.
SILENCE_MS: Final = 240
# The kernels take so much of a socket that is not read (see RECEIVE_BUFFER_BYTES), and give it at once when it is read
# again: it is ahead of the ear then, which nobody can know, until the AI is silent.
UNREAD_MS: Final = 500
# Where exactly an ear stopped whose socket was lost, nobody can say: bytes heard twice or never for each loss, and what
# the model may be wrong about one item then.
LOSS_BYTES: Final = 2_400
LOSS_MS: Final = 300
# A worker that is stopped for longer than this loses its calls to another one (docs/failures.md).
HANDOVER_S: Final = 3.0
# No answer is made sooner after a turn: one that seems to be was not the interrupted one.
ANSWER_NS: Final = 50 * _MS
# A call that is refused began so soon after an act; more of them than this share are too many whatever the acts were.
REFUSED_NS: Final = 5_000 * _MS
REFUSED_SHARE: Final = 0.05


@dataclass(frozen=True)
class Act:
    """One piece of harm. `seconds` is how long a process is stopped, or a socket not read."""

    at_s: float
    kind: str  # "kill", "stop" of processes; "lose", "slow" of sockets
    target: str  # a process's name, or whose socket: "media", "model"
    which: int  # which one of several processes, or of the phones
    seconds: float = 0.0


@dataclass(frozen=True)
class Deed:
    """An act as it was carried out. `victims` are the calls that it hit: that the process held, or the socket's.

    `failure` says why nothing was done.
    """

    act: Act
    began_ns: int
    ended_ns: int
    victims: tuple[str, ...] = ()
    failure: str = ""

    @property
    def may_cost_ms(self) -> float:
        """The longest silence, or leftover, that it explains."""
        return self.act.seconds * 1_000 + WAKING_MS if self.act.seconds else DEATH_MS

    def is_near(self, from_ns: int, to_ns: int) -> bool:
        """Whether what happened in this time may follow from it."""
        return self.began_ns <= to_ns and from_ns <= self.ended_ns + NEAR_NS


# Who can cause what, as (kind, target). Speech that was made plays on without its worker: only a worker that is stopped
# before it has handed on what it reads leaves a gap.
_BREAKS_THE_SOCKET: Final = {("kill", "gateway"), ("lose", "media")}
_SILENCES: Final = {
    *_BREAKS_THE_SOCKET,
    ("stop", "gateway"),
    ("kill", "txpacer"),
    ("stop", "txpacer"),
    ("stop", "aibridge"),
    ("slow", "media"),
}
_DELAYS_SILENCE: Final = {*_SILENCES, ("kill", "aibridge"), ("lose", "model")}
_ENDS_THE_SESSION: Final = {("kill", "aibridge"), ("stop", "aibridge"), ("lose", "model")}
_BLURS_THE_EAR: Final = {*_BREAKS_THE_SOCKET, ("slow", "media")}


def check(folder: Path) -> list[str]:
    """What is wrong with a record, a sentence each; prints the figures."""
    problems: list[str] = list(msgspec.json.decode((folder / "left.json").read_bytes()))
    deeds = msgspec.json.decode((folder / "deeds.json").read_bytes(), type=list[Deed])
    figures: list[Verdict] = []
    losses = refused = 0
    for path in sorted(folder.glob("*.call")):
        call: CallRecord = pickle.loads(path.read_bytes())
        sessions = msgspec.json.decode(path.with_suffix(".sessions").read_bytes())
        verdict = judge(call, sessions)
        figures.append(verdict)
        refused += is_refused(call, verdict)
        losses += max(0, len(call.streams) - 1)
        problems += [f"{call.call_sid}: {problem}" for problem in problems_of(call, sessions, verdict, deeds)]
    if refused > REFUSED_SHARE * len(figures):
        problems.append(f"{refused} of {len(figures)} calls got the fallback")
    gaps = sorted(gap.ms for verdict in figures for gap in verdict.gaps)
    undone = sum(bool(deed.failure) for deed in deeds)
    print(
        f"{len(deeds)} acts, {undone} of which met nobody; "
        f"{len(figures) - refused} calls ({refused} more got the fallback), {losses} lost sockets,"
        f" {sum(v.speech_ms for v in figures) / 1_000:.0f} s of speech,"
        f" {len(gaps)} gaps"
        f" (the longest {gaps[-1] if gaps else 0:.0f} ms), {sum(v.lost_bytes for v in figures)} bytes lost,"
        f" {sum(v.doubled_bytes for v in figures)} heard twice, {sum(v.out_of_order_bytes for v in figures)} out of"
        f" order, {sum(v.invented_bytes for v in figures)} of no item of their call;"
        f" {sum(len(v.interruptions) for v in figures)} interruptions,"
        f" history error {max((v.history_error_ms for v in figures), default=0)} ms at most"
    )
    return problems


def is_refused(call: CallRecord, verdict: Verdict) -> bool:
    """It got the fallback and no conversation, as it should while too much is broken at the same time."""
    return verdict.first_audio_ms is None and any(verb.name == "Say" for verb in call.verbs)


def problems_of(
    call: CallRecord, sessions: Sequence[dict[str, Any]], verdict: Verdict, deeds: Iterable[Deed]
) -> list[str]:
    """What is wrong with one call and no act near it explains."""
    own = [deed for deed in deeds if not deed.failure and call.call_sid in deed.victims]
    if is_refused(call, verdict):
        at_ns = call.verbs[0].at_ns
        if any(deed.began_ns <= at_ns <= deed.ended_ns + REFUSED_NS for deed in own):
            return []
        return ["it got the fallback, and nothing had been broken"]
    return list(_Call(call, sessions, verdict, own).problems())


def lived(
    sessions: Sequence[dict[str, Any]], deeds: Sequence[Deed], call_ended_ns: int | None = None
) -> list[dict[str, Any]]:
    """The sessions, each until its worker was stopped if another one has opened the next before that woke.

    Likewise the last one, if the call was over before that. The socket is closed only then; but what came of it
    meanwhile was heard by nobody, and nobody cuts its history.
    """
    stops = [
        deed
        for deed in deeds
        if (deed.act.kind, deed.act.target) == ("stop", "aibridge") and deed.act.seconds >= HANDOVER_S
    ]
    ended = list(sessions)
    for number, (session, successor) in enumerate(pairwise(sessions)):
        for stop in stops:
            closed_ns = session["closed_ns"]
            if closed_ns is not None and stop.began_ns < successor["opened_ns"] < min(closed_ns, stop.ended_ns):
                ended[number] = session | {"closed_ns": stop.began_ns}
    for stop in stops:
        if ended and call_ended_ns is not None and stop.began_ns < call_ended_ns < stop.ended_ns:
            ended[-1] = ended[-1] | {"closed_ns": min(stop.began_ns, ended[-1]["closed_ns"] or stop.began_ns)}
    return ended


class _Call:
    """One call and the acts that could harm it."""

    def __init__(
        self, call: CallRecord, sessions: Sequence[dict[str, Any]], verdict: Verdict, deeds: Sequence[Deed]
    ) -> None:
        self._call = call
        self._sessions = sessions = lived(sessions, deeds, call.ended_ns)
        # What a worker that woke said to a session that was another's by then: nobody's turn.
        self._void_ns = {
            event["at_ns"]
            for session in sessions
            for event in session.get("events", ())
            if session.get("closed_ns") and event["at_ns"] > session["closed_ns"]
        }
        self._verdict = verdict
        self._deeds = deeds
        truths = read_sessions(sessions)
        self._spoken = {each.truth.item_id: each for each in listen(call, truths)[0]}
        self._created_ns = {response.id: response.created_ns for truth in truths for response in truth.responses}
        self._speech_ns = [speech.started_ns for truth in truths for speech in truth.speech]
        self._losses = max(0, len(call.streams) - 1)

    def problems(self) -> Iterator[str]:
        verdict = self._verdict
        if self._call.outcome != "hung-up-by-caller":
            yield f"the call ended as {self._call.outcome}{self._when(self._call.ended_ns)}"
        for stream in self._call.streams[:-1]:
            yield from self._lost(stream)
        if verdict.invented_bytes:
            yield f"{verdict.invented_bytes} bytes are of no item of this call"
        damage = verdict.lost_bytes + verdict.doubled_bytes + verdict.out_of_order_bytes
        if damage > self._losses * LOSS_BYTES:
            yield (
                f"{verdict.lost_bytes} bytes lost, {verdict.doubled_bytes} heard twice,"
                f" {verdict.out_of_order_bytes} out of order, with {self._losses} lost sockets"
            )
        for gap in verdict.gaps:
            allowed_ms = self._explained_ms(_SILENCES, gap.at_ns, gap.at_ns + int(gap.ms * _MS))
            if gap.ms > allowed_ms:
                yield f"a gap of {gap.ms:.0f} ms, of which {allowed_ms:.0f} are explained{self._when(gap.at_ns)}"
        yield from self._leftovers()
        for cut in verdict.cuts:
            if not self._is_explained(cut):
                yield f"{cut.missing_bytes // 8} ms of {cut.item_id} never came{self._when(cut.at_ns)}"
        for at_ns in sorted({*verdict.unanswered_ns} - self._void_ns):
            yield f"a turn got no answer{self._when(at_ns)}"
        yield from self._history()
        yield from forgotten(list(self._spoken.values()), self._sessions)

    def _lost(self, stream: StreamRecord) -> Iterator[str]:
        if not self._near(_BREAKS_THE_SOCKET, stream.ended_ns, stream.ended_ns):
            yield f"a socket was lost{self._when(stream.ended_ns)}"

    def _leftovers(self) -> Iterator[str]:
        for each in self._verdict.interruptions:
            if each.effective_ns is None or each.at_ns in self._void_ns:
                continue
            # A frozen gateway hands over what the caller said at once: begin, end and the answer in one instant.
            if any(each.at_ns - self._created_ns.get(response, 0) <= ANSWER_NS for response in each.response_ids):
                continue
            until_ns = each.effective_ns + int(each.silence_ms * _MS)
            limit_ms = SILENCE_MS + self._explained_ms(_DELAYS_SILENCE, each.effective_ns - NEAR_NS, until_ns)
            if self._was_unread(each):
                limit_ms += UNREAD_MS
            if left_ms := each.leftover_ms(limit_ms):
                yield (
                    f"{left_ms:.0f} ms were heard later than {limit_ms:.0f} ms after their interruption"
                    f"{self._when(each.effective_ns)}"
                )

    def _was_unread(self, interruption: Interruption) -> bool:
        """Whether what was interrupted had begun before this call's socket was read again."""
        began_ns = min((self._created_ns.get(each, 0) for each in interruption.response_ids), default=0)
        return any(
            (deed.act.kind, deed.act.target) == ("slow", "media")
            and began_ns <= deed.ended_ns <= interruption.at_ns
            for deed in self._deeds
        )

    def _history(self) -> Iterator[str]:
        for each in self._verdict.history:
            item = self._spoken[each.item_id]
            from_ns, to_ns = self._span(item)
            # A session that was lost in the midst of it believes nothing any more: `forgotten` looks at its successor.
            if item.closed_ns is not None and item.closed_ns <= to_ns + NEAR_NS:
                continue
            allowed_ms = LOSS_MS if self._near(_BLURS_THE_EAR, from_ns, to_ns) else 0
            if each.error_ms > allowed_ms:
                yield f"the model holds {each.held_ms} ms of an item, {each.heard_ms} were heard{self._when(to_ns)}"

    def _is_explained(self, cut: Cut) -> bool:
        """Whether its rest was lost with its session, or given up by a caller who spoke or hung up meanwhile."""
        from_ns, to_ns = self._span(self._spoken[cut.item_id])
        for deed in self._near(_ENDS_THE_SESSION, from_ns, to_ns):
            if not deed.act.seconds or deed.act.seconds >= HANDOVER_S:
                return True
        return any(
            cut.at_ns <= at_ns <= deed.ended_ns + NEAR_NS
            for deed in self._near(_SILENCES, cut.at_ns, cut.at_ns)
            for at_ns in (self._call.ended_ns, *self._speech_ns)
        )

    def _span(self, item: Spoken) -> tuple[int, int]:
        """From an item's making to its last sample at the ear."""
        return item.response.created_ns, item.ended_ns if item.heard else item.response.created_ns

    def _near(self, causes: set[tuple[str, str]], from_ns: int, to_ns: int) -> list[Deed]:
        return [
            deed for deed in self._deeds if (deed.act.kind, deed.act.target) in causes and deed.is_near(from_ns, to_ns)
        ]

    def _explained_ms(self, causes: set[tuple[str, str]], from_ns: int, to_ns: int) -> float:
        """How much silence, or surplus of speech, the acts near this time explain, or the carrier's own lateness."""
        lags = (lag for lag in self._call.lags if lag.at_ns - lag.late_ns <= to_ns and from_ns <= lag.at_ns)
        late = (lag.late_ns / _MS for lag in lags)
        return max([0.0, *late, *(deed.may_cost_ms for deed in self._near(causes, from_ns, to_ns))])

    def _when(self, at_ns: int) -> str:
        """The last act before that instant, for whoever looks for the cause."""
        before = [deed for deed in self._deeds if deed.began_ns <= at_ns]
        if not before:
            return ", before any act"
        last = max(before, key=lambda deed: deed.began_ns)
        act = last.act
        after_s = (at_ns - last.began_ns) / 1e9
        lasting = f" for {act.seconds} s" if act.seconds else ""
        return f", {after_s:.1f} s after {act.kind} {act.target}{lasting} (at {act.at_s} s)"
