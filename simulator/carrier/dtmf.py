"""What a carrier's receiver makes of the tones of telephone keys (DTMF) in an ear's audio.

It decides as ITU-T Q.24 lets a receiver decide, at the strict end of the table there: frequencies within 1.5 % are
accepted and beyond 3.5 % refused, levels from -25 to 0 dBm0, the higher tone up to 4 dB above the lower one and down to
8 dB below it. A tone is a key when it lasts 40 ms and none when it is over after 23 ms; two equal keys have a pause
between them, and an interruption of 10 ms is none.

The audio is examined in blocks of 12.75 ms, each half over the one before (Goertzel's algorithm as a sum). The phase of
a tone from block to block tells its frequency exactly.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import mul
from typing import Final

from shared.audio import BYTES_PER_MS, MULAW_TO_LINEAR, SILENCE

LOW_HZ: Final = (697, 770, 852, 941)
HIGH_HZ: Final = (1209, 1336, 1477, 1633)
KEYS: Final = ("123A", "456B", "789C", "*0#D")
RATE: Final = 8_000
BLOCK: Final = 102
STEP: Final = BLOCK // 2
# A key has this many blocks of tone, and ends with so many without it. A block counts when most of it is tone.
LEAST_BLOCKS: Final = 5
PAUSE_BLOCKS: Final = 4
# Half way between what has to be accepted and what has to be refused.
OFF_MAX: Final = 0.025
LEVELS_DBM0: Final = (-25.0, 0.0)
# Of the higher tone against the lower one.
TWIST_DB: Final = (-8.0, 4.0)
# The other frequencies of the group are this far below, and the rest of the signal is this far below both together.
OTHERS_DB: Final = 8.0
REST_DB: Final = 3.0
# A sine of 3.17 dBm0 has this amplitude (ITU-T G.711).
_LOUDEST: Final = 32_636
_LOUDEST_DBM0: Final = 3.17

_WAVES: Final = tuple(
    tuple(tuple(wave(math.tau * hz * at / RATE) for at in range(BLOCK)) for wave in (math.cos, math.sin))
    for hz in (*LOW_HZ, *HIGH_HZ)
)


@dataclass(frozen=True)
class Tone:
    """One key, as it was received. `low_off` and `high_off`: how far the frequencies are off, as a share."""

    key: str
    began_ms: float
    ended_ms: float
    low_dbm0: float
    high_dbm0: float
    low_off: float
    high_off: float


@dataclass(frozen=True)
class _Block:
    number: int
    row: int
    column: int
    # The two tones, as complex amplitudes that stand still when the frequency is exact.
    low: complex
    high: complex


def decode(audio: bytes) -> str:
    """The keys in mu-law audio."""
    return "".join(tone.key for tone in tones(audio))


def tones(audio: bytes) -> list[Tone]:
    """The keys in mu-law audio, with their measures."""
    found: list[Tone] = []
    for run in _runs(audio):
        tone = _measure(run)
        if abs(tone.low_off) <= OFF_MAX and abs(tone.high_off) <= OFF_MAX:
            found.append(tone)
    return found


def _runs(audio: bytes) -> Iterator[list[_Block]]:
    """The blocks of each key."""
    run: list[_Block] = []
    for number in range((len(audio) - BLOCK) // STEP + 1):
        block = _block(number, audio[number * STEP : number * STEP + BLOCK])
        is_over = bool(run) and number - run[-1].number > PAUSE_BLOCKS
        is_other = block is not None and bool(run) and (block.row, block.column) != (run[-1].row, run[-1].column)
        if is_over or is_other:
            if len(run) >= LEAST_BLOCKS:
                yield run
            run = []
        if block is not None:
            run.append(block)
    if len(run) >= LEAST_BLOCKS:
        yield run


def _block(number: int, samples: bytes) -> _Block | None:
    """The pair of tones in a block; None: there is none."""
    energy, amplitudes = _spectrum(samples)
    if not energy:
        return None
    turned = [
        each * cmath.exp(-1j * math.tau * hz * number * STEP / RATE)
        for each, hz in zip(amplitudes, (*LOW_HZ, *HIGH_HZ), strict=True)
    ]
    row, column = _strongest(turned[:4]), _strongest(turned[4:])
    if row is None or column is None:
        return None
    low, high = turned[row], turned[4 + column]
    levels = (dbm0(abs(low)), dbm0(abs(high)))
    both = (abs(low) ** 2 + abs(high) ** 2) / 2 * BLOCK
    is_pair = (
        all(LEVELS_DBM0[0] <= level <= LEVELS_DBM0[1] for level in levels)
        and TWIST_DB[0] <= levels[1] - levels[0] <= TWIST_DB[1]
        and energy - both < both / 10 ** (REST_DB / 10)
    )
    return _Block(number, row, column, low, high) if is_pair else None


@lru_cache(maxsize=65_536)
def _spectrum(samples: bytes) -> tuple[float, tuple[complex, ...]]:
    """The energy of a block, and the complex amplitude of each frequency in it."""
    if samples == SILENCE * BLOCK:
        return 0.0, ()
    linear = [MULAW_TO_LINEAR[code] for code in samples]
    energy = float(sum(map(mul, linear, linear)))
    sums = (complex(sum(map(mul, linear, cos)), -sum(map(mul, linear, sin))) for cos, sin in _WAVES)
    return energy, tuple(each * 2 / BLOCK for each in sums)


def _strongest(group: Sequence[complex]) -> int | None:
    """The frequency of a group that stands out."""
    by_level = sorted(range(4), key=lambda at: abs(group[at]), reverse=True)
    first, second = abs(group[by_level[0]]), abs(group[by_level[1]])
    return by_level[0] if first > second * 10 ** (OTHERS_DB / 20) else None


def _measure(run: Sequence[_Block]) -> Tone:
    row, column = run[0].row, run[0].column
    # The first and the last block may hold only a part of the tone.
    whole = run[1:-1]
    began_ms, ended_ms = ((each.number * STEP + BLOCK // 2) / BYTES_PER_MS for each in (run[0], run[-1]))
    return Tone(
        KEYS[row][column],
        began_ms,
        ended_ms,
        dbm0(sum(abs(each.low) for each in whole) / len(whole)),
        dbm0(sum(abs(each.high) for each in whole) / len(whole)),
        _off([(each.number, each.low) for each in run], LOW_HZ[row]),
        _off([(each.number, each.high) for each in run], HIGH_HZ[column]),
    )


def _off(amplitudes: Sequence[tuple[int, complex]], hz: int) -> float:
    """How far a tone is from its frequency: the turn of its phase from block to block."""
    turns = [
        cmath.phase(later * earlier.conjugate()) / (at - before)
        for (before, earlier), (at, later) in pairwise(amplitudes)
    ]
    per_block = sorted(turns)[len(turns) // 2]
    return per_block / math.tau * RATE / STEP / hz


def dbm0(amplitude: float) -> float:
    """The level of a sine of this amplitude, in 16-bit samples."""
    return _LOUDEST_DBM0 + 20 * math.log10(max(amplitude, 1e-9) / _LOUDEST)
