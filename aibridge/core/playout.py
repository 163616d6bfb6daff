"""What the caller hears: speech goes to the line, and txpacer reports how much of it is heard.

The line is a region of its own. A withdrawal takes back the speech that the line has not paced. txpacer answers with
the bytes of each utterance that it had paced, and the caller hears all of them. Until then it is unknown what was
heard.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final

from shared import liveness
from shared.messages import PlayoutShifted, PlayoutStarted, Withdrawn

from .barge_in import BargeIn
from .chart import Chart, Table, becomes, stays
from .commands import Command, EndSpeech, PauseSpeech, ResumeSpeech, Speak, WithdrawSpeech
from .history import History, Interruption
from .metrics import ConversationMetrics
from .near_ear.played import Played
from .responses import Response, Responses, TruthEvent
from .timers import Due, Timers
from .truncate_to_heard import TruthTeller
from .utterances import Utterance, Utterances


class LineState(Enum):
    FLOWING = auto()
    PAUSED = auto()
    WITHDRAWING = auto()  # txpacer has not answered a withdrawal yet
    WITHDRAWING_PAUSED = auto()


class LineEvent(Enum):
    PAUSE = auto()
    RESUME = auto()
    WITHDRAW = auto()
    ANSWERED = auto()  # by txpacer, or after WITHDRAWN_S by the ear's clock


class LineAct(Enum):
    PAUSE = auto()
    RESUME = auto()
    WITHDRAW = auto()


# The ear holds at least this much when the line is paused: no lead is shorter.
LEAST_LEAD_NS: Final = 40_000_000

LINE_TABLE: Final[Table[LineState, LineEvent, LineAct]] = {
    (LineState.FLOWING, LineEvent.PAUSE): (LineState.PAUSED, (LineAct.PAUSE,)),
    (LineState.WITHDRAWING, LineEvent.PAUSE): (LineState.WITHDRAWING_PAUSED, (LineAct.PAUSE,)),
    (LineState.PAUSED, LineEvent.RESUME): (LineState.FLOWING, (LineAct.RESUME,)),
    (LineState.WITHDRAWING_PAUSED, LineEvent.RESUME): (LineState.WITHDRAWING, (LineAct.RESUME,)),
    # A withdrawal ends a pause by itself.
    **becomes(LineState, LineEvent.WITHDRAW, LineState.WITHDRAWING, LineAct.WITHDRAW),
    (LineState.WITHDRAWING, LineEvent.ANSWERED): (LineState.FLOWING, ()),
    (LineState.WITHDRAWING_PAUSED, LineEvent.ANSWERED): (LineState.PAUSED, ()),
    **stays((LineState.FLOWING, LineState.WITHDRAWING), LineEvent.RESUME),
    # Another reason to pause lasts longer.
    (LineState.PAUSED, LineEvent.PAUSE): (LineState.PAUSED, (LineAct.PAUSE,)),
    (LineState.WITHDRAWING_PAUSED, LineEvent.PAUSE): (LineState.WITHDRAWING_PAUSED, (LineAct.PAUSE,)),
    # The answer to an earlier withdrawal already covered this one.
    **stays((LineState.FLOWING, LineState.PAUSED), LineEvent.ANSWERED),
}


class Playout:
    """The region of the line, and its bookings. Methods return the commands that follow."""

    def __init__(
        self,
        *,
        utterances: Utterances,
        played: Played,
        responses: Responses,
        history: History,
        truth: TruthTeller,
        timers: Timers,
        barge_in: BargeIn,
        lead_ns: int,
        metrics: ConversationMetrics,
    ) -> None:
        self.chart = Chart(LINE_TABLE, LineState.FLOWING, metrics.illegal)
        self.utterances = utterances
        self._played = played
        self._responses = responses
        self._history = history
        self._truth = truth
        self._timers = timers
        self._barge_in = barge_in
        self._lead_ns = lead_ns
        self._metrics = metrics
        # The highest utterance of a withdrawal, and when it was asked for.
        self.withdrawing_through = 0
        self._withdrawn_ns = 0
        # Since when the line has been paused, or was when it was withdrawn; 0: it paces.
        self._paused_ns = 0
        # `clear`s so far; a `clear` may have discarded the audio of marks of an earlier generation.
        self._generation = 0
        # The interruption whose silence is not known yet, and when it took effect (later than it began, if it waited).
        self._interruption: Interruption | None = None
        self._effective_ns = 0
        # The last utterance that was heard, at least in part.
        self._last_heard: Utterance | None = None

    # --- towards the line ---

    def begin(self, utterance: Utterance, response: Response) -> list[Command]:
        """The first audio of an utterance came: all utterances before it are complete."""
        response.utterances.append(utterance.number)
        commands = [
            command
            for earlier in list(self.utterances.open())
            if earlier.number < utterance.number
            for command in self.end(earlier)
        ]
        self._history.begin_utterance(utterance)
        return commands

    def speak(self, utterance: Utterance, data: bytes, now_ns: int) -> list[Command]:
        """Give audio to the line. A response that exceeds what a line may hold loses the rest."""
        room = self.utterances.room_bytes(now_ns)
        if len(data) <= room:
            self.utterances.speak(utterance, data)
            return [Speak(utterance.number, data)]
        commands: list[Command] = []
        self._metrics.excess_bytes.inc(len(data) - max(0, room))
        if room > 0:
            self.utterances.speak(utterance, data[:room])
            commands.append(Speak(utterance.number, data[:room]))
        response = self._responses.get(utterance.response)
        if response is not None:
            response.truth.step(TruthEvent.INTERRUPTED)  # the model is told what was heard of it
        return commands + self.end(utterance)

    def end(self, utterance: Utterance) -> list[Command]:
        if utterance.ended:
            return []
        utterance.ended = True
        if not utterance.spoken_bytes:
            self.silence(utterance)  # the line does not know of it
        return [EndSpeech(utterance.number)]

    def end_all(self, response: int | None = None) -> list[Command]:
        """No more audio comes of this response; None: of any."""
        return [
            command
            for utterance in list(self.utterances.open())
            if response in (None, utterance.response)
            for command in self.end(utterance)
        ]

    def silence(self, utterance: Utterance) -> None:
        """The utterance is not spoken: it has no audio, or only audio of a cancelled response."""
        self.utterances.settle(utterance.number, 0, 0)

    def is_audible(self) -> bool:
        """Something is heard or waits to be heard, and was not withdrawn."""
        return self.utterances.last_open() > self.withdrawing_through

    def awaits_truth(self) -> bool:
        """txpacer has not answered a withdrawal yet."""
        return self.chart.state in (LineState.WITHDRAWING, LineState.WITHDRAWING_PAUSED)

    @property
    def is_paused(self) -> bool:
        return self.chart.state in (LineState.PAUSED, LineState.WITHDRAWING_PAUSED)

    def ear_clock_ns(self, at_ns: int) -> int:
        """The ear's clock, which stands while the line is paused. It may be up to the lead slow then."""
        return min(at_ns, self._paused_ns + LEAST_LEAD_NS) if self._paused_ns else at_ns

    def step(self, event: LineEvent, now_ns: int) -> list[Command]:
        """Pause or resume the line, or take back what it has not paced."""
        commands: list[Command] = []
        for act in self.chart.step(event):
            match act:
                case LineAct.PAUSE:
                    self._paused_ns = self._paused_ns or now_ns
                    self._played.paused(self._paused_ns + self._lead_ns)
                    commands.append(PauseSpeech())
                case LineAct.RESUME:
                    self._flows()
                    commands.append(ResumeSpeech())
                case LineAct.WITHDRAW:
                    clear = self._barge_in == "clear" and self._interruption is not None
                    self._generation += clear
                    commands.append(WithdrawSpeech(self.withdrawing_through, clear))
        return commands

    def _flows(self) -> None:
        self._paused_ns = 0
        self._played.resumed()

    def interrupt(
        self, at_ns: int, now_ns: int, *, onset_ns: int = 0, protected: bool, cancelled: bool
    ) -> list[Command]:
        """The caller interrupts, as the model reported at `at_ns`: withdraw the unpaced speech, if there is any.

        `onset_ns`: the caller's first sound; 0: unknown.
        """
        interruption = Interruption(at_ns, at_ns, protected, cancelled, onset_ns, self._paused_ns)
        if not self.is_audible():
            self._history.interruptions.append(interruption)
            return []
        self._interruption = interruption
        self._effective_ns = now_ns if protected else at_ns
        touched = {utterance.response for utterance in self.utterances.open()}
        commands = self.withdraw(now_ns)
        for number in touched:
            response = self._responses.get(number)
            if response is not None and response.truth.step(TruthEvent.INTERRUPTED):
                commands += self._truth.tell(response)
        return commands

    def withdraw(self, now_ns: int) -> list[Command]:
        """Take back all speech that the line has not paced."""
        self.withdrawing_through, self._withdrawn_ns = self.utterances.last_open(), now_ns
        self._timers.set(Due.WITHDRAWN, now_ns + liveness.ns(liveness.WITHDRAWN_S))
        for utterance in self.utterances.open():
            self._played.withdrawn(utterance, now_ns + self._lead_ns)
            utterance.kept.clear()
        return self.step(LineEvent.WITHDRAW, now_ns)

    # --- from the line ---

    def started(self, report: PlayoutStarted) -> Utterance | None:
        utterance = self.utterances.get(report.utterance)
        if utterance is not None:
            if utterance.began_ns:
                # A new line paces it again: the ear has waited since.
                utterance.gap_ns = report.ear_ns - utterance.began_ns
            else:
                utterance.began_ns = report.ear_ns
            self._history.of_utterance(utterance.number)
        return utterance

    def shifted(self, report: PlayoutShifted) -> None:
        utterance = self.utterances.get(report.utterance)
        if utterance is not None and utterance.began_ns:
            utterance.gap_ns += report.gap_ns
            self._history.of_utterance(utterance.number)

    def finished(self, number: int, ear_ns: int) -> list[Command]:
        """The ear has played an utterance to its end. A withdrawal that has settled it comes first."""
        utterance = self.utterances.get(number)
        if utterance is None or utterance.heard_bytes is not None:
            return []
        self._settle(utterance, utterance.spoken_bytes, ear_ns)
        response = self._responses.get(utterance.response)
        return self._truth.tell(response) if response is not None else []

    def withdrawn(self, answer: Withdrawn) -> list[Command]:
        if answer.through > self.withdrawing_through:
            self._metrics.illegal.inc()
            return []
        heard = dict(answer.paced)
        settled = [u for u in self.utterances.open() if u.number <= answer.through]
        return self._cut({u: heard.get(u.number, 0) for u in settled}, answer)

    def withdrawal_overdue(self, now_ns: int) -> list[Command]:
        """txpacer did not answer, so it is gone: use the ear's clock."""
        if not self.awaits_truth():
            return []
        self._metrics.unanswered_withdrawals.inc()
        through, ahead_ns = self.withdrawing_through, self._lead_ns
        paced_ns = self._paused_ns or now_ns
        heard = {
            u: self.heard_unanswered(u, u.estimate_heard(paced_ns, ahead_ns))
            for u in self.utterances.open()
            if u.number <= through
        }
        return self._cut(heard, Withdrawn(0, through, (), paced_ns + (ahead_ns if any(heard.values()) else 0)))

    def heard_unanswered(self, utterance: Utterance, paced_bytes: int) -> int:
        """What is heard of an utterance that is withdrawn without an answer: all that was paced, or what preceded the
        `clear`, by the ear's clock."""
        if self._barge_in != "clear":
            return paced_bytes
        return min(paced_bytes, utterance.estimate_heard(self.ear_clock_ns(self._withdrawn_ns), 0))

    def _cut(self, heard: dict[Utterance, int], answer: Withdrawn) -> list[Command]:
        """The utterances of `heard` end here."""
        touched: dict[int, Response] = {}
        for utterance, n_bytes in heard.items():
            self._settle(utterance, n_bytes, answer.silent_ns)
            response = self._responses.get(utterance.response)
            if response is not None:
                touched[response.number] = response
        commands: list[Command] = []
        for response in touched.values():
            commands += self._truth.tell(response)
        if answer.through >= self.withdrawing_through:
            self.step(LineEvent.ANSWERED, answer.silent_ns)
            if not self.is_paused:
                self._flows()
            self._timers.cancel(Due.WITHDRAWN)
            if self._interruption is not None:
                noted, self._interruption = self._interruption, None
                self._history.interruptions.append(replace(noted, silent_ns=answer.silent_ns))
                if noted.onset_ns and not noted.protected:
                    self._metrics.onset_to_silence.observe(max(0, answer.silent_ns - noted.onset_ns) / 1e9)
                self._metrics.silence.observe(max(0, answer.silent_ns - self._effective_ns) / 1e9)
        return commands

    def mark(self, generation: int, number: int, at_ns: int) -> None:
        """Twilio has played an utterance: compare that with txpacer's account."""
        utterance = self.utterances.get(number)
        if utterance is None or generation != self._generation:
            return
        utterance.mark_ns = at_ns
        self._observe_drift(utterance)

    def _observe_drift(self, utterance: Utterance) -> None:
        if utterance.mark_ns is not None and utterance.heard_bytes and utterance.settled_ns is not None:
            self._metrics.mark_drift.observe(abs(utterance.mark_ns - utterance.settled_ns) / 1e9)

    def unconfirmed(self) -> int:
        """The last utterance that was heard without Twilio's confirmation; 0: there is none.

        Twilio confirms nothing that a `clear` threw away.
        """
        last = self._last_heard
        if last is None or last.mark_ns is not None or (last.cut and self._barge_in == "clear"):
            return 0
        return last.number

    def _settle(self, utterance: Utterance, heard_bytes: int, end_ns: int) -> None:
        self._played.settled(utterance, heard_bytes)
        if self.utterances.settle(utterance.number, heard_bytes, end_ns) is None:
            return
        if utterance.heard_bytes:
            self._last_heard = utterance
            self._observe_drift(utterance)
        self._history.of_utterance(utterance.number)
