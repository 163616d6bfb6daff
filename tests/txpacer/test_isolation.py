from __future__ import annotations

import gc
import logging

import pytest

from shared.metrics import Page
from shared.settings import Settings
from txpacer import isolation
from txpacer.core.metrics import DEFINITIONS, PacerMetrics


@pytest.fixture
def metrics() -> PacerMetrics:
    return PacerMetrics(Page.in_memory(DEFINITIONS))


@pytest.mark.parametrize(("setting", "notices"), [("auto", 1), ("off", 0)])
def test_without_permission_txpacer_logs_one_line_and_its_gauge_is_0(
    setting: str,
    notices: int,
    metrics: PacerMetrics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(isolation, "realtime", lambda *_: "it is not permitted")
    monkeypatch.setattr(isolation, "exact_timers", lambda: None)
    with caplog.at_level(logging.INFO):
        assert isolation.take_priority(Settings(tx_realtime=setting), metrics) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"] * notices
    assert metrics.realtime._cells[metrics.realtime._at] == 0


def test_after_set_up_the_garbage_collector_is_off(metrics: PacerMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "lock_memory", lambda: "")
    try:
        isolation.settle(metrics)
        assert not gc.isenabled()
        assert metrics.memory_locked._cells[metrics.memory_locked._at] == 1
    finally:
        gc.enable()
        gc.unfreeze()
