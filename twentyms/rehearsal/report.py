"""The results of a rehearsal: a table for the terminal, JUnit for CI, and a picture and a recording of each call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from proofs.picture import write_wav

from ..calls import table
from ..timeline import draw
from .judgement import Rehearsed

HEAD: Final = ("scenario", "", "seconds", "answered after ms", "interruptions", "gaps ms", "tools", "ended by")


def lines(results: Sequence[Rehearsed]) -> list[str]:
    """The table, and below it what was wrong."""
    rows = [HEAD, *map(_row, results)]
    wrong = [f"{each.scenario.name}: {problem}" for each in results for problem in each.problems]
    return [*table(rows), *([""] if wrong else []), *wrong]


def _row(each: Rehearsed) -> tuple[str, ...]:
    answers = each.answers_ms
    return (
        each.scenario.name,
        "FAILED" if each.problems else "ok",
        f"{_seconds(each):.0f}",
        f"{max(answers):.0f}" if answers else "-",
        str(len(each.record.get("interruptions", ()))),
        f"{sum(each.gaps_ms):.0f}",
        ", ".join(tool.name for tool in each.tools) or "-",
        each.ended_by,
    )


def _seconds(each: Rehearsed) -> float:
    return max(0, each.call.ended_ns - each.call.started_ns) / 1e9


def write_junit(results: Sequence[Rehearsed], path: Path) -> None:
    failures = sum(bool(each.problems) for each in results)
    suite = ElementTree.Element(
        "testsuite",
        name="twentyms rehearse",
        tests=str(len(results)),
        failures=str(failures),
        time=f"{sum(map(_seconds, results)):.1f}",
    )
    for each in results:
        time = f"{_seconds(each):.1f}"
        case = ElementTree.SubElement(suite, "testcase", classname="rehearsal", name=each.scenario.name, time=time)
        if each.problems:
            failure = ElementTree.SubElement(case, "failure", message=each.problems[0])
            failure.text = "\n".join(each.problems)
        ElementTree.SubElement(case, "system-out").text = each.transcript
    ElementTree.indent(suite)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def write_calls(results: Sequence[Rehearsed], out: Path) -> bool:
    """A recording and a timeline of each call, named after its scenario. False: there is nothing to draw with."""
    drawn = True
    for number, each in enumerate(results, 1):
        name = f"{number:02}-{each.scenario.name}"
        write_wav(each.call, out / f"{name}.wav")
        if each.record:
            try:
                draw(each.record, out / f"{name}.png")
            except ModuleNotFoundError:
                drawn = False
    return drawn
