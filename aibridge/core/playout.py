"""What the caller hears, and the truth about it: the ledger, the record, and the model's conversation cut to both.

An utterance goes to the line as it comes and is heard seconds later. When it was interrupted, three things have to be
known before the model can be told: that txpacer paces no more of it, and how much it did (Withdrawn); and that the
server makes no more of it (response.done), because until then it may still append to the item. Whichever comes last
triggers the telling: the item under the playhead is truncated, later ones are deleted.

What a former session said, or a recording, is no audio item of this session. It was told as text, under an id of ours;
when less of it was heard than was told, it is told again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shared.audio import ms_of
from shared.messages import PlayoutShifted, PlayoutStarted, Withdrawn

from .barge_in import BargeIn
from .commands import Command, DeleteItem, EndSpeech, Speak, TellItem, TruncateItem, WithdrawSpeech
from .history import History, Interruption
from .ledger import Ledger, Utterance
from .metrics import ConversationMetrics
from .responses import Response, Responses
from .timers import Due, Timers

# txpacer answers a withdrawal within its tick of 10 ms. It may itself be frozen for as long as the gateway's socket
# waits for it; after this, the answer is taken from the ear's clock.
WITHDRAWN_NS: Final = 2_000_000_000


class Playout:
    """Moves the ledger by what txpacer reports, and appends to `commands` what follows from it."""

    def __init__(
        self,
        *,
        commands: list[Command],
        responses: Responses,
        history: History,
        timers: Timers,
        barge_in: BargeIn,
        lead_ns: int,
        metrics: ConversationMetrics,
    ) -> None:
        self._commands = commands
        self._responses = responses
        self._history = history
        self._timers = timers
        self._barge_in = barge_in
        self._lead_ns = lead_ns
        self._metrics = metrics
        self.ledger = Ledger()
        # The highest utterance of which a withdrawal was asked, and answered.
        self.withdrawing_through = 0
        self._withdrawn_through = 0
        # `clear`s asked for; marks of an earlier generation may have been thrown away by one.
        self._generation = 0
        # The interruption whose silence is not known yet, and when it took effect (later, if it was protected).
        self._interruption: Interruption | None = None
        self._effective_ns = 0
        # Which item of the current session stands for an utterance that it did not speak itself.
        self._told: dict[str, str] = {}
        self._told_count = 0
        # What we last told of each item, ms, for the server's confirmation.
        self._truncated_ms: dict[str, int] = {}
        # The last utterance of which something was heard.
        self._last_heard: Utterance | None = None

    # --- towards the line ---

    def speak(self, utterance: Utterance, data: bytes, now_ns: int) -> None:
        """Give audio to the line; of a response that says more than a line may hold, the rest is not said."""
        room = self.ledger.room_bytes(now_ns)
        excess = len(data) - room
        if excess > 0:
            data = data[: max(0, room)]
        if data:
            self.ledger.speak(utterance, len(data))
            self._commands.append(Speak(utterance.number, data))
        if excess > 0:
            self._metrics.excess_bytes.inc(excess)
            self.end(utterance)
            response = self._responses.get(utterance.response_id)
            if response is not None:
                response.interrupted = True  # and the model is told what was heard of it

    def begin(self, utterance: Utterance) -> None:
        """The first audio of an utterance came: those before it are complete, whatever their done events do."""
        for earlier in list(self.ledger.open()):
            if earlier.number < utterance.number:
                self.end(earlier)
        self._history.turn("ai", utterance.item_id)

    def end(self, utterance: Utterance) -> None:
        if not utterance.ended:
            utterance.ended = True
            self._commands.append(EndSpeech(utterance.number))
            if not utterance.spoken_bytes:
                self.silence(utterance)  # the line does not know of it

    def end_all(self, response_id: str | None = None) -> None:
        """No more audio comes of this response; None: of any."""
        for utterance in list(self.ledger.open()):
            if response_id in (None, utterance.response_id):
                self.end(utterance)

    def is_audible(self) -> bool:
        """Something is heard or waits to be heard, and was not withdrawn."""
        return self.ledger.is_open_after(self.withdrawing_through)

    def awaits_truth(self) -> bool:
        """txpacer has not answered a withdrawal yet."""
        return self._withdrawn_through < self.withdrawing_through

    def withdraw(self, at_ns: int, now_ns: int, *, protected: bool, cancelled: bool) -> None:
        """The caller interrupts, and began to speak at `at_ns`: take back what the line has not paced."""
        if not self.is_audible():
            self._note(Interruption(at_ns, at_ns, protected, cancelled))
            return
        for utterance in self.ledger.open():
            response = self._responses.get(utterance.response_id)
            if response is not None:
                response.interrupted = True
        self._interruption = Interruption(at_ns, at_ns, protected, cancelled)
        self._effective_ns = now_ns if protected else at_ns
        self.withdrawing_through = self.ledger.last
        self._timers.set(Due.WITHDRAWN, now_ns + WITHDRAWN_NS)
        clear = self._barge_in == "clear"
        self._generation += clear
        self._commands.append(WithdrawSpeech(self.ledger.last, clear))

    # --- from the line ---

    def started(self, report: PlayoutStarted) -> Utterance | None:
        utterance = self.ledger.get(report.utterance)
        if utterance is not None:
            utterance.ear_start_ns = report.ear_ns
            turn = self._history.find(utterance.item_id)
            if turn is not None and not turn.started_ns:
                turn.started_ns = report.ear_ns
        return utterance

    def shifted(self, report: PlayoutShifted) -> None:
        utterance = self.ledger.get(report.utterance)
        if utterance is not None and utterance.ear_start_ns is not None:
            utterance.ear_start_ns += report.gap_ns
            turn = self._history.find(utterance.item_id)
            if turn is not None:
                turn.gap_ns += report.gap_ns

    def finished(self, number: int, ear_ns: int) -> Utterance | None:
        """The ear has played an utterance to its end. None for one that a withdrawal has settled, which comes first."""
        utterance = self.ledger.get(number)
        if utterance is None or utterance.heard_bytes is not None:
            return None
        self._settle(utterance, utterance.spoken_bytes, ear_ns)
        response = self._responses.get(utterance.response_id)
        if response is not None:
            self.tell_truth(response)
        return utterance

    def withdrawn(self, answer: Withdrawn) -> None:
        if answer.through > self.withdrawing_through:
            self._metrics.illegal.inc()
            return
        self._withdrawn_through = max(self._withdrawn_through, answer.through)
        heard = dict(answer.paced)
        self._cut({u.number: heard.get(u.number, 0) for u in self.ledger.open() if u.number <= answer.through}, answer)

    def withdrawal_overdue(self, now_ns: int) -> None:
        """txpacer did not answer: it is gone. The ear's clock has to do."""
        if self.awaits_truth():
            self._metrics.unanswered_withdrawals.inc()
            self._withdrawn_through = through = self.withdrawing_through
            ahead_ns = self._lead_ns
            heard = {u.number: u.estimate_heard(now_ns, ahead_ns) for u in self.ledger.open() if u.number <= through}
            self._cut(heard, Withdrawn(0, through, (), now_ns + (ahead_ns if any(heard.values()) else 0)))

    def _cut(self, heard: dict[int, int], answer: Withdrawn) -> None:
        """The utterances of `heard` end here."""
        touched: dict[str, Response] = {}
        for number, n_bytes in heard.items():
            utterance = self.ledger.get(number)
            assert utterance is not None  # it is open
            self._settle(utterance, n_bytes, answer.silent_ns)
            response = self._responses.get(utterance.response_id)
            if response is not None:
                touched[response.id] = response
        for response in touched.values():
            self.tell_truth(response)
        if not self.awaits_truth():
            self._timers.cancel(Due.WITHDRAWN)
            if self._interruption is not None:
                noted, self._interruption = self._interruption, None
                self._note(replace(noted, silent_ns=max(noted.at_ns, answer.silent_ns)))
                self._metrics.silence.observe(max(0, answer.silent_ns - self._effective_ns) / 1e9)

    def mark(self, generation: int, number: int, at_ns: int) -> None:
        """Twilio says that it has played an utterance: compare that with our account."""
        utterance = self.ledger.get(number)
        if utterance is None or generation != self._generation:
            return
        utterance.mark_ns = at_ns
        self._observe_drift(utterance)

    def _observe_drift(self, utterance: Utterance) -> None:
        if utterance.mark_ns is not None and utterance.ear_end_ns is not None:
            self._metrics.mark_drift.observe(abs(utterance.mark_ns - utterance.ear_end_ns) / 1e9)

    def unheard(self) -> int:
        """The last utterance that the caller has not heard to its end; 0: all was heard."""
        return max((u.number for u in self.ledger.open()), default=0)

    def unconfirmed(self) -> int:
        """The last utterance that was heard and of which Twilio has not said so; 0: there is none."""
        last = self._last_heard
        return last.number if last is not None and last.mark_ns is None else 0

    # --- the truth ---

    def _note(self, interruption: Interruption) -> None:
        self._history.interruptions.append(interruption)

    def _settle(self, utterance: Utterance, heard_bytes: int, end_ns: int) -> None:
        if self.ledger.settle(utterance.number, heard_bytes) is None:
            return
        if utterance.heard_bytes:
            utterance.ear_end_ns = end_ns
            self._last_heard = utterance
            self._observe_drift(utterance)
        self.record(utterance.response_id, utterance.item_id)
        turn = self._history.find(utterance.item_id)
        if turn is not None:
            turn.ended_ns = end_ns
            turn.interrupted = utterance.cut

    def silence(self, utterance: Utterance) -> None:
        """An utterance of which nothing is spoken: it holds no audio, or only audio of a cancelled response."""
        self.ledger.settle(utterance.number, 0)

    def record(self, response_id: str, item_id: str) -> None:
        """Bring the record of an item up to what the ledger knows."""
        utterances = self.ledger.of_item(response_id, item_id)
        turn = self._history.find(item_id)
        if turn is None:
            return
        turn.received_bytes = sum(u.received_bytes for u in utterances)
        if all(u.heard_bytes is not None for u in utterances):
            turn.heard_bytes = sum(u.heard_bytes or 0 for u in utterances)

    def record_open(self) -> None:
        """Bring the record of what is not heard to its end up to what was made of it."""
        for utterance in self.ledger.open():
            self.record(utterance.response_id, utterance.item_id)

    def tell_truth(self, response: Response) -> None:
        """Cut the model's conversation to what was heard of an interrupted response, as far as that is known."""
        if not (response.interrupted and response.done):
            return
        for item_id in response.items:
            utterances = self.ledger.of_item(response.id, item_id)
            if item_id in response.told or any(u.heard_bytes is None for u in utterances):
                continue
            response.told.append(item_id)
            self.record(response.id, item_id)
            if response.lost:
                if any(u.cut for u in utterances):
                    self._tell_again(item_id)
            elif not any(ms_of(u.heard_bytes or 0) for u in utterances):
                self._commands.append(DeleteItem(item_id))
                self._metrics.deleted.inc()
            else:
                for utterance in utterances:
                    if utterance.cut or item_id in response.incomplete:
                        self._truncate(utterance)

    def _truncate(self, utterance: Utterance) -> None:
        heard_ms = ms_of(utterance.heard_bytes or 0)
        self._truncated_ms[utterance.item_id] = heard_ms
        self._commands.append(TruncateItem(utterance.item_id, utterance.content_index, heard_ms))
        self._metrics.truncated.inc()

    def _tell_again(self, item_id: str) -> None:
        """Less was heard than the current session was told."""
        told = self._told.get(item_id)
        turn = self._history.find(item_id)
        if told is None or turn is None:
            return
        if turn.heard_text:
            self._told[item_id] = self._new_id()
            self._commands.append(TellItem(self._told[item_id], turn.role, turn.heard_text, told))
        self._commands.append(DeleteItem(told))

    def confirm_truncated(self, item_id: str, audio_end_ms: int) -> None:
        """The server says where it cut: the history error, as far as it can be known from here."""
        ours_ms = self._truncated_ms.pop(item_id, None)
        if ours_ms is not None:
            self._metrics.history_error.observe(abs(ours_ms - audio_end_ms) / 1e3)

    # --- sessions ---

    def replay(self) -> None:
        """A fresh session: tell it what was said, of each turn what was heard or is going to be."""
        self._told.clear()
        self._truncated_ms.clear()
        self.record_open()
        for turn, text in self._history.replay():
            self._told[turn.item_id] = self._new_id()
            self._commands.append(TellItem(self._told[turn.item_id], turn.role, text))

    def _new_id(self) -> str:
        self._told_count += 1
        return f"told_{self._told_count:05d}"
