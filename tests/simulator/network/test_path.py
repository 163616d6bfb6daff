"""One direction of a path: delays, order, losses, bursts and stalls, by seed."""

from __future__ import annotations

from simulator.network.path import Path, PathBehaviour

MS = 1_000_000


def fates(behaviour: PathBehaviour, *, seed: int = 1, packets: int = 10_000, every_ms: int = 20) -> list[int | None]:
    path = Path(behaviour, seed=seed)
    return [path.carry(n * every_ms * MS) for n in range(packets)]


def test_the_default_path_delivers_at_once():
    assert fates(PathBehaviour(), packets=3) == [0, 20 * MS, 40 * MS]


def test_one_seed_gives_one_fate():
    behaviour = PathBehaviour(delay_ms=60, jitter_ms=30, loss=0.02)
    assert fates(behaviour, seed=7) == fates(behaviour, seed=7)
    assert fates(behaviour, seed=7) != fates(behaviour, seed=8)


def test_jitter_delays_packets_and_never_lets_one_overtake_another():
    arrivals = [each for each in fates(PathBehaviour(delay_ms=60, jitter_ms=90)) if each is not None]
    assert arrivals == sorted(arrivals)
    delays = [at - n * 20 * MS for n, at in enumerate(arrivals)]
    assert min(delays) >= 60 * MS
    assert max(delays) <= 150 * MS


def test_the_share_of_lost_packets_is_what_was_asked_for():
    lost = fates(PathBehaviour(loss=0.01)).count(None)
    assert 60 < lost < 140


def test_a_burst_takes_packets_in_a_row():
    gone = [each is None for each in fates(PathBehaviour(loss=0.003, burst_packets=8))]
    runs = "".join("x" if each else " " for each in gone).split()
    assert len(runs) > 10
    assert all(len(run) % 8 == 0 or run is runs[-1] for run in runs)


def test_loss_is_the_same_with_and_without_jitter():
    plain = [each is None for each in fates(PathBehaviour(loss=0.05))]
    assert plain == [each is None for each in fates(PathBehaviour(loss=0.05, jitter_ms=10))]


def test_a_stall_holds_packets_until_its_end_and_comes_again():
    behaviour = PathBehaviour(stall_ms=400, stall_every_ms=8_000)
    path = Path(behaviour, seed=1)
    assert path.carry(100 * MS) == 100 * MS, "the first stall comes after one period"
    assert path.carry(8_100 * MS) == 8_400 * MS
    assert path.carry(8_399 * MS) == 8_400 * MS
    assert path.carry(8_401 * MS) == 8_401 * MS
    assert path.carry(16_000 * MS) == 16_400 * MS
