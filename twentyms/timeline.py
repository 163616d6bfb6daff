"""Draw one call as a PNG: who spoke when, what was heard of it, interruptions, gaps; below, lead and path over time.

/calls/CALL shows the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callbook.database import reading
from callbook.queries import whole
from shared.process import ConfigError

from . import here
from .arguments import Parser
from .calls import latency

if TYPE_CHECKING:  # matplotlib is an extra
    from matplotlib.axes import Axes

_COLOURS: Final = {"caller": "#2f8f63", "ai": "#2a6fdb", "warn": "#c98a04", "bad": "#d0342c", "soft": "#667085"}
# The parts of an answer's latency, in order.
_PARTS: Final = {"carrier": "soft", "detection": "caller", "model": "ai", "line": "bad", "network": "soft"}
_LANES: Final = {"caller": 2.0, "ai": 1.0, "events": 0.0}
_HALF: Final = 0.32
# Where the caller's first sound and its pause are drawn: across both voices.
_FROM_SOUND: Final = (1.0 - _HALF, 2.0 + _HALF)


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError when there is no such call, or nothing to draw with."""
    parser = Parser("timeline", __doc__)
    parser.add_argument("call_sid", metavar="CALL", help="the CallSid; `twentyms calls` lists them")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the file to write (default: CALL.png)")
    options = parser.parse_args(arguments)
    with reading(here.settings()) as session:
        call = whole(session, options.call_sid)
    if call is None:
        raise ConfigError(f"there is no call {options.call_sid}; `twentyms calls` lists them")
    out: Path = options.out or Path(f"{options.call_sid}.png")
    try:
        draw(call, out)
    except ModuleNotFoundError:
        raise ConfigError("matplotlib is not installed; install it with: pip install 'twentyms[pictures]'") from None
    except OSError as exc:
        raise ConfigError(f"{out} cannot be written ({exc.strerror}); name another file with --out") from None
    print(out)
    return 0


