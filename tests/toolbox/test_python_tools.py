"""Tools that sleep, block, leak, crash, flood or raise, as real processes: each costs its own answer only."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.messages import ToolAnswered
from tests.on_a_loop import on_a_loop
from tests.toolbox.running import Toolbox, Worker, until, worker

pytestmark = pytest.mark.live

TOOLS = '''
import asyncio, os, sys, time
from pathlib import Path
from twentyms import CallContext, ToolError, tool

HERE = Path(__file__).parent


def note(text):
    with (HERE / "notes").open("a") as file:
        file.write(text + "\\n")


@tool(side_effect=False)
def opening_hours(day: str) -> str:
    """When the restaurant is open."""
    return f"{day}: 10 to 22"


@tool
def who(call: CallContext) -> dict[str, str]:
    """Who calls."""
    return {"from": call.from_number, "to": call.to_number, "agent": call.agent}


@tool
def full(day: str) -> str:
    """Find a table."""
    raise ToolError(f"No table is free on {day}.")


@tool(deadline_s=0.3)
def sleeps() -> None:
    """Sleep."""
    time.sleep(30)


@tool(deadline_s=0.3)
async def waits() -> None:
    """Wait."""
    try:
        await asyncio.sleep(30)
    finally:
        note("cleaned up")


@tool(deadline_s=0.3)
async def blocks_its_loop() -> None:
    """Block."""
    time.sleep(30)


@tool
def leaks() -> None:
    """Leak."""
    kept = []
    while True:
        kept.append(bytearray(10_000_000))


@tool
def exits() -> None:
    """Exit."""
    os._exit(3)


@tool
def leaves() -> None:
    """Leave."""
    sys.exit("secret words")


@tool
def raises(words: str) -> None:
    """Raise."""
    raise ValueError(words)


@tool
def answers_much() -> str:
    """Answer."""
    return "x" * 50_000_000


@tool(deadline_s=0.5)
def prints_much() -> None:
    """Print."""
    for _ in range(1_000_000):
        print("x" * 100_000)


@tool
def prints() -> None:
    """Print."""
    print("hello from a tool")


@tool(deadline_s=0.3)
def ignores_everything() -> None:
    """Ignore."""
    import signal
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child = os.fork()
    while True:
        time.sleep(1)


@tool
def breaks_the_pipe() -> None:
    """Break."""
    for descriptor in range(3, 100):
        try:
            os.write(descriptor, b"\\xff" * 1000)
        except OSError:
            pass
    time.sleep(5)


@tool(concurrency=1)
def books(name: str, seconds: float = 0.0) -> str:
    """Book."""
    note(f"begun {name}")
    time.sleep(seconds)
    note(f"booked {name}")
    return "booked"


@tool(cancellable=False)
def charges(seconds: float) -> str:
    """Charge."""
    time.sleep(seconds)
    note("charged")
    return "charged"
'''


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    directory = tmp_path_factory.mktemp("agent")
    (directory / "agent.toml").write_text('instructions = "Be kind."\n[tools]\npython = ["tools.py"]\n')
    (directory / "tools.py").write_text(TOOLS)
    running = Toolbox(directory, TOOL_MEMORY_MB="200", LOG_LEVEL="DEBUG")
    yield running
    running.stop()


def notes(toolbox: Toolbox) -> list[str]:
    path = toolbox.directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def works(asking: Worker) -> ToolAnswered:
    """Another call of the same agent's tools is answered, by another process if need be."""
    _, answer = await asking.call("opening_hours", day="Sunday")
    assert (answer.outcome, answer.output) == ("done", "Sunday: 10 to 22")
    return answer


