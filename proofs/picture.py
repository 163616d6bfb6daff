"""One call as a recording and a picture: `call.wav` and `timeline.png`.

The WAV has the caller on the left and, on the right, the AI as the ear heard it. Both are on the call's own time line,
so an overlap, a gap or a leftover is audible where it happened.
"""

from __future__ import annotations

import wave
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.audio import BYTE_NS, FRAME_MS, FRAME_NS, MULAW_TO_LINEAR, SILENCE
from simulator.carrier.call import CallRecord

from .spoken import Spoken, listen, read_sessions
from .verdict import TOLERANCE_MS, Gap, Interruption, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RATE: Final = 8_000
# Two colours for the AI, in turn from response to response; both differ from each other in grey, too.
_AI: Final = ("#2f6fb3", "#7aa6d6")
_CALLER: Final = "#4c9a6a"
_BAD: Final = "#c8352b"
_INK: Final = "#333a44"
_GRID: Final = "#dfe3e8"
_SHADE: Final = "#f2c14e"
_UNHEARD: Final = "#9aa3ad"
# Points of an envelope: more than the picture has columns.
_COLUMNS: Final = 2_400
# More notes of one kind would cover the picture.
_NOTES: Final = 12


def write_wav(call: CallRecord, path: Path) -> None:
    """The call from `start` to its end: 16-bit, 8 kHz, caller left, AI as heard right."""
    left, right = (_linear(line) for line in (caller_line(call), ear_line(call)))
    both = array("h", bytes(4 * len(left)))
    both[0::2] = left
    both[1::2] = right
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(both.tobytes())


def ear_line(call: CallRecord) -> bytes:
    """What the caller heard from `start` to the end of the call, mu-law, with silence where nothing was played."""
    line = _silent_line(call)
    offset = 0
    ear = call.ear
    for start_ns, size, heard in zip(ear.play_start_ns, ear.size_bytes, ear.heard_bytes, strict=True):
        _lay(line, call, start_ns, ear.audio[offset : offset + heard])
        offset += size
    return bytes(line)


def caller_line(call: CallRecord) -> bytes:
    """What the caller said from `start` to the end of the call, mu-law."""
    line = _silent_line(call)
    for said in call.said:
        _lay(line, call, said.at_ns, said.audio)
    return bytes(line)


