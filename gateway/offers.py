"""Taking a call: a place, a worker that will hold the conversation, and the token that its media socket has to show."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic_ns

from shared.messages import CallOffered

from .core.admission import Admission, Answer
from .core.cell import Cell
from .core.chronicle import Chronicle
from .core.limits import Lateness
from .core.tokens import Tokens
from .media import MediaSockets
from .metrics import Metrics
from .peers import Peers


@dataclass(frozen=True)
class Caller:
    """Who calls, as the carrier says. The numbers may be empty."""

    call_sid: str
    account_sid: str
    from_number: str = ""
    to_number: str = ""


class Offers:
    """Answers from memory, for whoever asks for a call: Twilio's webhook and the browser phone."""

    def __init__(
        self,
        *,
        admission: Admission,
        cell: Cell,
        tokens: Tokens,
        peers: Peers,
        media: MediaSockets,
        metrics: Metrics,
        chronicle: Chronicle,
        lateness: Lateness,
    ) -> None:
        self._admission = admission
        self._cell = cell
        self._tokens = tokens
        self._peers = peers
        self._media = media
        self._metrics = metrics
        self._chronicle = chronicle
        self._lateness = lateness

    def take(self, caller: Caller, *, resumed: bool = False, worker: int | None = None) -> tuple[Answer, str]:
        """What to answer, and with CONNECT the stream token; aibridge dials the model ahead from then on.

        `worker` is the one that holds the conversation of a call that comes back; another one takes it if that is gone.
        """
        now_ns = monotonic_ns()
        home = self._cell.home(caller.call_sid) if resumed else None
        worker = worker if home is None else home
        # One that comes back is live, and has the time that live calls have.
        if self._media.draining and not resumed and not self._cell.another_gateway_takes_calls(now_ns):
            worker = None
        elif worker is None or not self._cell.worker_is_ready(worker, now_ns):
            worker = self._cell.pick(now_ns)
        source = self._tokens.source(caller.from_number)
        answer, why = self._admission.answer(
            caller.call_sid,
            source=source,
            resumed=resumed,
            ready=worker is not None,
            late=self._lateness.is_full(now_ns),
            cell_calls=self._cell.calls(now_ns),
            now_ns=now_ns,
        )
        self._metrics.voice_answers[answer].inc()
        if why is not None:
            self._metrics.fallbacks[why].inc()
        if answer is not Answer.CONNECT or worker is None:
            return answer, ""
        token, token_id = self._tokens.mint(worker, caller.call_sid, caller.account_sid, now_ns, source)
        self._admission.offered(caller.call_sid, now_ns, source)
        self._cell.offered(worker)
        self._chronicle.expect(
            caller.call_sid,
            account_sid=caller.account_sid,
            from_number=caller.from_number,
            to_number=caller.to_number,
            resumed=resumed,
            now_ns=now_ns,
        )
        self._peers.bridges[worker].post(
            CallOffered(token_id, caller.call_sid, caller.from_number, caller.to_number, resumed)
        )
        return answer, token