def test_a_tool_answers_and_knows_who_calls_which_the_model_does_not(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            await works(asking)
            _, answer = await asking.call("who")
            assert answer.output == '{"from":"+15550001111","to":"+15550002222","agent":"agent"}'
            (spec,) = (spec for spec in asking.link.tools("agent") if spec.name == "who")
            assert '"properties": {}' in spec.parameters
            _, answer = await asking.call("opening_hours", day="x" * 100_000)
            assert (answer.outcome, answer.output) == ("refused", "The arguments are too long. It was not carried out.")
            _, answer = await asking.call("full", day="Sunday")
            assert (answer.outcome, answer.output) == ("failed", "No table is free on Sunday.")

    scenario()


@pytest.mark.parametrize(
    ("tool", "deadline_s", "outcome"),
    [
        ("sleeps", 0.3, "timeout"),
        ("waits", 0.3, "timeout"),
        ("blocks_its_loop", 0.3, "timeout"),
        ("ignores_everything", 0.3, "timeout"),
        ("prints_much", 0.5, "timeout"),
        ("leaks", 10, "failed"),
        ("exits", 10, "crashed"),
        ("leaves", 10, "failed"),
        ("answers_much", 10, "done"),
        ("breaks_the_pipe", 10, "crashed"),
    ],
)
def test_a_hostile_tool_is_answered_by_its_deadline_and_costs_nothing_else(
    toolbox: Toolbox, tool: str, deadline_s: float, outcome: str
) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            (hostile, answer), other = await asyncio.gather(asking.call(tool), works(asking))
            assert answer.outcome == outcome
            assert hostile < deadline_s + 1
            assert len(answer.output) < 8_200
            assert other.outcome == "done"
            await works(asking)
            assert "secret words" not in answer.output
        assert len(toolbox.log()) < 100_000

    scenario()
    # Nothing that it started is left: it would have the name of a child.
    if tool == "ignores_everything":
        time.sleep(0.3)
        assert not [pid for pid in toolbox.children() if sleeping_forever(pid)]


def sleeping_forever(pid: int) -> bool:
    """Whether the process has a child of its own, as `ignores_everything` does."""
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_an_async_tool_can_clean_up_when_it_is_stopped(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            before = notes(toolbox).count("cleaned up")
            await asking.call("waits")
            await until(lambda: notes(toolbox).count("cleaned up") == before + 1)

    scenario()


def test_a_call_is_carried_out_once_although_its_worker_dies_and_another_one_asks_again(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as dying:
            call_id = dying.ask("books", name="Ann", seconds=0.5)
            await until(lambda: "begun Ann" in notes(toolbox))
        async with worker(toolbox, "aibridge-1") as successor:
            successor.ask("books", call_id=call_id, name="Ann", seconds=0.5)
            _, answer = await successor.answer(call_id)
            assert (answer.outcome, answer.output) == ("done", "booked")
            # And once more after its answer.
            del successor.answers[call_id]
            successor.ask("books", call_id=call_id, name="Ann", seconds=0.5)
            assert (await successor.answer(call_id))[1] == answer
        assert notes(toolbox).count("begun Ann") == notes(toolbox).count("booked Ann") == 1

    scenario()


def test_a_hang_up_stops_a_call_unless_it_is_not_cancellable(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            booking = asking.ask("books", call_sid="CA7", name="Bob", seconds=5)
            charging = asking.ask("charges", call_sid="CA7", seconds=0.6)
            await until(lambda: "begun Bob" in notes(toolbox))
            await asyncio.sleep(0.1)
            asking.link.cancel("CA7", hung_up=True)
            assert (await asking.answer(booking))[1].outcome == "cancelled"
            assert (await asking.answer(charging))[1].outcome == "done"
        assert "booked Bob" not in notes(toolbox)
        assert "charged" in notes(toolbox)

    scenario()


def test_neither_arguments_nor_texts_of_exceptions_reach_the_log_and_what_a_tool_prints_does(toolbox: Toolbox) -> None:
    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            _, answer = await asking.call("raises", words="the caller's words")
            assert (answer.outcome, answer.output) == ("failed", "The tool failed (ValueError).")
            await asking.call("prints")
            await until(lambda: "tools.py: hello from a tool" in toolbox.log())
        assert "raises raised ValueError at tools.py:" in toolbox.log()
        assert "the caller's words" not in toolbox.log()
        assert "+1555" not in toolbox.log()

    scenario()


def test_a_toolbox_that_is_killed_takes_its_children_along_and_its_calls_are_answered_as_unknown_and_not_repeated(
    tmp_path: Path,
) -> None:
    (tmp_path / "agent.toml").write_text('instructions = "Be kind."\n[tools]\npython = ["tools.py"]\n')
    (tmp_path / "tools.py").write_text(TOOLS)
    toolbox = Toolbox(tmp_path)

    @on_a_loop
    async def scenario() -> None:
        async with worker(toolbox) as asking:
            booking = asking.ask("books", name="Ann", seconds=20)
            await until(lambda: "begun Ann" in notes(toolbox))
            children = toolbox.children()
            assert children
            first = asking.link.epoch
            toolbox.restart()
            _, answer = await asking.answer(booking)
            assert answer.outcome == "unknown"
            assert "not known whether" in answer.output
            await until(lambda: not any(alive(pid) for pid in children))
            await works(asking)
            assert len(asking.answers[booking]) == 1
            # Nor for a worker that takes over and does not know that toolbox was restarted.
            async with worker(toolbox, "aibridge-1") as successor:
                for known, outcome in ((first, "unknown"), (successor.link.epoch, "done")):
                    other = successor.ask("charges", asked_of=known, seconds=0)
                    assert (await successor.answer(other))[1].outcome == outcome
                looked_up = successor.ask("opening_hours", asked_of=first, day="Sunday")
                assert (await successor.answer(looked_up))[1].outcome == "done"
            assert notes(toolbox) == ["begun Ann", "charged"]
            # One that is asked to end stops its calls, and answers them before it goes.
            leaving = asking.ask("books", name="Bob", seconds=20)
            await until(lambda: "begun Bob" in notes(toolbox))
            toolbox.process.send_signal(signal.SIGTERM)
            assert (await asking.answer(leaving))[1].outcome == "cancelled"

    scenario()
    toolbox.stop()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
