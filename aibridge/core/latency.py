"""The time from the caller's last sound to the answer's first sample at the ear, split into its parts. Pure.

    caller's last sound            (at the caller's phone)
      | carrier     half of the round trip between carrier and gateway
    it arrives here
      | detection   the model waits for more, and its report travels
    the model reports the silence
      | model       it makes the answer; tools that it calls first are included
    the first delta arrives
      | line        our own share: worker, pacer, and whatever the line still has to pace
    the first frame is paced
      | network     half of the round trip, and what the ear still plays of earlier speech
    the ear begins to play it

What the phone network adds between carrier and phone cannot be seen from here.
"""

from __future__ import annotations

from typing import NamedTuple


class Latency(NamedTuple):
    """The parts in order, in ns. Before the first answered ping, `carrier_ns` is -1 and `network_ns` lacks the path."""

    carrier_ns: int
    detection_ns: int
    model_ns: int
    line_ns: int
    network_ns: int


def split(
    *, last_sound_ns: int, silent_ns: int, first_delta_ns: int, ear_ns: int, ahead_ns: int, round_trip_ns: int
) -> Latency | None:
    """The parts for one answer; None when its speech began before the caller fell silent.

    `last_sound_ns`: when the caller's last sound came to the gateway. `silent_ns`: when the model reported it.
    `ear_ns`: when the ear begins to play the answer, and `ahead_ns`, how long before that its first frame was paced.
    `round_trip_ns`: of the path; 0: unknown.
    """
    if first_delta_ns < silent_ns:
        return None
    way_ns = round_trip_ns // 2
    return Latency(
        way_ns if round_trip_ns else -1,
        max(0, silent_ns - last_sound_ns),
        first_delta_ns - silent_ns,
        max(0, ear_ns - ahead_ns - first_delta_ns),
        ahead_ns + way_ns,
    )
