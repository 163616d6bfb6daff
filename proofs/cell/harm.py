"""Harm to a virtual cell: the same acts as the nemesis does to a real one, with the same record."""

from __future__ import annotations

from dataclasses import replace

from proofs.acts import Act, Deed

from .cell import PACER_RESTART_MS, RESTART_MS, Cell
from .clock import Process
from .phone import Phone


def harm(cell: Cell, act: Act) -> Deed:
    """Do the act now. A killed process restarts as fast as under its supervisor; txpacer's standby is there sooner."""
    phones = [phone for phone in cell.phones.values() if not phone.is_over]
    began_ns = cell.now_ns
    deed = Deed(act, began_ns, began_ns + int(act.seconds * 1e9))
    if not phones:
        return replace(deed, failure="(there was no call)")
    if act.kind in ("kill", "stop"):
        process = _process(cell, act)
        victims = [phone.call_sid for phone in phones if _holds(cell, process, phone)]
        if act.kind == "stop":
            process.stop(act.seconds * 1_000)
        else:
            process.kill(PACER_RESTART_MS if process is cell.pacer else RESTART_MS)
        return replace(deed, victims=tuple(victims))
    phone = phones[act.which % len(phones)]
    deed = replace(deed, victims=(phone.call_sid,))
    if act.target == "model" and act.kind == "lose":
        cell.model.drop(phone.call_sid)
    elif act.target == "model":
        cell.model.leave_unread(phone.call_sid, act.seconds * 1_000)
    elif phone.socket is None:
        return replace(deed, failure="(it had no socket)")
    elif act.kind == "lose":
        phone.socket.abort()
    else:
        phone.socket.leave_unread(act.seconds * 1_000)
    return deed


def _process(cell: Cell, act: Act) -> Process:
    of: dict[str, list[Process]] = {
        "gateway": [*cell.gateways],
        "aibridge": [*cell.workers],
        "txpacer": [cell.pacer],
    }
    living = [process for process in of[act.target] if process.is_alive] or of[act.target]
    return living[act.which % len(living)]


def _holds(cell: Cell, process: Process, phone: Phone) -> bool:
    """Whether the process has this call. A call that no process has yet may be about to get this one."""
    if process is cell.pacer:
        return True
    if process in cell.gateways:
        return phone.socket is None or phone.socket.gateway is process
    holders = [
        worker
        for worker in cell.workers
        if any(call.call_sid == phone.call_sid for call in worker.calls.by_number.values())
    ]
    return not holders or process in holders
