from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from shared import isolation
from shared.metrics import GC_PAUSE, Page
from shared.process import ConfigError


def test_a_refusal_of_the_kernel_is_a_reason_with_auto_and_an_error_with_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert isolation.realtime("auto", 10) == "it is not permitted"
    with pytest.raises(ConfigError, match="TX_REALTIME=auto") as caught:
        isolation.realtime("on", 10)
    assert "\n" not in str(caught.value)


def test_with_off_the_kernel_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setscheduler")
    assert isolation.realtime("off", 10) == "TX_REALTIME=off"
    assert isolation.realtime("auto", 10)


def test_threads_and_children_do_not_inherit_the_priority_but_zeromqs_thread_has_it() -> None:
    script = """
import os, subprocess, sys, threading, time
from pathlib import Path
from shared.isolation import context, realtime
if realtime("auto", 7):
    sys.exit(77)
import zmq
made = context(7)
sock = made.socket(zmq.PULL)
sock.bind("tcp://127.0.0.1:*")
policies = {}
started, ended = threading.Event(), threading.Event()
threading.Thread(target=lambda: (started.set(), ended.wait())).start()
started.wait()
# A new thread of ZeroMQ sets its priority, and then its name.
deadline = time.monotonic() + 10
names = lambda: {task.read_text()[:5] for task in Path("/proc/self/task").glob("*/comm")}
while "ZMQbg" not in names() and time.monotonic() < deadline:
    time.sleep(0.01)
for task in Path("/proc/self/task").iterdir():
    name = (task / "comm").read_text().strip()[:5]
    policies[name, task.name == str(os.getpid())] = os.sched_getscheduler(int(task.name)) & 15
ended.set()
zeromq = {policy for (name, _), policy in policies.items() if name == "ZMQbg"}
assert zeromq == {os.SCHED_FIFO}, policies
assert [p for (_, main), p in policies.items() if main] == [os.SCHED_FIFO], policies
assert [p for (name, main), p in policies.items() if not main and name != "ZMQbg"] == [os.SCHED_OTHER], policies
child = "import os; print(os.sched_getscheduler(0) & 15)"
assert int(subprocess.check_output([sys.executable, "-c", child])) == os.SCHED_OTHER
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("real-time scheduling is not permitted here")
    assert done.returncode == 0, done.stderr


def test_a_missing_cpu_is_refused_in_one_line_that_names_the_allowed_ones() -> None:
    with pytest.raises(ConfigError, match=r"it may use [0-9,]+$"):
        isolation.pin(frozenset({4_000}))
    isolation.pin(frozenset())


def test_memory_is_not_locked_under_a_limit_that_could_fail_a_later_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.resource, "getrlimit", lambda _: (8_388_608, 8_388_608))
    monkeypatch.setattr(isolation, "_has_capability", lambda _: False)
    assert isolation.lock_memory() == "RLIMIT_MEMLOCK is 8192 kB"


def test_every_collection_is_counted() -> None:
    page = Page.in_memory((GC_PAUSE,))
    pauses = isolation.CollectorPauses(page)
    pauses.start()
    try:
        before = page.histogram(GC_PAUSE.name).count
        gc.collect()
        assert page.histogram(GC_PAUSE.name).count > before
    finally:
        gc.callbacks.remove(pauses._on_phase)


def test_frozen_objects_are_not_collected_again() -> None:
    keep = [[] for _ in range(1_000)]
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        isolation.freeze_collector()
        assert gc.get_freeze_count() > len(keep)
        assert gc.get_threshold()[0] > 700
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
    assert threading.active_count() >= 1
