"""A call for tests of the judge: the test decides what the ear hears. Times in ms since `start`."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

from proofs.judge import judge
from proofs.verdict import Verdict
from shared.audio import FRAME_BYTES, SILENCE
from simulator.carrier.call import CallRecord, CarrierWarning, Key, Lag, StreamRecord
from simulator.carrier.ear import Ear

MS = 1_000_000
START = 1_000_000 * MS
LEAD_MS = 120


def speech(ms: float, seed: int) -> bytes:
    """Audio whose frames are all unique, like the model server's."""
    return random.Random(seed).randbytes(int(ms * 8))


class Line:
    """A call that a faultless system carries, unless a test does harm to it. Times in ms since `start`."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.items: list[dict[str, Any]] = []
        self.responses: list[dict[str, Any]] = []
        self.speech: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.warnings: list[CarrierWarning] = []
        self.lags: list[Lag] = []
        self.streams: list[StreamRecord] = []

    def item(self, ms: float, *, created_ms: float = 0, response: str = "", status: str = "completed") -> bytes:
        number = len(self.items) + 1
        audio = speech(ms, number)
        response_id = response or f"resp_{number}"
        if not any(each["id"] == response_id for each in self.responses):
            created_ns = START + int(created_ms * MS)
            self.responses.append(
                {"id": response_id, "status": status, "cancels": 0, "created_ns": created_ns, "done_ns": created_ns + 1}
            )
        self.items.append(
            {
                "item_id": f"item_{number}",
                "response_id": response_id,
                "content_index": 0,
                "phase": None,
                "role": "assistant",
                "audio_b64": b64encode(audio).decode(),
                "sent_bytes": len(audio),
                "held_ms": len(audio) // 8,
                "deleted": False,
                "truncated_ms": None,
                "status": status,
                "transcript": "",
                # The model takes 200 ms to its first word.
                "first_delta_ns": START + int((created_ms + 200) * MS),
            }
        )
        return audio

    def hold(self, number: int, ms: int) -> None:
        """What the conversation holds of an item after a truncate, or (0) a delete."""
        self.items[number - 1] |= {"held_ms": ms, "truncated_ms": ms or None, "deleted": ms == 0}

    def pace(
        self, audio: bytes, at_ms: float, harm: Callable[[list[bytes]], list[bytes]] | None = None, late_ms: float = 0
    ) -> float:
        """Send whole frames, the lead ahead; the second half `late_ms` late. Returns when the ear has played it, ms."""
        frames = [audio[at : at + FRAME_BYTES].ljust(FRAME_BYTES, SILENCE) for at in range(0, len(audio), FRAME_BYTES)]
        for n, frame in enumerate(harm(frames) if harm else frames):
            due_ms = at_ms + max(0, n * 20 - LEAD_MS) + (late_ms if n * 2 >= len(frames) else 0)
            self.ear.media(frame, START + int(due_ms * MS))
        return at_ms + len(frames) * 20

    def speak(self, from_ms: float, to_ms: float | None) -> None:
        stopped = None if to_ms is None else START + int(to_ms * MS)
        self.speech.append({"started_ns": START + int(from_ms * MS), "stopped_ns": stopped, "item_id": "user"})

    def lose(self, at_ms: float) -> None:
        """The socket is lost; later audio belongs to the next one."""
        at_ns = START + int(at_ms * MS)
        self.ear.close(at_ns)
        self.streams.append(StreamRecord(f"MZ0{len(self.streams)}", START, at_ns, "lost", {}))

    def verdict(
        self,
        end_ms: float = 20_000,
        *,
        held_up_ms: float = 0.0,
        keys_ms: Sequence[float] = (),
        keys_interrupt: bool = False,
    ) -> Verdict:
        end_ns = START + int(end_ms * MS)
        self.ear.close(end_ns)
        record = CallRecord(
            call_sid="CA1",
            started_ns=START,
            ended_ns=end_ns,
            streams=(*self.streams, StreamRecord("MZ1", START, end_ns, "caller", {})),
            ear=self.ear.record(),
            said=(),
            keys=tuple(Key(START + int(at_ms * MS), "1") for at_ms in keys_ms),
            warnings=tuple(self.warnings),
            outcome="hung-up-by-caller",
            lags=tuple(self.lags),
        )
        session = {
            "request_id": "r",
            "items": self.items,
            "responses": self.responses,
            "events": [],
            "errors": self.errors,
            "speech": self.speech,
        }
        return judge(record, [session], held_up_ms=held_up_ms, keys_interrupt=keys_interrupt)


def interrupted(*, tail_ms: float = LEAD_MS, held_ms: int = 0, item_ms: float = 6000) -> Line:
    """A 1 s greeting, an answer from 2000 on, a caller who speaks at 3000; the answer is heard until 3000 + tail."""
    line = Line()
    line.pace(line.item(1000), 200)
    answer = line.item(item_ms, created_ms=1900)
    heard_ms = 1000 + tail_ms
    line.pace(answer[: int(heard_ms * 8)], 2000)
    line.speak(3000, 4000)
    line.hold(2, held_ms or int(heard_ms))
    line.pace(line.item(500, created_ms=4001), 4300)
    return line
