"""All calls of a cell: the owner of each line, the requests of its worker, and the frames for each gateway."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.liveness import GATEWAY_GONE_S, ns
from shared.messages import (
    BridgeHello,
    CloseLine,
    Frames,
    GatewayHello,
    LineState,
    Message,
    OpenLine,
    PacerState,
    PathSamples,
    PathSeen,
    PauseLine,
    PlayoutFinished,
    PlayoutShifted,
    PlayoutStarted,
    RestoreLine,
    ResumeLine,
    Speech,
    SpeechEnd,
    Withdraw,
    Withdrawn,
)

from .call_path import CallPath
from .lead import Lead, start_lead
from .line import Line
from .metrics import LEADS, PacerMetrics
from .outlet import GRID_NS, Outlet
from .reports import CaughtUp, Cut, Finished, Report, Shifted, Started, Starved

GONE_NS = ns(GATEWAY_GONE_S)
# A new line starts from the leads of the live lines and of as many former ones.
FORMER_LINES = 8
# How often the lead that a long call would have needed is observed.
NEEDED_NS = 300_000_000_000


@dataclass(eq=False)
class _Call:
    """A line, the gateway that gets its frames, and the aibridge that owns it."""

    line: Line
    outlet: Outlet
    bridge: str
    path: CallPath
    # Since when the line's lead remembers what it would have needed.
    needed_since_ns: int
    # Its agent has a lead of its own, which says nothing about the path of other callers.
    has_own_lead: bool = False
    # How often the call had changed hands when `bridge` got it.
    handover: int = 0
    # The gaps so far, and where the frames of the last one were late.
    ear_gap_ns: int = 0
    gap_place: str = ""
    # Marks that were never echoed, and echoes of no known mark, as far as they are counted.
    odd_echoes: tuple[int, int] = (0, 0)


class Pacer:
    """Lines, ticks and acknowledgements; no clock, no socket. Times are ns of one monotonic clock.

    `lead_ns` must be a multiple of GRID_NS. `epoch` is another one at each start: all lines before it are lost.
    """

    def __init__(
        self, *, lead_ns: int, metrics: PacerMetrics, epoch: int = 1, min_ns: int = 0, max_ns: int = 0
    ) -> None:
        """Leads start at `lead_ns` and adapt between `min_ns` and `max_ns` (0: fixed)."""
        self._epoch = epoch
        self._lead_ns = lead_ns
        self._min_ns = min_ns or lead_ns
        self._max_ns = max_ns or lead_ns
        # The targets of lines that ended lately.
        self._former: deque[int] = deque(maxlen=FORMER_LINES)
        self._metrics = metrics
        metrics.lead_max.set(self._max_ns / 1e9)
        self._calls: dict[int, _Call] = {}
        self._outlets: dict[str, Outlet] = {}
        # Gaps that may yet prove longer, ns, and as they were at the last `measure`.
        self._gaps: dict[_Call, int] = {}
        self._gaps_before: dict[_Call, int] = {}
        # Calls whose path showed something since the last `measure`.
        self._news: dict[int, _Call] = {}
        # Reports by aibridge name, until they are taken.
        self._reports: dict[str, list[Message]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def reservoir_bytes(self) -> int:
        """Speech that is not paced yet, of all lines."""
        return sum(call.line.reservoir_bytes for call in self._calls.values())

    # --- messages ---

    def from_bridge(self, bridge: str, message: Any, now_ns: int) -> PacerState | None:
        """Carry out a message of BridgeToPacer. Returns the answer to a hello."""
        if type(message) is Speech and self._belongs_to(message.call, bridge):  # nearly every message
            self.speech(message.call, message.utterance, message.data, now_ns)
            return None
        if not isinstance(message, (BridgeHello, OpenLine, RestoreLine)) and not self._belongs_to(message.call, bridge):
            # The worker was stalled and given up; another worker owns its calls now.
            self._metrics.foreign.inc()
            return None
        match message:
            case SpeechEnd(call, utterance):
                self.end(call, utterance, now_ns)
            case Withdraw(call, through, clear):
                self.withdraw(call, through, clear, now_ns)
            case PauseLine(call, at_most_ms):
                self.pause(call, now_ns + at_most_ms * 1_000_000 if at_most_ms else 0, now_ns)
            case ResumeLine(call):
                self.resume(call, now_ns)
            case OpenLine(call, gateway, handover, ask, lead_ms):
                self.open(call, gateway, bridge, now_ns, handover=handover, ask=ask, lead_ms=lead_ms)
            case RestoreLine(epoch=epoch):
                if epoch == self._epoch:
                    self.restore(message, bridge, now_ns)
            case CloseLine(call):
                self.close(call)
            case BridgeHello():
                return PacerState(self._epoch, len(self))
        return None

    def from_gateway(self, gateway: str, message: Any, now_ns: int) -> PacerState | None:
        """Carry out a message of GatewayToPacer. Returns the answer to a hello."""
        match message:
            case CloseLine(call):
                self.close(call)
            case GatewayHello():
                self._outlet(gateway).hello(now_ns)
                return PacerState(self._epoch, len(self))
            case PathSeen(echoes, pings):
                self.path_seen(echoes, pings, now_ns)
            case _:
                place = "path" if message.stuck else "machine"
                self.acknowledge(gateway, message.batch, message.wire_ns, message.late, now_ns, place=place)
        return None

    # --- what aibridge asks ---

    def open(
        self,
        call: int,
        gateway: str,
        bridge: str,
        now_ns: int,
        *,
        handover: int = 0,
        ask: int = 0,
        lead_ms: tuple[int, int, int] | None = None,
    ) -> None:
        """A call started, or another worker took it over: `gateway` gets its frames now, `bridge` its reports.

        Opening a line again does no harm, and is answered again. A successor knows of no pause, so it ends one.
        `lead_ms` is OpenLine's, for a new line.
        """
        known = self._calls.get(call)
        if known is None:
            known = self._new(call, gateway, bridge, lead_ms, now_ns)
        elif handover < known.handover:
            self._metrics.foreign.inc()
            return
        else:
            known.outlet.remove(known.line)
            if handover > known.handover:
                known.line.resume()
                known.line.settle()
                self._collect(known)
            known.outlet, known.bridge = self._outlet(gateway), bridge
            known.outlet.place(known.line, now_ns)
        known.handover = handover
        line = known.line
        speech = tuple(line.unpaced()) if handover else ()
        self._report(known, LineState(call, tuple(line.unheard()), ask, speech))

    def _new(self, call: int, gateway: str, bridge: str, lead_ms: tuple[int, int, int] | None, now_ns: int) -> _Call:
        default_ns, min_ns, max_ns = self._lead_ns, self._min_ns, self._max_ns
        if lead_ms is not None:
            default_ns, min_ns, max_ns = (ms * 1_000_000 for ms in lead_ms)
        start_ns = start_lead([*self._targets(), *self._former], default_ns)
        is_known = bool(self._former)
        lead = Lead(start_ns, min_ns=min_ns, max_ns=max_ns, step_ns=GRID_NS, is_known=is_known)
        line = Line(lead, grid_ns=GRID_NS, call=call)
        known = self._calls[call] = _Call(
            line, self._outlet(gateway), bridge, CallPath(min_ns), now_ns, lead_ms is not None
        )
        return known

    def _targets(self) -> list[int]:
        return [each.line.lead.target_ns for each in self._calls.values() if not each.has_own_lead]

    def _belongs_to(self, call: int, bridge: str) -> bool:
        """Whether `bridge` owns the call's line: it opened the line last, or there is no line."""
        known = self._calls.get(call)
        return known is None or known.bridge == bridge

    def restore(self, asked: RestoreLine, bridge: str, now_ns: int) -> None:
        """Continue a call whose line, or media socket, is lost: a new line begins where the ear stopped.

        A line that is here stays: the message came twice, or the line was opened before its loss was known. A stalled
        worker, which had the call before, does not know where the ear is, and is ignored.
        """
        known = self._calls.get(asked.call)
        if known is None or asked.handover > known.handover:
            self.close(asked.call)
            line = self._new(asked.call, asked.gateway, bridge, asked.lead_ms, now_ns).line
            line.restore(seq=asked.seq, utterance=asked.utterance, paced_bytes=asked.paced_bytes, ear_ns=asked.ear_ns)
            self._metrics.restored.inc()
        self.open(asked.call, asked.gateway, bridge, now_ns, handover=asked.handover, ask=asked.ask)

    def speech(self, call: int, utterance: int, data: bytes, now_ns: int) -> None:
        known = self._calls.get(call)
        if known is None:
            self._metrics.refused_bytes.inc(len(data))
            return
        line = known.line
        refused = line.push(utterance, data)
        if refused:
            self._metrics.refused_bytes.inc(refused)
        if line.steady is None:  # otherwise the next deadline stays
            known.outlet.place(line, now_ns)

    def end(self, call: int, utterance: int, now_ns: int) -> None:
        known = self._calls.get(call)
        if known is not None:
            known.line.end(utterance)
            known.outlet.place(known.line, now_ns)

    def withdraw(self, call: int, through: int, clear: bool, now_ns: int) -> None:
        known = self._calls.get(call)
        if known is not None:
            known.line.withdraw(through, now_ns, clear=clear)
            self._collect(known)
            self._metrics.withdrawn.inc()
            known.outlet.place(known.line, now_ns)

    def pause(self, call: int, until_ns: int = 0, now_ns: int = 0) -> None:
        known = self._calls.get(call)
        if known is not None:
            known.line.pause(until_ns)
            known.outlet.place(known.line, now_ns)

    def resume(self, call: int, now_ns: int) -> None:
        known = self._calls.get(call)
        if known is not None:
            known.line.resume()
            known.outlet.place(known.line, now_ns)

    def close(self, call: int) -> None:
        """The call is over, and its speech is dropped. Closing it again is harmless."""
        known = self._calls.pop(call, None)
        self._news.pop(call, None)
        if known is not None:
            known.line.settle()
            self._collect(known)
            known.outlet.remove(known.line)
            if not known.has_own_lead:
                self._former.append(known.line.lead.target_ns)
            self._end_gap(known)
            self._metrics.call_ear_gap.observe(known.ear_gap_ns / 1e9)
            self._metrics.gaps_avoided.inc(known.path.ended())
            self._observe_echoes(known)
            self._observe_needed(known)

    # --- what the gateway says ---

    def acknowledge(
        self,
        gateway: str,
        batch: int,
        wire_ns: int,
        late: Sequence[tuple[int, int]],
        now_ns: int,
        *,
        place: str = "machine",
    ) -> None:
        """The gateway wrote `batch` and those before it; `late` names calls and their frames that left late.

        `place`: what made them late.
        """
        outlet = self._outlets.get(gateway)
        if outlet is None:
            return
        outlet.acknowledge(batch, now_ns)
        for call, seq in late:
            known = self._calls.get(call)
            if known is not None:
                known.line.wire_late(seq, wire_ns)
                self._collect(known, place=place)
                known.outlet.place(known.line, now_ns)
        outlet.release(now_ns)

    def path_seen(
        self, echoes: Sequence[tuple[int, int, int]], pings: Sequence[tuple[int, int, int]], now_ns: int
    ) -> None:
        """What the path of some calls showed; see PathSeen."""
        for call, round_trip_ns, at_ns in pings:
            known = self._calls.get(call)
            if known is not None:
                lead_ns = known.line.lead_ns
                delay_ns = known.line.pinged(round_trip_ns, at_ns)
                self._metrics.path_delay.observe(delay_ns / 1e9)
                if known.path.pinged(round_trip_ns, delay_ns, lead_ns):
                    self._metrics.gaps_avoided.inc()
                self._news[call] = known
        for call, seq, at_ns in echoes:
            known = self._calls.get(call)
            if known is not None:
                known.line.echoed(seq, at_ns)
                self._news[call] = known
                if known.line.steady is None:
                    self._collect(known, place="path")
                    known.outlet.place(known.line, now_ns)

    def refused(self, gateway: str, frames: Frames) -> None:
        """The socket did not take `frames`: keep them for `retry`, and pace nothing for that gateway meanwhile."""
        self._outlets[gateway].refused = frames

    def retry(self) -> list[tuple[str, Frames]]:
        """Batches that were refused. Each is given out once; refuse it again if the socket does."""
        found = []
        for outlet in self._outlets.values():
            if outlet.refused is not None:
                found.append((outlet.name, outlet.refused))
                outlet.refused = None
        return found

    # --- time ---

    def next_due_ns(self) -> int | None:
        """When `tick` next has something to do; None: nothing is scheduled. May lie in the past."""
        first_ns: int | None = None
        for outlet in self._outlets.values():
            due_ns = outlet.next_due_ns()
            if due_ns is not None and (first_ns is None or due_ns < first_ns):
                first_ns = due_ns
        return first_ns

    def tick(self, now_ns: int) -> list[tuple[str, Frames]]:
        """Batches to send now, one for each gateway that has something due."""
        batches = []
        for outlet in self._outlets.values():
            frames, asked = outlet.tick(now_ns)
            for line in asked:
                if line.reports:
                    self._collect(self._calls[line.call])
            if frames is not None:
                batches.append((outlet.name, frames))
        return batches

    def take_reports(self) -> list[tuple[str, list[Message]]]:
        """What the aibridges shall know, by name; given out once."""
        if not self._reports:
            return []
        taken = list(self._reports.items())
        self._reports = {}
        return taken

    def measure(self, now_ns: int) -> list[tuple[str, PathSamples]]:
        """Bring the gauges up to date and forget gateways that are gone; for once a second.

        Returns what changed on the paths of the calls, for the gateway of each.
        """
        metrics = self._metrics
        for call, gap_ns in self._gaps_before.items():
            if self._gaps.get(call) == gap_ns:
                self._end_gap(call)
        self._gaps_before = self._gaps.copy()
        silent = [outlet for outlet in self._outlets.values() if now_ns - outlet.heard_ns > GONE_NS]
        if silent:
            in_use = {call.outlet.name for call in self._calls.values()}
            for outlet in silent:
                if outlet.name not in in_use:
                    outlet.lose_batches()
                    del self._outlets[outlet.name]
        outlets = self._outlets.values()
        targets = sorted(self._targets()) or [start_lead(self._former, self._lead_ns)]
        for which, target_ns in zip(LEADS, (targets[0], targets[len(targets) // 2], targets[-1]), strict=True):
            metrics.leads[which].set(target_ns / 1e9)
        metrics.lines.set(len(self._calls))
        metrics.reservoir_bytes.set(self.reservoir_bytes)
        metrics.held_lines.set(sum(outlet.held_lines for outlet in outlets))
        metrics.unacknowledged.set(sum(outlet.unacknowledged for outlet in outlets))
        return [(gateway, PathSamples(tuple(samples))) for gateway, samples in self._sample(now_ns).items()]

    # --- inside ---

    def _sample(self, now_ns: int) -> dict[str, list[tuple[int, int, int, int, int]]]:
        """The samples of the paths that showed something, by gateway."""
        found: dict[str, list[tuple[int, int, int, int, int]]] = {}
        ongoing: dict[int, _Call] = {}
        for number, call in self._news.items():
            self._observe_echoes(call)
            if now_ns - call.needed_since_ns >= NEEDED_NS:
                call.needed_since_ns = now_ns
                self._observe_needed(call)
            sample = call.path.sample(call.line.lead_ns)
            if sample is not None:
                found.setdefault(call.outlet.name, []).append((number, *sample))
                if sample.delay_ms or sample.gap_ms:
                    ongoing[number] = call  # so that its end makes a sample, even in silence
        self._news = ongoing
        return found

    def _observe_echoes(self, call: _Call) -> None:
        odd = call.line.odd_echoes
        if odd != call.odd_echoes:
            self._metrics.marks_unechoed.inc(odd[0] - call.odd_echoes[0])
            self._metrics.echoes_strange.inc(odd[1] - call.odd_echoes[1])
            call.odd_echoes = odd

    def _observe_needed(self, call: _Call) -> None:
        lead = call.line.lead
        if lead.needed_ns:
            self._metrics.lead_needed.observe(lead.needed_ns / 1e9)
            self._metrics.lead_short.inc(lead.needed_ns > lead.max_ns)
            lead.needed_ns = 0

    def _outlet(self, gateway: str) -> Outlet:
        outlet = self._outlets.get(gateway)
        if outlet is None:
            outlet = Outlet(gateway, lead_ns=self._lead_ns, metrics=self._metrics)
            self._outlets[gateway] = outlet
        return outlet

    def _collect(self, call: _Call, *, place: str = "machine") -> None:
        """Count what the line reports, and pass on what its aibridge has to know. `place`: of a gap among it."""
        number = call.line.call
        for report in call.line.reports:
            self._count(call, report, place)
            if isinstance(report, Started):
                self._report(call, PlayoutStarted(number, report.utterance, report.ear_ns))
            elif isinstance(report, Shifted):
                gap_ns, audible, continued = report.gap_ns, report.audible, report.continued
                self._report(call, PlayoutShifted(number, report.utterance, gap_ns, audible, continued))
            elif isinstance(report, Finished):
                self._report(call, PlayoutFinished(number, report.utterance, report.ear_ns))
            elif isinstance(report, Cut):
                self._report(call, Withdrawn(number, report.through, report.heard_bytes, report.silent_ns))
        call.line.reports.clear()

    def _count(self, call: _Call, report: Report, place: str) -> None:
        metrics = self._metrics
        if isinstance(report, Shifted) and report.audible:
            call.ear_gap_ns += report.gap_ns
            call.path.gap(report.gap_ns, call.line.lead_ns + report.gap_ns if place == "path" else 0)
            self._news[call.line.call] = call
            if not report.continued:
                self._end_gap(call)
                metrics.reanchored.inc()
            if call not in self._gaps:
                call.gap_place = place
            self._gaps[call] = self._gaps.get(call, 0) + report.gap_ns
        elif isinstance(report, Starved):
            metrics.starved.inc()
        elif isinstance(report, CaughtUp):
            metrics.caught_up.inc()
        elif isinstance(report, Cut) and report.is_estimate:
            metrics.clears_unanswered.inc()

    def _end_gap(self, call: _Call) -> None:
        gap_ns = self._gaps.pop(call, 0)
        if gap_ns:
            self._metrics.ear_gap[call.gap_place].observe(gap_ns / 1e9)

    def _report(self, call: _Call, message: Message) -> None:
        self._reports.setdefault(call.bridge, []).append(message)
