"""A call's line at txpacer, as this worker sees it: requested until txpacer answers, restored after a loss.

The ledger (core/utterances.py) keeps the speech of the line; this file decides what to send of it. Until txpacer has
answered, it is unknown whether the line exists, and speech waits.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from shared.audio import BYTE_NS, FRAME_BYTES
from shared.messages import (
    LineLost,
    LineState,
    OpenLine,
    PauseLine,
    PlayoutFinished,
    RestoreLine,
    ResumeLine,
    Speech,
    SpeechEnd,
    Withdraw,
    Withdrawn,
)

from .commands import EndSpeech, PauseSpeech, ResumeSpeech, WithdrawSpeech
from .conversation import Conversation
from .line_lost import given, heard_until
from .shell import Shell

# Speech is kept for this long after the ear has passed it: longer than the estimated ear can be wrong. The last speech
# of an unfinished utterance is kept, too: a line may hold it back while the model is slow.
PASSED_NS: Final = 1_000_000_000
# txpacer ends a pause by itself when this worker has not ended it by then.
PAUSE_SLACK_NS: Final = 250_000_000

LineCommand = EndSpeech | WithdrawSpeech | PauseSpeech | ResumeSpeech


class CallLine:
    """What the worker asks of txpacer for one call, and knows of its answers."""

    def __init__(self, shell: Shell, call: int, gateway: str, conversation: Conversation) -> None:
        self.call = call
        self.gateway = gateway
        self.handover = 0
        self._lead_ms = conversation.rules.own_lead_ms
        self._conversation = conversation
        self._shell = shell
        # How often the line was requested, and since when txpacer owes an answer (ns; 0: it owes none).
        self._asks = 0
        self.asked_ns = 0
        # Speech goes out at once: the line exists. After its first request, a line is assumed to exist.
        self._is_there = True
        # How far the frames had come when the line, or the media socket, was lost; None: neither was.
        self._lost: LineLost | None = None
        # The utterance that was being heard when this media socket began, and how many bytes of it were heard before.
        self.base = (0, 0)
        # The bytes of each open utterance, taken once in PASSED_NS: at `_spoken_ns`, and the time before.
        self._spoken_ns = 0
        self._spoken: dict[int, int] = {}
        self._spoken_before: dict[int, int] = {}

    def speak(self, utterance: int, data: bytes) -> None:
        if self._is_there:
            self._shell.to_pacer(Speech(self.call, utterance, data))

    def carry_out(self, command: LineCommand) -> None:
        match command:
            case EndSpeech(utterance):
                if self._is_there:
                    self._shell.to_pacer(SpeechEnd(self.call, utterance))
            case WithdrawSpeech(through, clear):
                self._shell.to_pacer(Withdraw(self.call, through, clear))
            case PauseSpeech():
                self._pause()
            case ResumeSpeech():
                self._shell.to_pacer(ResumeLine(self.call))

    def _pause(self) -> None:
        rules = self._conversation.rules
        at_most_ns = max(rules.early_ns, rules.confirm_ns) + PAUSE_SLACK_NS
        self._shell.to_pacer(PauseLine(self.call, at_most_ns // 1_000_000))

    # --- asking ---

    def ask(self) -> None:
        """Request the line. The answer says what the line holds."""
        self._count_ask()
        self._shell.to_pacer(OpenLine(self.call, self.gateway, self.handover, self._asks, self._lead_ms))

    def ask_again(self, epoch: int) -> list[PlayoutFinished | Withdrawn]:
        """txpacer has not answered. Its epoch is `epoch` now: it was restarted, or its answer is late."""
        if self._lost is not None:
            self._lost = structs.replace(self._lost, epoch=epoch)
            return self._restore(*given(self._conversation.utterances.open(), self._lost, self.base))
        # Whether later speech has arrived is unknown; the answer to this request tells.
        self._is_there = False
        self.ask()
        return []

    def _count_ask(self) -> None:
        self._asks += 1
        self.asked_ns = self._shell.now_ns

    def answered(self, state: LineState) -> bool:
        """txpacer has the line. Returns False for the answer to an earlier request, which is stale."""
        if state.ask != self._asks:
            return False  # more may have been said since that request
        self.asked_ns = 0
        was_there, self._is_there = self._is_there, True
        if not was_there:
            self._fill(state)
        return True

    def _fill(self, state: LineState) -> None:
        """Send the speech that the line lacks."""
        sizes = {number: size for number, size, *_ in state.unheard}
        playout = self._conversation.playout
        if playout.is_paused:
            self._pause()
        for utterance in self._conversation.utterances.open():
            number = utterance.number
            if playout.awaits_truth() and number <= playout.withdrawing_through:
                continue
            speech = utterance.rest(sizes.get(number, 0))
            if speech:
                self._shell.to_pacer(Speech(self.call, number, speech))
            if utterance.ended:
                self._shell.to_pacer(SpeechEnd(self.call, number))

    # --- losses ---

    def lost(self, lost: LineLost) -> list[PlayoutFinished | Withdrawn]:
        """txpacer was restarted: its new line continues after the last frame that the gateway was given."""
        self._lost = lost
        return self._restore(*given(self._conversation.utterances.open(), lost, self.base))

    def moved(self, epoch: int, heard_ns: int) -> list[PlayoutFinished | Withdrawn]:
        """The call has another media socket: the line continues where the caller's ear stopped, at `heard_ns`."""
        self._lost = LineLost(self.call, epoch, (), 0, 0, 0)
        self.base = (0, 0)
        open_utterances = self._conversation.utterances.open()
        ear_ns = self._conversation.playout.ear_clock_ns(heard_ns)
        return self._restore(*heard_until(open_utterances, ear_ns), is_moved=True)

    def _restore(
        self, paced: dict[int, int], finished: set[int], *, is_moved: bool = False
    ) -> list[PlayoutFinished | Withdrawn]:
        """Have the line restored. `paced` bytes of each open utterance have left; those in `finished` have left whole.

        The speech that the line lacks follows after its answer (`answered`). Returns the reports that the lost line did
        not send.
        """
        assert self._lost is not None
        playout, utterances = self._conversation.playout, list(self._conversation.utterances.open())
        withdrawing = playout.withdrawing_through if playout.awaits_truth() else 0
        gone = [u for u in utterances if u.number <= withdrawing or u.number in finished]
        rest = [u for u in utterances if u not in gone]
        head = offset = ear_ns = 0
        if rest:
            head = rest[0].number
            offset = max(paced[head], rest[0].kept_from)
            if offset and rest[0].ear_start_ns is not None:
                ear_ns = rest[0].ear_start_ns + offset * BYTE_NS
        if is_moved:
            self.base = (head, offset)
        self._is_there = False
        self._count_ask()
        epoch, seq = self._lost.epoch, self._lost.seq
        self._shell.to_pacer(
            RestoreLine(
                self.call, self.gateway, epoch, seq, head, offset, ear_ns, self.handover, self._asks, self._lead_ms
            )
        )
        now_ns = self._shell.now_ns
        reports: list[PlayoutFinished | Withdrawn] = [
            PlayoutFinished(self.call, u.number, now_ns) for u in gone if u.number > withdrawing
        ]
        if withdrawing:
            left = ((u.number, playout.heard_unanswered(u, paced[u.number])) for u in gone if u.number <= withdrawing)
            reports.append(Withdrawn(self.call, withdrawing, tuple(each for each in left if each[1]), now_ns))
        return reports

    def forget_heard(self, heard_ns: int) -> None:
        """Drop speech that the ear has long passed. Whether the ear went on after `heard_ns` is unknown."""
        if self._conversation.playout.is_paused or not self._is_there:
            return
        now_ns, utterances = self._shell.now_ns, self._conversation.utterances
        if now_ns - self._spoken_ns >= PASSED_NS:
            self._spoken_before, self._spoken = self._spoken, {u.number: u.spoken_bytes for u in utterances.open()}
            self._spoken_ns = now_ns
        for utterance in utterances.open():
            # An ear that waited for speech is not known to have waited until it plays again. So speech that is new can
            # look passed; and the last part of a frame waits for the rest of it.
            sent = self._spoken_before.get(utterance.number, 0) - FRAME_BYTES
            passed = utterance.estimate_heard(heard_ns - PASSED_NS, 0)
            utterance.forget_before(min(passed, sent, utterance.spoken_bytes - PASSED_NS // BYTE_NS))
