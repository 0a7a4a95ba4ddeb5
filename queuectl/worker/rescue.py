"""Rescue: find workers of this machine that died, end what they left, and take their jobs back."""

from __future__ import annotations

import os
from contextlib import ExitStack

from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.service import workers
from queuectl.worker import processes


def rescue_dead(store: Store, suspects: workers.Suspects | None = None) -> list[str]:
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
            suspects = workers.suspects(store)
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
        if not dead and not suspects.orphaned:
            return []
        return workers.rescue(store, dead, started=started)
