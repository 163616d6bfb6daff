"""A call of one item and some turns, for tests of the nemesis's checker. Times in ms since its start."""

from __future__ import annotations

import random
from array import array
from base64 import b64encode
from typing import Any

from proofs.acts import Act, Deed
from proofs.excuses import Ledger
from proofs.nemesis_check import problems_of
from shared.audio import FRAME_BYTES
from simulator.carrier.call import CallRecord, CarrierWarning, Lag, StreamRecord
from simulator.carrier.caller import line_audio
from simulator.carrier.ear import Ear

MS = 1_000_000
START = 1_000_000 * MS
END_MS = 20_000


class HarmedCall:
    """One item of 3 s, made from 0 to 600 ms, and a call that ends after 20 s."""

    def __init__(self) -> None:
        self.audio = random.Random(1).randbytes(24_000)
        self.ear = Ear()
        self.streams: list[StreamRecord] = []
        self.speech: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.warnings: list[CarrierWarning] = []
        self.lags: list[Lag] = []
        self.outcome = "hung-up-by-caller"
        self.held_ms = 3_000
        self.cancels = 0
        self.closed_ms: int | None = None
        self.more: list[dict[str, Any]] = []
        self.done_ms: int | None = 600
        self.created_ms = 0
        self.first_ms: int | None = None
        self.sent = line_audio(5, (), END_MS // 20)
        self.input: bytes | None = None
        self.ledger = Ledger()

    def hear(self, from_ms: int, to_ms: int, at_ms: float) -> None:
        """The ear hears this part of the item, without a lead."""
        for ms in range(from_ms, to_ms, 20):
            self.ear.media(self.audio[ms * 8 : ms * 8 + FRAME_BYTES], START + int((at_ms + ms - from_ms) * MS))

    def lose(self, at_ms: int) -> None:
        self.ear.close(START + at_ms * MS)
        self.streams.append(StreamRecord("MZ0", START, START + at_ms * MS, "lost", {}))

    def turn(self, from_ms: int, to_ms: int) -> None:
        self.speech.append({"started_ns": START + from_ms * MS, "stopped_ns": START + to_ms * MS})

    def problems(self, *deeds: Deed) -> list[str]:
        end_ns = START + END_MS * MS
        self.ear.close(end_ns)
        record = CallRecord(
            call_sid="CA1",
            started_ns=START,
            ended_ns=end_ns,
            streams=(*self.streams, StreamRecord("MZ1", START, end_ns, "caller", {})),
            ear=self.ear.record(),
            said=(),
            keys=(),
            warnings=tuple(self.warnings),
            sent_ns=array("q", (START + n * 20 * MS for n in range(END_MS // 20))),
            noise_seed=5,
            outcome=self.outcome,
            lags=tuple(self.lags),
        )
        item = {
            "item_id": "item_1",
            "response_id": "r",
            "role": "assistant",
            "audio_b64": self.audio,
            "held_ms": self.held_ms,
            "first_delta_ns": START + (self.created_ms if self.first_ms is None else self.first_ms) * MS,
        }
        done_ns = None if self.done_ms is None else START + self.done_ms * MS
        session: dict[str, Any] = {
            "items": [item],
            "responses": [
                {"id": "r", "created_ns": START + self.created_ms * MS, "done_ns": done_ns, "cancels": self.cancels}
            ],
            "speech": self.speech,
            "errors": self.errors,
            "opened_ns": START,
            "closed_ns": None if self.closed_ms is None else START + self.closed_ms * MS,
            "input_b64": None if self.input is None else b64encode(self.input).decode(),
            "told": [],
        }
        return problems_of(record, [session, *self.more], deeds, self.ledger)[0]


def deed(kind: str, target: str, at_ms: int, seconds: float = 0.0, *, hits: str = "CA1", failure: str = "") -> Deed:
    at_ns = START + at_ms * MS
    return Deed(Act(at_ms / 1_000, kind, target, 0, seconds), at_ns, at_ns + int(seconds * 1e9), (hits,), failure)


def gap(ms: int) -> HarmedCall:
    """The item, with a gap after its first second, 1.2 s into the call."""
    call = HarmedCall()
    call.hear(0, 1_000, 200)
    call.hear(1_000, 3_000, 1_200 + ms)
    return call
