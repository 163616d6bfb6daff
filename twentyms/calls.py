"""List the newest calls, or show one with its transcript and its cost.

The list says of each call how it ended, how many turns it had, and how long the caller heard silence in mid-speech.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from callbook.database import reading
from callbook.queries import page, whole
from shared.process import ConfigError

from . import here
from .arguments import Parser

HEAD = ("began (UTC)", "call", "from", "to", "s", "turns", "ended", "ear gap ms", "recording")


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError when there is no database to read, or no such call in it."""
    parser = Parser("calls", __doc__)
    parser.add_argument("call_sid", metavar="CALL", nargs="?", default="", help="show the call with this CallSid")
    parser.add_argument("-n", "--limit", type=int, default=20, metavar="N", help="how many calls (default 20)")
    parser.add_argument("--json", action="store_true", help="print what /api/calls answers")
    options = parser.parse_args(arguments)
    with reading(here.settings()) as session:
        if options.call_sid:
            call = whole(session, options.call_sid)
            if call is None:
                raise ConfigError(f"there is no call {options.call_sid}; `twentyms calls` lists them")
            print(json.dumps(call, indent=2) if options.json else "\n".join(_whole(call)))
            return 0
        calls, _ = page(session, limit=max(1, options.limit))
    print(json.dumps(calls, indent=2) if options.json else "\n".join(listed(calls)))
    if not calls:
        print("There are no calls yet. `twentyms call` places one to a running twentyms.", file=sys.stderr)
    return 0


def listed(calls: Sequence[dict[str, Any]]) -> list[str]:
    """The table of these calls, with their cells where cells have names."""
    rows = [HEAD, *map(_row, calls)]
    if any(call["cell"] for call in calls):
        cells = ("cell", *(call["cell"] or "-" for call in calls))
        rows = [(*row, cell) for row, cell in zip(rows, cells, strict=True)]
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def latency(parts: dict[str, int | None]) -> str:
    """How long the caller waited for an answer, and for what: parts that are unknown or 0 are left out."""
    known = {name.removesuffix("_ms"): value for name, value in parts.items() if value}
    split = ", ".join(f"{name} {value}" for name, value in known.items())
    return f"answered after {sum(known.values())} ms: {split}"


def _row(call: dict[str, Any]) -> tuple[str, ...]:
    transmission, recording = call["transmission"], call["recording"]
    gap_ms = transmission["ear_gap_ms"]
    return (
        call["began_at"][:19].replace("T", " "),
        call["call_sid"],
        call["from_number"],
        call["to_number"],
        _seconds(call),
        str(call["turns"]),
        call["end_reason"] or "live",
        "-" if gap_ms is None else f"{gap_ms:.0f}",
        recording["state"] if recording is not None else "-",
    )


def _seconds(call: dict[str, Any]) -> str:
    if call["duration_s"] is not None:
        return str(call["duration_s"])
    if call["ended_at"] is None:
        return "-"
    lasted = datetime.fromisoformat(call["ended_at"]) - datetime.fromisoformat(call["began_at"])
    return f"{lasted.total_seconds():.0f}"


def _whole(call: dict[str, Any]) -> list[str]:
    lines = listed([call | {"turns": len(call["turns"])}])
    lines.append("")
    for turn in call["turns"]:
        cut = " [interrupted]" if turn["interrupted"] else ""
        words = turn["heard_text"] or "(not written down)"
        if turn["role"] == "tool":
            words = f"{turn['tool']} {turn['arguments']} [{turn['outcome'] or 'not answered'}] {turn['text']}"
        lines.append(f"{turn['role']:>6}: {words}{cut}")
        if turn["latency"] is not None:
            lines.append(f"{'':>8}({latency(turn['latency'])})")
    for dial in call["dials"]:
        who = "" if not dial["caller_left"] else ", the caller hung up"
        spoke = "" if dial["duration_s"] is None else f", {dial['duration_s']} s"
        lines.append(f"dialled {dial['to'] or 'somebody'}: {dial['outcome'] or 'outcome unknown'}{spoke}{who}")
    for usage in call["usage"]:
        cost = "" if usage["cost_usd"] is None else f", {usage['cost_usd']:.4f} USD"
        tokens_in, tokens_out = usage["text_in"] + usage["audio_in"], usage["text_out"] + usage["audio_out"]
        agent = f"{usage['agent']}, " if usage["agent"] else ""
        lines.append(f"{agent}{usage['model']}: {tokens_in} tokens in, {tokens_out} out{cost}")
    return lines
