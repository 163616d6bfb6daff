"""One hostile peer of each kind, and how the gateway refuses it."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic_ns
from typing import Any

from gateway import connections, media
from gateway.core.media_streams import Violation
from proofs import hostile

from ..gateway.conftest import AUTH_TOKEN, Cell

FRAME = bytes(160)


def refusals(cell: Cell) -> dict[tuple[str, str], float]:
    counted = {}
    for name, label in hostile.REFUSALS.values():
        family: Any = getattr(cell.gateway.metrics, name.removeprefix("gateway_"))
        if label:
            family = family[Violation(label) if name == "gateway_violations" else label]
        counted[name, label] = family.value
    return counted


async def speak(cell: Cell) -> None:
    """A txpacer that speaks to every call, ten times as fast as real time."""
    seq = 0
    while True:
        cell.frames(monotonic_ns(), *((number, seq, FRAME * 10, 0) for number in cell.gateway.calls.by_number))
        seq += 10
        await asyncio.sleep(0.02)


def test_every_kind_of_hostile_peer_is_refused_in_its_way_and_counted(run, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_S", 2.0)
    monkeypatch.setattr(media, "START_S", 2.0)
    monkeypatch.setattr("gateway.core.stalls.UNREAD_NS", 500_000_000)
    monkeypatch.setattr("gateway.gateway.SWEEP_S", 0.05)
    monkeypatch.setattr(hostile, "SPREAD_S", 0.5)
    monkeypatch.setattr(hostile, "HOLD_S", 8.0)

    async def scenario(cell):
        speaking = asyncio.create_task(speak(cell))
        done, held = await hostile.attack(cell.twilio.port, AUTH_TOKEN, 5 * hostile.COSTLY_EVERY)
        assert not held
        expected: Counter[tuple[str, str]] = Counter()
        for kind, refusal in hostile.REFUSALS.items():
            assert done[kind]
            expected[refusal] += done[kind]
        await cell.until(lambda: refusals(cell) == expected)
        await cell.until(lambda: not cell.gateway.calls.by_number and not cell.gateway._port._half_open)
        speaking.cancel()

    run(scenario)
