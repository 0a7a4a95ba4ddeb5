"""Rescue: find workers of this machine that died, end what they left, and take their jobs back."""

from __future__ import annotations

import os
from collections.abc import Container
from contextlib import ExitStack

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.service import rescues
from queuectl.settings import StoreLocation
from queuectl.worker import processes


def rescue_dead(store: Store, suspects: rescues.Suspects | None = None) -> list[str]:
    """Take the jobs of dead workers back; return the jobs' ids.

    A worker of this machine is dead when the lock on its file can be taken; of one elsewhere, its
    lease decides, when the jobs are taken back. The lock is held while its processes are
    killed and its jobs are taken back, so that of two rescuers one does it, and the order stands:
    first no process is left, then the jobs may run again. Raises StoreError.
    """
    with ExitStack() as held:
        dead = []
        started = {}
        here = presence.neighbourhood(store.location)
        if suspects is None:
            suspects = rescues.suspects(store)
        for worker_id, place in suspects.near.items():
            if worker_id == os.environ.get(processes.MARK_WORKER):
                continue  # this is a command of that worker's: it would kill itself
            lock = presence.take(store.location, worker_id, create=False)
            if lock is None:
                continue
            gone = processes.end_marked(worker_id)
            held.callback(lock.release, remove=gone)
            if gone:
                dead.append(worker_id)
                noted = lock.noted()
                # What was noted before a power cut may not have reached the disk.
                if noted is not None and place == here:
                    started[worker_id] = noted
        if store.is_shared:
            _clear_away(store.location, suspects.near)
        if not dead and not suspects.orphaned and suspects.expired_by is None:
            return []
        return rescues.rescue(store, dead, started=started, expired_by=suspects.expired_by)


def end_left(location: StoreLocation, ended: set[str]) -> None:
    """End what dead workers of this machine left, without asking the store.

    Where several machines share the store, others start those jobs when the leases are over,
    whether the store is in reach from here or not. What is taken back comes later, by
    ``rescue_dead``. ``ended`` has the workers of whom nothing is left, and is added to.
    """
    for worker_id in presence.find_loose(location):
        if worker_id not in ended and _end_left_by(location, worker_id, remove=False):
            ended.add(worker_id)


def _clear_away(location: StoreLocation, alive: Container[str]) -> None:
    """End what those left whose jobs another machine has taken back already."""
    for worker_id in presence.find_loose(location):
        if worker_id not in alive:
            _end_left_by(location, worker_id, remove=True)


def _end_left_by(location: StoreLocation, worker_id: str, *, remove: bool) -> bool:
    """Return whether nothing of a dead worker is left; with ``remove``, its file goes then."""
    if worker_id == os.environ.get(processes.MARK_WORKER):
        return False  # this is a command of that worker's: it would kill itself
    lock = presence.take(location, worker_id, create=False)
    if lock is None:
        return False  # somebody else is at it
    gone = processes.end_marked(worker_id)
    lock.release(remove=remove and gone)
    return gone
