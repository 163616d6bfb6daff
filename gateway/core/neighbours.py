"""The processes that a gateway depends on: which of them answer, which are ready, which has the fewest calls."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from shared.liveness import PEER_SILENT_S, ns

SILENT_NS: Final = ns(PEER_SILENT_S)
# Calls remembered after a worker took them over: several times those of a busy cell.
HOMES_MAX: Final = 10_000


@dataclass
class _Worker:
    ready: bool = False
    # The worker's last report plus this gateway's later offers. The report includes the calls of other gateways.
    calls: int = 0
    seen_ns: int | None = None
    epoch: int = 0
    other_gateways: int = 0


class Neighbours:
    """txpacer and the aibridge workers of the cell, as their last answers tell. Times are monotonic ns."""

    def __init__(self, workers: int) -> None:
        self._workers = [_Worker() for _ in range(workers)]
        self._pacer_seen_ns: int | None = None
        self._pacer_epoch: int | None = None
        # By CallSid, oldest first.
        self._homes: OrderedDict[str, int] = OrderedDict()

    def worker_answered(
        self, worker: int, *, ready: bool, calls: int, now_ns: int, epoch: int = 0, other_gateways: int = 0
    ) -> bool:
        """True when the worker restarted since its last answer, so its calls are gone."""
        before = self._workers[worker]
        self._workers[worker] = _Worker(ready, calls, now_ns, epoch, other_gateways)
        return before.seen_ns is not None and before.epoch != epoch

    def pacer_answered(self, epoch: int, now_ns: int) -> bool:
        """True when another txpacer answers than before, so the lines are gone."""
        restarted = self._pacer_epoch is not None and epoch != self._pacer_epoch
        self._pacer_epoch = epoch
        self._pacer_seen_ns = now_ns
        return restarted

    def pacer_is_there(self, now_ns: int) -> bool:
        return _recent(self._pacer_seen_ns, now_ns)

    def adopted(self, call_sid: str, worker: int) -> None:
        """`worker` took this call over from another worker."""
        self._homes.pop(call_sid, None)
        self._homes[call_sid] = worker
        if len(self._homes) > HOMES_MAX:
            self._homes.popitem(last=False)

    def home(self, call_sid: str) -> int | None:
        """The worker that took this call over, if one did."""
        return self._homes.get(call_sid)

    def worker_is_there(self, worker: int, now_ns: int) -> bool:
        return 0 <= worker < len(self._workers) and _recent(self._workers[worker].seen_ns, now_ns)

    def another_worker(self, worker: int, now_ns: int) -> int | None:
        """A worker beside this one; None when no other answers."""
        others = (number for number in range(len(self._workers)) if number != worker)
        return next((number for number in others if self.worker_is_there(number, now_ns)), None)

    def worker_is_ready(self, worker: int, now_ns: int) -> bool:
        return self.worker_is_there(worker, now_ns) and self._workers[worker].ready

    def everyone_is_there(self, now_ns: int) -> bool:
        return self.pacer_is_there(now_ns) and all(_recent(worker.seen_ns, now_ns) for worker in self._workers)

    def someone_is_there(self, now_ns: int) -> bool:
        """False when the rest of the cell is gone."""
        return self.pacer_is_there(now_ns) or any(_recent(worker.seen_ns, now_ns) for worker in self._workers)

    def another_gateway_takes_calls(self, now_ns: int) -> bool:
        """Whether any live worker knows another gateway that takes calls."""
        return any(worker.other_gateways and _recent(worker.seen_ns, now_ns) for worker in self._workers)

    def ready_workers(self, now_ns: int) -> int:
        return sum(self.worker_is_ready(worker, now_ns) for worker in range(len(self._workers)))

    def missing(self, now_ns: int) -> list[str]:
        """What keeps this cell from taking calls, in words; empty when nothing does."""
        missing = []
        if not self.pacer_is_there(now_ns):
            missing.append("txpacer does not answer")
        if not self.ready_workers(now_ns):
            anyone = any(self.worker_is_there(worker, now_ns) for worker in range(len(self._workers)))
            missing.append("no aibridge worker is ready" if anyone else "no aibridge worker answers")
        return missing

    def pick(self, now_ns: int) -> int | None:
        """The ready worker with the fewest calls; None when no call can be taken."""
        if not self.pacer_is_there(now_ns):
            return None
        ready = [worker for worker in range(len(self._workers)) if self.worker_is_ready(worker, now_ns)]
        return min(ready, key=lambda worker: self._workers[worker].calls, default=None)

    def calls(self, now_ns: int) -> int:
        """The calls and offers of all gateways, as the workers count them."""
        return sum(worker.calls for worker in self._workers if _recent(worker.seen_ns, now_ns))

    def offered(self, worker: int) -> None:
        """Count a call that `worker` will include in its next report."""
        self._workers[worker].calls += 1


def _recent(seen_ns: int | None, now_ns: int) -> bool:
    return seen_ns is not None and now_ns - seen_ns < SILENT_NS
