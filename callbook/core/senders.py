"""The live senders of facts in the cell. Times are ns, monotonic."""

from __future__ import annotations

from shared.liveness import FACTS_SILENT_S, ns

_SILENT_NS = ns(FACTS_SILENT_S)


class Senders:
    """Call `heard` with a sender and its epoch (the source of its facts) for each of its batches."""

    def __init__(self) -> None:
        # By name: the epoch, and when the sender was heard last.
        self._senders: dict[str, tuple[int, int]] = {}

    def heard(self, name: str, epoch: int, now_ns: int) -> None:
        self._senders[name] = (epoch, now_ns)

    def left(self, name: str) -> None:
        self._senders.pop(name, None)

    def silent(self, now_ns: int) -> list[str]:
        """Forget the senders that are gone without taking leave. Returns their names."""
        gone = [name for name, (_, heard_ns) in self._senders.items() if now_ns - heard_ns > _SILENT_NS]
        for name in gone:
            del self._senders[name]
        return gone

    def sources(self) -> set[int]:
        """The epochs of the live senders."""
        return {epoch for epoch, _ in self._senders.values()}
