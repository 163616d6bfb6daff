"""txpacer as a process, between an aibridge and a gateway that the test plays itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from callbook.exporter import PagesCollector
from shared import bus
from shared.channel import Channel
from shared.messages import (
    BridgeHello,
    Frames,
    GatewayHello,
    Header,
    LineState,
    OpenLine,
    PacerState,
    PacerToBridge,
    PacerToGateway,
    PlayoutStarted,
    Speech,
    WireAck,
    Withdraw,
    Withdrawn,
    decode,
    encode,
)
from shared.process import EX_TEMPFAIL

TIMEOUT_MS = 10_000


IMPATIENT = (
    "import runpy; from shared import process; process.HANDOVER_S = 0.0; "
    "runpy.run_module('txpacer', run_name='__main__')"
)


def spawn(run_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "RUN_DIR": str(run_dir)}
    command = [sys.executable, *(arguments or ("-m", "txpacer"))]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


class Ends:
    """The sockets of one gateway and one aibridge."""

    def __init__(self, run_dir: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.frames = bus.dealer(self.context, bus.frames_url(run_dir), name="gateway", hwm=100)
        self.speech = bus.dealer(self.context, bus.speech_url(run_dir), name="bridge", hwm=100)
        for sock in (self.frames, self.speech):
            sock.setsockopt(zmq.SNDTIMEO, TIMEOUT_MS)
            sock.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)

    def reports(self) -> list[Any]:
        """The next reports; headers of the channel apart."""
        while True:
            reports = [each for each in decode(self.speech.recv(), PacerToBridge) if not isinstance(each, Header)]
            if reports:
                return reports

    def batch(self) -> Frames:
        (frames,) = decode(self.frames.recv(), PacerToGateway)
        assert isinstance(frames, Frames)
        self.frames.send(encode([WireAck(frames.batch, time.monotonic_ns(), ())]))
        return frames


@pytest.fixture
def pacer(short_path: Path) -> Iterator[tuple[subprocess.Popen[str], Ends]]:
    with spawn(short_path) as process:
        ends = Ends(short_path)
        try:
            yield process, ends
        finally:
            process.kill()
            ends.context.destroy(linger=0)


def test_a_call_from_its_first_frame_to_its_withdrawal(pacer: tuple[subprocess.Popen[str], Ends]) -> None:
    _, ends = pacer
    ends.frames.send(encode([GatewayHello("gateway")]))
    (state,) = decode(ends.frames.recv(), PacerToGateway)
    ends.speech.send(encode([BridgeHello("bridge")]))
    assert ends.reports() == [state] == [PacerState(state.epoch, 0)]

    ends.speech.send(encode([OpenLine(1, "gateway"), Speech(1, 1, b"\x01" * 80_000)]))
    first = ends.batch()
    assert [(call, seq, len(audio)) for call, seq, audio, _ in first.entries] == [(1, 0, 960)]
    line, started = ends.reports()
    assert line == LineState(1, ())
    assert isinstance(started, PlayoutStarted)
    paced = 960 + sum(len(audio) for _ in range(10) for _, _, audio, _ in ends.batch().entries)

    asked_ns = time.monotonic_ns()
    ends.speech.send(encode([Withdraw(1, 1, False)]))
    (withdrawn,) = ends.reports()
    assert isinstance(withdrawn, Withdrawn)
    assert withdrawn.paced[0][1] - paced in range(0, 160 * 10, 160)
    # Nothing else is due any more, so only the answer itself can have woken the loop.
    assert time.monotonic_ns() - asked_ns < 500_000_000


def test_a_frozen_txpacer_counts_its_own_lateness_and_blames_no_gateway(
    pacer: tuple[subprocess.Popen[str], Ends], short_path: Path
) -> None:
    process, ends = pacer

    def values() -> dict[str, float]:
        collected = PagesCollector(short_path / "metrics").collect()
        return {sample.name: sample.value for metric in collected for sample in metric.samples}

    ends.speech.send(encode([OpenLine(1, "gateway"), Speech(1, 1, b"\x01" * 80_000)]))
    for _ in range(5):
        ends.batch()
    (last,) = decode(ends.frames.recv(), PacerToGateway)
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    while ends.frames.poll(50):  # sent before the signal came
        (last,) = decode(ends.frames.recv(), PacerToGateway)
    before = values()
    ends.frames.send(encode([WireAck(last.batch, time.monotonic_ns(), ())]))
    time.sleep(0.2)  # it stands still for longer than the lead
    process.send_signal(signal.SIGCONT)
    assert [len(audio) for _, _, audio, _ in ends.batch().entries] == [960]
    grown = {name: value - before[name] for name, value in values().items()}
    assert grown["twentyms_tx_held_total"] == 0
    assert grown["twentyms_tx_lateness_seconds_sum"] > 6 * 0.18
    assert grown["twentyms_tx_reanchored_total"] == 1


def test_bytes_that_are_no_message_are_counted_and_survived(pacer: tuple[subprocess.Popen[str], Ends]) -> None:
    _, ends = pacer
    for garbage in (b"", b"\xc1", b"\x91\x01" * 50):
        ends.speech.send(garbage)
    ends.speech.send_multipart((b"one", b"part too many"))
    ends.speech.send(encode([BridgeHello("bridge")]))
    assert isinstance(ends.reports()[0], PacerState)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_txpacer_and_leaves_no_file(
    pacer: tuple[subprocess.Popen[str], Ends], number: signal.Signals, short_path: Path
) -> None:
    process, ends = pacer
    ends.speech.send(encode([BridgeHello("bridge")]))
    ends.reports()
    assert (short_path / "metrics/txpacer.page").exists()
    process.send_signal(number)
    assert process.wait(timeout=10) == 0
    assert not short_path.exists() or not list(short_path.iterdir())


def test_a_second_txpacer_in_the_same_run_dir_ends_with_an_error_that_names_it(
    pacer: tuple[subprocess.Popen[str], Ends], short_path: Path
) -> None:
    _, ends = pacer
    ends.speech.send(encode([BridgeHello("bridge")]))
    ends.reports()
    with spawn(short_path, "-c", IMPATIENT) as second:
        assert second.wait(timeout=10) == EX_TEMPFAIL
        assert second.stderr is not None
        assert "RUN_DIR" in second.stderr.read().splitlines()[-1]


def test_a_lost_message_of_an_aibridge_is_asked_for_again_and_acknowledged(
    pacer: tuple[subprocess.Popen[str], Ends],
) -> None:
    _, ends = pacer
    channel = Channel(5, max_weight=100)

    def headers() -> Iterator[Header]:
        while True:
            batch = decode(ends.speech.recv(), PacerToBridge)
            channel.receive(batch, 0)
            if isinstance(batch[0], Header):
                yield batch[0]

    channel.put([OpenLine(7, "gateway")])
    lost = channel.batch()
    assert lost is not None
    channel.sent(lost, 0)
    ends.speech.send(encode([channel.hello(), BridgeHello("bridge")]))
    next(header for header in headers() if header.again)
    again = channel.batch()
    assert again is not None
    assert again[1:] == lost[1:]
    ends.speech.send(encode(again))
    next(header for header in headers() if header.through == 1)
    assert channel.waiting == 0
