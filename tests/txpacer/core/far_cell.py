"""One line, a bad path and Twilio's playout buffer in virtual time: speech in, what the caller hears out."""

from __future__ import annotations

from dataclasses import replace

from shared.audio import BYTES_PER_MS, FRAME_BYTES
from shared.messages import CLEAR, PROGRESS, Message, PlayoutShifted, Withdrawn
from shared.metrics import Page
from simulator.carrier.ear import Ear
from simulator.network.path import Path, PathBehaviour
from simulator.network.tcp import TcpStream
from txpacer.core.metrics import DEFINITIONS, PacerMetrics
from txpacer.core.pacer import Pacer

MS = 1_000_000
T0 = 1_000_000 * MS
CALL = 7
# A frame is 280 bytes on the wire. Frames that are written together share segments of 1,448 bytes.
SEGMENT_BYTES = 5 * FRAME_BYTES


class FarCell:
    """`run` moves the clock. Twilio's echoes are punctual, unless they are late by `echo_late_ms`, missing
    (`drop_echoes`), doubled (`double_echoes`) or held back until the next multiple of `burst_ms`.

    `answers_pings`: the peer answers WebSocket pings, which go out with bursts, with the end of an utterance, and with
    frames `ping_ms` apart.
    """

    def __init__(
        self,
        behaviour: PathBehaviour | None = None,
        *,
        lead_ms: tuple[int, int, int] = (120, 60, 180),
        seed: int = 1,
        ping_ms: int = 100,
        answers_pings: bool = True,
    ) -> None:
        start, least, most = (each * MS for each in lead_ms)
        self.pacer = Pacer(lead_ns=start, min_ns=least, max_ns=most, metrics=PacerMetrics(Page.in_memory(DEFINITIONS)))
        self.now_ns = T0
        behaviour = behaviour or PathBehaviour(delay_ms=30)
        self.back_ns = int(behaviour.delay_ms * MS)
        self.path = Path(behaviour, seed=seed, began_ns=T0)
        self.stream = TcpStream(self.path, return_ns=self.back_ns)
        self.ear = Ear()
        self.echo_late_ms = 0
        self.drop_echoes = self.double_echoes = False
        self.burst_ms = 1
        self.ping_ms = ping_ms
        self.answers_pings = answers_pings
        self.reports: list[Message] = []
        self.leads_ms: list[int] = []
        self._pinged_ns = 0
        self._echoes: list[tuple[int, int]] = []
        self._pongs: list[tuple[int, int]] = []
        self.pacer.open(CALL, "gateway", "bridge", self.now_ns)

    def say(self, utterance: int, ms: int, *, end: bool = True) -> None:
        self.pacer.speech(CALL, utterance, bytes([utterance]) * (ms * BYTES_PER_MS), self.now_ns)
        if end:
            self.pacer.end(CALL, utterance, self.now_ns)

    def run(self, ms: int, *, step_ms: int = 1) -> None:
        end_ns = self.now_ns + ms * MS
        while self.now_ns < end_ns:
            self.now_ns += step_ms * MS
            self._step()

    def lengthen_path(self, *, towards_ms: int, back_ms: int) -> None:
        """From now on, everything takes so much longer to the ear, and back from it."""
        behaviour = self.path.behaviour
        self.path.behaviour = replace(behaviour, delay_ms=behaviour.delay_ms + towards_ms)
        self.back_ns += back_ms * MS

    def _step(self) -> None:
        now_ns = self.now_ns
        for _, frames in self.pacer.tick(now_ns):
            for _, seq, audio, mark in frames.entries:
                for at in range(0, len(audio), SEGMENT_BYTES):
                    self.stream.send(b"A" + audio[at : at + SEGMENT_BYTES], now_ns)
                if mark == CLEAR:
                    self.stream.send(b"C", now_ns)
                elif mark:
                    self.stream.send(b"M%d" % (seq + len(audio) // FRAME_BYTES), now_ns)
                is_end = mark not in (0, PROGRESS, CLEAR)
                if len(audio) > FRAME_BYTES or is_end or (audio and now_ns - self._pinged_ns >= self.ping_ms * MS):
                    self._pinged_ns = now_ns
                    self.stream.send(b"P%d" % now_ns, now_ns)
            self.pacer.acknowledge("gateway", frames.batch, now_ns, (), now_ns)
        for data in self.stream.advance(now_ns):
            self._arrive(data)
        self._echo(self.ear.advance(now_ns))
        echoes = tuple((CALL, seq, at) for seq, at in self._echoes if at <= now_ns)
        self._echoes = [each for each in self._echoes if each[1] > now_ns]
        pings = tuple((CALL, at - sent, at) for sent, at in self._pongs if at <= now_ns)
        self._pongs = [each for each in self._pongs if each[1] > now_ns]
        if echoes or pings:
            self.pacer.path_seen(echoes, pings, now_ns)
        for _, messages in self.pacer.take_reports():
            self.reports += messages
        self.leads_ms.append(self.pacer._calls[CALL].line.lead_ns // MS)

    def _arrive(self, data: bytes) -> None:
        kind, rest = data[:1], data[1:]
        if kind == b"A":
            self.ear.media(rest, self.now_ns)
        elif kind == b"M":
            self.ear.mark(rest.decode(), self.now_ns)
        elif kind == b"C":
            self._echo(self.ear.clear(self.now_ns))
        elif self.answers_pings:
            self._pongs.append((int(rest), self.now_ns + self.back_ns))

    def _echo(self, names: list[str]) -> None:
        if self.drop_echoes:
            return
        sent_ns = -(-(self.now_ns + self.echo_late_ms * MS) // (self.burst_ms * MS)) * self.burst_ms * MS
        for name in names:
            self._echoes += [(int(name), sent_ns + self.back_ns)] * (2 if self.double_echoes else 1)

    # --- what was heard ---

    def gaps_ms(self) -> list[float]:
        """Silences between two pieces of audio that are shorter than a pause between utterances (2 s)."""
        record = self.ear.record()
        found = []
        for n in range(1, len(record.play_start_ns)):
            end_ns = record.play_start_ns[n - 1] + record.size_bytes[n - 1] * 125_000
            gap = (record.play_start_ns[n] - end_ns) / MS
            if 0 < gap < 2_000:
                found.append(gap)
        return found

    def counted_gaps_ms(self) -> list[float]:
        """The gaps that the pacer reports, those that continue one added to it."""
        found: list[float] = []
        for each in self.reports:
            if isinstance(each, PlayoutShifted) and each.audible:
                if each.continued:
                    found[-1] += each.gap_ns / MS
                else:
                    found.append(each.gap_ns / MS)
        return found

    def tail_ms(self) -> float:
        """How long the ear plays on after this instant, if the line is withdrawn now."""
        self.pacer.withdraw(CALL, 1_000, False, self.now_ns)
        withdrawn_ns = self.now_ns
        self.run(2_000)
        record = self.ear.record()
        return (record.play_start_ns[-1] + record.size_bytes[-1] * 125_000 - withdrawn_ns - self.back_ns) / MS

    def clear(self, through: int) -> None:
        self.pacer.withdraw(CALL, through, True, self.now_ns)

    def heard_ms(self, utterance: int) -> float:
        """What the caller heard of an utterance, which has no padding."""
        record = self.ear.record()
        at = heard = 0
        for size, played in zip(record.size_bytes, record.heard_bytes, strict=True):
            heard += played if record.audio[at] == utterance else 0
            at += size
        return heard / BYTES_PER_MS

    def answers(self) -> list[Withdrawn]:
        """The answers to withdrawals, as far as they came."""
        return [each for each in self.reports if isinstance(each, Withdrawn)]