def _silent_line(call: CallRecord) -> bytearray:
    return bytearray(SILENCE * max(0, (call.ended_ns - call.started_ns) // BYTE_NS))


def _lay(line: bytearray, call: CallRecord, at_ns: int, audio: bytes) -> None:
    """Put `audio` on the line at its time, cut at the line's ends."""
    at = (at_ns - call.started_ns + BYTE_NS // 2) // BYTE_NS
    audio = audio[max(0, -at) : max(0, len(line) - at)]
    at = max(0, at)
    line[at : at + len(audio)] = audio


def _linear(line: bytes) -> array[int]:
    return array("h", (MULAW_TO_LINEAR[code] for code in line))


def lateness(spoken: Sequence[Spoken]) -> Iterator[tuple[int, float]]:
    """(arrival_ns, ms) of each piece of speech: how late it came for the ear; negative: what the ear still held.

    A line that keeps its lead runs at minus the lead. Above 0 is the gap that the caller heard before this piece.
    """
    for item in spoken:
        free_ns = item.began_ns if item.heard else 0
        for piece in item.heard:
            gap_ns = piece.play_start_ns - free_ns
            yield piece.arrival_ns, (gap_ns if gap_ns > 0 else piece.arrival_ns - piece.play_start_ns) / 1e6
            free_ns = piece.play_end_ns


def write_timeline(
    call: CallRecord,
    sessions: Sequence[dict[str, Any]],
    verdict: Verdict,
    path: Path,
    *,
    lead_ms: int = 120,
    problems: Sequence[str] | None = None,
) -> None:
    """Draw the call: both voices, how far ahead each frame came, interruptions, gaps, and the verdict for this lead.

    `problems`: what to call broken; None: what the verdict does.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    spoken, _ = listen(call, read_sessions(sessions))
    if problems is None:
        problems = verdict.problems(lead_ms=lead_ms)
    seconds = max(1.0, (call.ended_ns - call.started_ns) / 1e9)
    with mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 9,
            "text.color": _INK,
            "axes.edgecolor": _GRID,
            "axes.labelcolor": _INK,
        }
    ):
        figure, (caller, ai, wire) = plt.subplots(
            3, 1, figsize=(_width_in(seconds), 7.2), sharex=True, height_ratios=(2, 2.6, 1.6)
        )
        _draw_caller(caller, call, sessions)
        _draw_ai(ai, call, spoken, verdict, lead_ms + FRAME_MS + TOLERANCE_MS)
        _draw_wire(wire, call, spoken, lead_ms)
        for axes in (caller, ai, wire):
            axes.set_xlim(0, seconds)
            axes.tick_params(colors=_INK, length=0)
            axes.grid(axis="x", color=_GRID, linewidth=0.6)
            axes.set_axisbelow(True)
            for side in ("top", "right", "left"):
                axes.spines[side].set_visible(False)
            _shade(axes, call, verdict)
        wire.set_xlabel("seconds since the call was answered")
        _title(figure, verdict, problems)
        figure.savefig(path, dpi=110, facecolor="white")
        plt.close(figure)


def _width_in(seconds: float) -> float:
    return min(32.0, max(13.0, seconds * 0.4))


def _title(figure: Any, verdict: Verdict, problems: Sequence[str]) -> None:
    silence = verdict.silence_max_ms
    figures = [
        f"{len(verdict.gaps)} gaps",
        f"history error {verdict.history_error_ms} ms",
        "no interruption" if silence is None else f"silent {silence:.0f} ms after an interruption at most",
        "nothing heard" if verdict.first_audio_ms is None else f"first audio after {verdict.first_audio_ms:.0f} ms",
    ]
    head = f"{len(problems)} broken promise{'s' * (len(problems) > 1)}" if problems else "Every promise held"
    figure.text(0.055, 0.955, head, fontsize=15, fontweight="bold", color=_BAD if problems else _INK)
    for line, text in enumerate(problems[:2] or ["   ·   ".join(figures)]):
        figure.text(0.055, 0.922 - 0.026 * line, text if len(text) < 150 else text[:147] + "...", fontsize=10)
    figure.subplots_adjust(left=0.055, right=0.99, top=0.88, bottom=0.08, hspace=0.12)


def _draw_caller(axes: Axes, call: CallRecord, sessions: Sequence[dict[str, Any]]) -> None:
    _waveform(axes, caller_line(call), 0, _CALLER)
    _row(axes, "caller")
    for session in read_sessions(sessions):
        for each in session.speech:
            start = (each.started_ns - call.started_ns) / 1e9
            stop = ((each.stopped_ns or call.ended_ns) - call.started_ns) / 1e9
            axes.plot([start, stop], [-1.12, -1.12], color=_CALLER, linewidth=3, solid_capstyle="butt")
            axes.plot([start, start], [-1.12, 1.05], color=_CALLER, linewidth=1, linestyle=(0, (2, 2)))
    for said in call.said:
        if said.name:
            axes.text((said.at_ns - call.started_ns) / 1e9, 1.1, said.name, fontsize=8, color=_CALLER, va="bottom")
    axes.text(
        0.995, 0.03, "bar: from speech_started to speech_stopped", transform=axes.transAxes,
        fontsize=7.5, color=_UNHEARD, ha="right", va="bottom",
    )  # fmt: skip


def _draw_ai(axes: Axes, call: CallRecord, spoken: Sequence[Spoken], verdict: Verdict, limit_ms: int) -> None:
    line = ear_line(call)
    _row(axes, "AI, as heard")
    responses = list(dict.fromkeys(item.response.id for item in spoken if item.heard))
    for item in spoken:
        if not item.heard:
            continue
        colour = _AI[responses.index(item.response.id) % 2]
        start, stop = item.began_ns - call.started_ns, item.ended_ns - call.started_ns
        _waveform(axes, line[start // BYTE_NS : stop // BYTE_NS], start / 1e9, colour)
        label = f"{responses.index(item.response.id) + 1}"
        if stop - start > 2e9:
            label += f"   {item.heard_bytes / _RATE:.1f} s"
            if item.heard_bytes < len(item.coverage):
                label += f" of {len(item.coverage) / _RATE:.1f} s"
        axes.axvspan(start / 1e9, stop / 1e9, color=colour, alpha=0.08, linewidth=0)
        axes.axvline(start / 1e9, color=colour, linewidth=0.8)
        axes.text(start / 1e9, 1.1, f" {label}", fontsize=8, color=colour, va="bottom", clip_on=True)
    gaps = [_draw_gap(axes, call, gap) for gap in verdict.gaps]
    interruptions = [_draw_interruption(axes, call, each, limit_ms) for each in verdict.interruptions]
    _write_notes(axes, gaps[:_NOTES] + interruptions[:_NOTES], max(1.0, len(line) / _RATE))


# A line below the AI's voice: when, what, and whether it is bad.
_Note = tuple[float, str, bool]


def _draw_gap(axes: Axes, call: CallRecord, gap: Gap) -> _Note:
    at = (gap.at_ns - call.started_ns) / 1e9
    axes.axvspan(at, at + gap.ms / 1e3, color=_BAD, alpha=0.85, linewidth=1)
    return at, f"gap of {gap.ms:.0f} ms", True


def _draw_interruption(axes: Axes, call: CallRecord, interruption: Interruption, limit_ms: int) -> _Note:
    if interruption.effective_ns is None:
        return (interruption.at_ns - call.started_ns) / 1e9, "protected: plays on", False
    start = (interruption.effective_ns - call.started_ns) / 1e9
    stop = start + interruption.silence_ms / 1e3
    is_late = interruption.leftover_ms(limit_ms) > 0
    axes.axvspan(start, stop, color=_BAD if is_late else _SHADE, alpha=0.55, linewidth=0)
    axes.axvline(start, color=_INK, linewidth=1.2)
    return start, f"interrupted: silent after {interruption.silence_ms:.0f} ms", is_late


def _write_notes(axes: Axes, notes: list[_Note], seconds: float) -> None:
    """Write the notes in two lines, so that neighbours do not overlap."""
    letter_s = seconds / _width_in(seconds) * 0.075
    ends = [0.0, 0.0]
    for at, text, is_bad in sorted(notes):
        row = 0 if at >= ends[0] or ends[0] <= ends[1] else 1
        ends[row] = at + letter_s * (len(text) + 2)
        colour = _BAD if is_bad else _INK
        axes.text(at, -1.1 - 0.25 * row, f" {text}", fontsize=8, color=colour, va="top", fontweight="bold")


def _draw_wire(axes: Axes, call: CallRecord, spoken: Sequence[Spoken], lead_ms: int) -> None:
    points = list(lateness(spoken))
    axes.set_ylabel("ms late for the ear", fontsize=9)
    # A frame that is due fills the lead: its first sample lies a frame before the lead's end.
    low = FRAME_MS - lead_ms
    axes.axhline(low, color=_UNHEARD, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.text(0.003, low + 3, "due: the lead", transform=axes.get_yaxis_transform(), fontsize=7.5, color=_UNHEARD)
    y = [ms for _, ms in points]
    colours = [_BAD if ms > 0 else _AI[0] for ms in y]
    sizes = [16 if colour == _BAD else 3 for colour in colours]
    axes.axhline(0, color=_BAD, linewidth=0.8, zorder=1)
    axes.scatter(
        [(at_ns - call.started_ns) / 1e9 for at_ns, _ in points], y, s=sizes, c=colours, linewidths=0, zorder=2
    )
    note = "each dot is a frame as it came in; above the red line it comes too late, and the caller hears a gap"
    axes.text(0.995, 0.97, note, transform=axes.transAxes, fontsize=7.5, color=_UNHEARD, ha="right", va="top")
    axes.set_ylim(min([low, *y]) - 20, max(40.0, max(y, default=0) + 30))


def _shade(axes: Axes, call: CallRecord, verdict: Verdict) -> None:
    """The protected part of the greeting."""
    greeting = verdict.greeting
    if greeting is not None and greeting.protected_until_ns:
        start, stop = ((at_ns - call.started_ns) / 1e9 for at_ns in (greeting.began_ns, greeting.protected_until_ns))
        axes.axvspan(start, stop, color=_SHADE, alpha=0.18, linewidth=0, zorder=0)


def _row(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, fontsize=10, fontweight="bold")
    axes.set_yticks([])
    axes.set_ylim(-1.62, 1.4)


def _waveform(axes: Axes, line: bytes, start_s: float, colour: str) -> None:
    """The envelope of a stretch of audio: loudest and lowest sample of each column."""
    if not line:
        return
    samples = _linear(line)
    step = max(1, min(len(samples) // _COLUMNS, FRAME_NS // BYTE_NS))
    columns = range(0, len(samples), step)
    top = [max(samples[at : at + step]) / 32_768 for at in columns]
    low = [min(samples[at : at + step]) / 32_768 for at in columns]
    scale = 1 / max(0.25, *top, *(-value for value in low))
    x = [start_s + at / _RATE for at in columns]
    axes.fill_between(
        x, [value * scale for value in low], [value * scale for value in top], color=colour, linewidth=0.4
    )
