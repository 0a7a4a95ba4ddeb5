"""What a worker does when it is told to cancel, signal, freeze or thaw a job that it runs."""

from __future__ import annotations

import signal
import time

from queuectl.domain.job import Ending
from queuectl.service.orders import Action, Order
from queuectl.worker.ahead import Ahead
from queuectl.worker.events import EventLog
from queuectl.worker.running import Running
from queuectl.worker.slots import Slots


def obey(order: Order, slots: Slots, ahead: Ahead, log: EventLog) -> None:
    """Carry out an order; one for a job that has ended meanwhile is nothing to do."""
    run = slots.find(order.mark)
    if run is not None:
        _apply(order, run, slots.worker_id)
        did = _describe(order)
        log.emit(f"job-{order.action}", f"job {run.claim.id} is {did}", job=run.claim.id)
    elif order.action is Action.CANCEL:
        ahead.withdraw(order.mark)


def _apply(order: Order, run: Running, worker_id: str) -> None:
    match order.action:
        case Action.CANCEL:
            run.terminate(Ending.CANCELLED, time.monotonic())
        case Action.FREEZE:
            run.freeze(worker_id)
        case Action.THAW:
            run.thaw(worker_id)
        case Action.SIGNAL:
            run.send(order.signal or signal.SIGTERM)


def _describe(order: Order) -> str:
    match order.action:
        case Action.CANCEL:
            return "cancelled: ends it"
        case Action.FREEZE:
            return "frozen"
        case Action.THAW:
            return "thawed"
        case Action.SIGNAL:
            return f"sent {signal.Signals(order.signal or signal.SIGTERM).name}"
