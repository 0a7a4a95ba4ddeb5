"""What the keys do to the store: each does what the command of that name does, and says so.

All raise what the services raise: NotFound, Conflict, StoreError.
"""

from __future__ import annotations

from collections.abc import Iterable

from queuectl.db import engine
from queuectl.domain import job as domain
from queuectl.domain import selection as domain_selection
from queuectl.service import cancelling, headcount, orders, queues, requeueing, selection


def pause(store: engine.Store, name: str) -> str:
    """Let nothing more of a queue be started."""
    [change] = queues.pause(store, [name])
    running = f"; {change.running} running of it go on" if change.running else ""
    return f"queue {name} {'is paused' if change.changed else 'was paused before'}{running}"


def resume(store: engine.Store, name: str) -> str:
    """Let jobs of a paused queue start again."""
    [change] = queues.resume(store, [name])
    return f"queue {name} {'is resumed' if change.changed else 'was not paused'}"


def cancel(store: engine.Store, job_id: str) -> str:
    """Cancel a job that waits or runs."""
    done = cancelling.cancel(store, _choose(store, job_id, domain.LIVE, "cancelled"))
    if not done:
        return f"job {job_id} has ended meanwhile"
    if done[0].runs:
        return f"job {job_id} is being cancelled: its worker ends it now"
    return f"job {job_id} is cancelled"


def retry(store: engine.Store, job_id: str) -> str:
    """Queue a job again that has ended."""
    chosen = _choose(store, job_id, domain.FINISHED, "queued again")
    if not requeueing.retry(store, chosen).ids:
        return f"job {job_id} is queued already"
    if not headcount.count_alive(store):
        return f"job {job_id} is queued again; no worker is running"
    return f"job {job_id} is queued again"


def freeze(store: engine.Store, job_id: str) -> str:
    """Stop the processes of a running job."""
    orders.freeze(store, _choose(store, job_id, (domain.State.PROCESSING,), "frozen"))
    return f"job {job_id} is frozen"


def thaw(store: engine.Store, job_id: str) -> str:
    """Let a frozen job go on."""
    orders.thaw(store, _choose(store, job_id, (domain.State.PROCESSING,), "thawed"))
    return f"job {job_id} goes on"


def _choose(
    store: engine.Store, job_id: str, among: Iterable[domain.State], verb: str
) -> list[domain_selection.Chosen]:
    named = domain_selection.Selection(references=(job_id,))
    return selection.choose(store, named, among=among, verb=verb)