def draw(call: dict[str, Any], path: Path) -> None:
    """Write the picture of `call`, as queries.whole gives it. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    began = datetime.fromisoformat(call["began_at"])

    def at(text: str) -> float:
        return (datetime.fromisoformat(text) - began).total_seconds()

    dialled = [dial["ended_at"] for dial in call["dials"]]
    ends = [at(text) for text in (call["ended_at"], *(turn["ended_at"] for turn in call["turns"]), *dialled) if text]
    length_s = max([1.0, *ends]) + 0.5
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 8.5, "text.color": "#1d2430"}):
        width = min(32.0, max(12.0, length_s * 0.45))
        if call["path"]:
            layout: dict[str, Any] = {"height_ratios": (3, 1), "sharex": True}
            figure, (axes, below) = plt.subplots(2, figsize=(width, 6.2), layout="constrained", **layout)
            _path(below, call["path"], at, length_s)
        else:
            figure, axes = plt.subplots(figsize=(width, 4.6), layout="constrained")
            below = axes
        letters_per_s = figure.get_figwidth() / length_s / 0.075
        for each in call["interruptions"]:
            start = at(each["at"])
            axes.axvspan(start, start + each["silent_ms"] / 1000, color=_COLOURS["warn"], alpha=0.3, linewidth=0)
            text = f"silent after {each['silent_ms']} ms"
            if each["onset_at"]:
                text = f"silent {each['stopped_ms']} ms after the first sound"
                for name in ("onset_at", "paused_at"):
                    if each[name]:
                        axes.plot(2 * [at(each[name])], _FROM_SOUND, color=_COLOURS["warn"], linewidth=1.2, alpha=0.8)
            _note(axes, start, text, "warn", row=0)
        for each in call["hesitations"]:
            start = at(each["at"])
            axes.axvspan(start, start + each["lasted_ms"] / 1000, color=_COLOURS["soft"], alpha=0.3, linewidth=0)
            text = "echo ignored" if each["kind"] == "echo" else f"hesitated {each['lasted_ms']} ms"
            _note(axes, start, text, "soft", row=0)
        next_s = wait_s = length_s
        for turn in reversed(call["turns"]):
            if turn["began_at"]:
                _turn(axes, turn, at, next_s=next_s, letters_per_s=letters_per_s)
                next_s = at(turn["began_at"]) if turn["role"] == "ai" else next_s
                if turn["latency"] is not None:
                    wait_s = _latency(axes, turn["latency"], next_s, (wait_s, letters_per_s))
        for dial in call["dials"]:
            _dial(axes, dial, at, length_s)
        for stream in call["streams"]:
            if stream["first_frame_at"]:
                _note(axes, at(stream["first_frame_at"]), "first frame", "soft", row=1)
            if stream["ended_at"]:
                gaps = f", {stream['ear_gaps']} gaps at the ear" if stream["ear_gaps"] else ""
                bad = "bad" if gaps or stream["end_reason"] == "lost" else "soft"
                _note(axes, at(stream["ended_at"]), f"{stream['end_reason']}{gaps}", bad, row=2, left=True)
        axes.set_xlim(0, length_s)
        axes.set_ylim(-0.8, 2.65)
        axes.set_yticks(list(_LANES.values()), ["caller", "AI, heard", "model, line"], fontweight="bold")
        below.set_xlabel("seconds since the call began")
        axes.grid(axis="x", color="#e3e7ed", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        gaps = call["transmission"]["ear_gaps"]
        who = f"{call['from_number'] or 'unknown'} to {call['to_number'] or 'unknown'}"
        agents = ", ".join(dict.fromkeys(each["agent"] for each in call["usage"] if each["agent"]))
        who = f"{who}, {agents}" if agents else who
        title = f"{call['began_at'][:19].replace('T', ' ')} UTC   {who}   "
        title += f"{'unknown' if gaps is None else gaps} gaps at the ear, {len(call['interruptions'])} interruptions"
        axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
        figure.savefig(path, dpi=110, facecolor="white", format="png")
        plt.close(figure)


def _path(axes: Axes, path: list[dict[str, Any]], at: Any, length_s: float) -> None:
    """The lead, and the delay of the path below or above it; each value holds until the next sample."""
    times = [*(at(sample["at"]) for sample in path), length_s]
    leads = [*(sample["lead_ms"] for sample in path), path[-1]["lead_ms"]]
    delays = [*(sample["delay_ms"] for sample in path), path[-1]["delay_ms"]]
    axes.fill_between(times, delays, step="post", color=_COLOURS["warn"], alpha=0.45, linewidth=0, label="path delay")
    axes.step(times, leads, where="post", color=_COLOURS["ai"], linewidth=1.6, label="lead")
    top_ms = 1.25 * max(*leads, *delays, 100)
    for sample in path:
        if sample["gap_ms"]:
            at_s = at(sample["at"])
            axes.axvline(at_s, color=_COLOURS["bad"], linewidth=1.4)
            text = f" {sample['gap_ms']} ms gap"
            axes.text(at_s, 0.98 * top_ms, text, color=_COLOURS["bad"], va="top", fontsize=7.5, clip_on=True)
    least = min((sample["least_ms"] for sample in path if sample["least_ms"]), default=0)
    axes.set_ylim(0, top_ms)
    axes.yaxis.set_major_formatter("{x:.0f} ms")
    axes.set_title(f"least round trip {least} ms", loc="right", fontsize=8.5, color=_COLOURS["soft"])
    axes.grid(color="#e3e7ed", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8, borderaxespad=0.0)


def _turn(axes: Axes, turn: dict[str, Any], at: Any, *, next_s: float, letters_per_s: float) -> None:
    """`next_s`: when the AI speaks again; what it would have gone on to say is drawn no further."""
    if turn["role"] == "tool":
        text = f"{turn['tool']}: {turn['outcome'] or 'not answered'}"
        _note(axes, at(turn["began_at"]), text, "soft" if turn["outcome"] == "done" else "bad", row=3)
        return
    role = "ai" if turn["role"] in ("ai", "tones") else "caller"
    y, colour = _LANES[role], _COLOURS[role]
    start = at(turn["began_at"])
    stop = at(turn["ended_at"]) if turn["ended_at"] else start + turn["heard_ms"] / 1000
    axes.barh(y, stop - start, left=start, height=2 * _HALF, color=colour, alpha=0.4, linewidth=0)
    unheard_s = (turn["spoken_ms"] - turn["heard_ms"]) / 1000
    if role == "ai" and unheard_s > 0.02:
        axes.barh(
            y,
            max(0.0, min(unheard_s, next_s - 0.1 - stop)),
            left=stop,
            height=1.6 * _HALF,
            facecolor="none",
            edgecolor=colour,
            linestyle="--",
            alpha=0.5,
        )
        heard = f"{turn['heard_ms'] / 1000:.1f} of {turn['spoken_ms'] / 1000:.1f} s heard"
        axes.text(start, y - _HALF - 0.02, f" {heard}", va="top", fontsize=7.5, color=colour)
    is_spoken = turn["role"] in ("ai", "caller")
    text = turn["heard_text"] or turn["text"] if is_spoken else f"{turn['role']}: {turn['text']}"
    room = int(max(stop - start, 1.0) * letters_per_s)
    text = text if len(text) <= room else text[: max(0, room - 1)] + "…"
    axes.text(start, y + _HALF + 0.02, f" {text}", va="bottom", clip_on=True)


def _latency(axes: Axes, parts: dict[str, int | None], answered_s: float, room: tuple[float, float]) -> float:
    """Above the AI's lane, a strip from the caller's last sound to the answer: a piece for each part.

    `room`: where the next strip begins, and the letters that a second holds. Returns where this strip begins.
    """
    whole_ms = sum(value or 0 for value in parts.values())
    began_s = left = answered_s - whole_ms / 1000
    y = _LANES["ai"] + _HALF + 0.2
    text, (end_s, letters_per_s) = latency(parts), room
    # Its letters are smaller than those of the lanes.
    if len(text) > (end_s - began_s) * letters_per_s * 1.25:
        text = f"{whole_ms} ms"
    axes.text(left, y + 0.03, text, va="bottom", fontsize=7.5, color=_COLOURS["soft"], clip_on=True)
    for name, colour in _PARTS.items():
        width = (parts[f"{name}_ms"] or 0) / 1000
        axes.barh(y, width, left=left, height=0.05, color=_COLOURS[colour], linewidth=0)
        left += width
    return began_s


def _dial(axes: Axes, dial: dict[str, Any], at: Any, length_s: float) -> None:
    """An attempt to connect the caller: a bar in the AI's lane, whose place the other person takes."""
    start, stop = at(dial["began_at"]), at(dial["ended_at"]) if dial["ended_at"] else length_s
    axes.barh(_LANES["ai"], stop - start, left=start, height=_HALF, color=_COLOURS["soft"], alpha=0.35, linewidth=0)
    left = ", the caller hung up" if dial["caller_left"] else ""
    text = f" {dial['to']}: {dial['outcome'] or 'outcome unknown'}{left}"
    axes.text(start, _LANES["ai"], text, va="center", fontsize=8, color=_COLOURS["soft"], clip_on=True)


def _note(axes: Axes, at_s: float, text: str, colour: str, *, row: int, left: bool = False) -> None:
    y = _LANES["events"] + 0.18 - 0.24 * row
    axes.plot([at_s, at_s], [y - 0.08, y + 0.08], color=_COLOURS[colour], linewidth=2)
    side = "right" if left else "left"
    axes.text(at_s, y, f" {text} ", color=_COLOURS[colour], va="center", ha=side, fontsize=8, clip_on=True)
