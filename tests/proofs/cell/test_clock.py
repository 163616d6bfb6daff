"""Processes in virtual time: what reaches a running, a stopped and a dead one, and in which order."""

from __future__ import annotations

from proofs.cell.clock import MS, START_NS, Clock, Process


class Notes(Process):
    def __init__(self) -> None:
        super().__init__(Clock())
        self.notes: list[tuple[str, int]] = []
        self.starts = 0

    def note(self, what: str) -> None:
        self.notes.append((what, (self.now_ns - START_NS) // MS))

    def message(self, what: str, ms: float) -> None:
        self.clock.after(ms, lambda: self.deliver(lambda: self.note(what)))

    def timer(self, what: str, ms: float) -> None:
        self.after(ms, lambda: self.note(what))

    def started(self) -> None:
        self.starts += 1

    def run(self, ms: int) -> list[tuple[str, int]]:
        self.clock.run(START_NS + ms * MS)
        return self.notes


def test_what_is_planned_for_one_instant_happens_in_the_order_of_its_planning() -> None:
    process = Notes()
    for what in "abc":
        process.message(what, 5)
    assert process.run(10) == [("a", 5), ("b", 5), ("c", 5)]


def test_a_stopped_process_looks_after_its_timers_and_then_reads_its_messages_when_it_goes_on() -> None:
    process = Notes()
    process.stop(100)
    process.message("message", 10)
    process.timer("timer", 20)
    process.message("later", 120)
    assert process.run(200) == [("timer", 100), ("message", 100), ("later", 120)]


def test_a_process_that_is_stopped_twice_goes_on_after_the_longer_stop() -> None:
    process = Notes()
    process.stop(100)
    process.stop(40)
    process.message("message", 10)
    assert process.run(200) == [("message", 100)]


def test_messages_and_timers_of_a_killed_process_are_lost_and_a_new_one_gets_its_own() -> None:
    process = Notes()
    process.timer("old timer", 50)
    process.message("while it is dead", 20)
    process.message("after it", 60)
    process.clock.after(10, lambda: process.kill(30))
    assert process.run(200) == [("after it", 60)]
    assert process.starts == 1


def test_a_process_that_is_killed_while_it_is_stopped_does_not_go_on() -> None:
    process = Notes()
    process.stop(100)
    process.message("unread", 10)
    process.clock.after(50, lambda: process.kill(10))
    process.message("read", 70)
    assert process.run(200) == [("read", 70)]


def test_a_period_ends_with_its_process() -> None:
    process = Notes()
    process.every(10, lambda: process.note("tick"))
    process.clock.after(25, process.kill)
    assert process.run(100) == [("tick", 0), ("tick", 10), ("tick", 20)]
