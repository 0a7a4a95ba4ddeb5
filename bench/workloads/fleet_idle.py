"""W11: what a thousand idle workers cost a PostgreSQL server: connections, looks, heartbeats.

The workers are real ones but for their processes: all live in this one, and each is asked, as its
own loop does, what is due and how long it may sleep. Each takes itself for alone on its machine.
"""

from __future__ import annotations

import heapq
import os
import random
import resource
import secrets
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg

from bench.contest import Role, Row, tell
from bench.postgresql import PostgreSQL
from bench.report import Bar, Report
from bench.stage import Stage, fill
from queuectl.db import presence
from queuectl.db.engine import Store
from queuectl.db.files import prepare_side_files
from queuectl.db.wakeup import Bell
from queuectl.service import config, workers
from queuectl.settings import ServerLocation
from queuectl.worker.keeping import Housekeeper
from queuectl.worker.lease import IDLE_FACTOR
from queuectl.worker.worker import Worker, WorkerPlan

#: The server's own processes, the bench's connections.
_SPARE_CONNECTIONS = 50
#: So often a prepared statement is executed until the server keeps its plan, and once more.
_PLANNED = 7


def run(stage: Stage) -> Report:
    """Take the processor's time of all processes of the server, as a share of a core."""
    count, seconds = stage.size(1000, 3), stage.size(20, 1)
    postgresql = PostgreSQL(stage.folder / "postgresql")
    try:
        postgresql.allow_connections(count + _SPARE_CONNECTIONS)
        server = Stage(stage.folder, stage.peers, postgresql, stage.redis, quick=stage.quick)
        shares = _idle_shares(server, count, seconds)
    finally:
        postgresql.stop()
    name = f"{count:,} idle workers"
    rows = [Row(name, Role.OURS, tuple(share * 100 for share in shares))]
    return Report(
        "W11",
        f"what {count:,} idle workers cost a PostgreSQL server",
        "% of a core",
        "lower",
        rows,
        [Bar(f"{name}, % of a core", rows[0].median, "at most", 5)],
        notes=["processor time of all the server's processes; each figure is of as many seconds"],
    )


def _idle_shares(stage: Stage, count: int, seconds: float) -> list[float]:
    location = stage.new_server_store()
    fill(location, 1, "true")
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute("DELETE FROM jobs")  # its queue stays, and is empty
    _allow_descriptors(count * 10)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # each worker sets the one timer of this process
    with ExitStack() as hired:
        crowd = _Crowd()
        for _ in range(count):
            idler = hired.enter_context(_Idler(stage, location.url))
            idler.grow_old()
            crowd.add(idler)
            crowd.live(0)  # who came first must not miss a heartbeat
        crowd.live(stage.size(30, 0))  # until all have fallen out of step
        shares = []
        for _ in range(stage.size(3, 1)):
            tell("idle")
            before, began = _busy_seconds(stage.postgresql.pid), time.monotonic()
            crowd.live(seconds)
            busy = _busy_seconds(stage.postgresql.pid) - before
            shares.append(busy / (time.monotonic() - began))
        return shares


class _Idler:
    """A worker that finds nothing to do."""

    def __init__(self, stage: Stage, url: str) -> None:
        self._location = ServerLocation(stage.new_folder() / "store", "bench", url)
        self._resources = ExitStack()

    def __enter__(self) -> _Idler:
        prepare_side_files(self._location)
        self._store = store = Store(self._location)
        self._resources.callback(store.close)
        worker_id = secrets.token_hex(8)
        lock = presence.take(self._location, worker_id, create=True)
        assert lock is not None
        self._resources.callback(lock.release, remove=True)
        registration = workers.Registration(
            worker_id, "s", "h", presence.boot_id(), os.getpid(), 1, None
        )
        workers.register(store, registration)
        ours, theirs = (self._resources.enter_context(end) for end in socket.socketpair())
        self._worker = Worker(store, WorkerPlan(), registration, ours, None)
        self._keep = theirs
        self._worker._slots.take_place(lock)
        self._worker._options = config.read_options(store)
        self._worker._housekeeper = Housekeeper(store, worker_id, self._worker._log)
        self._bell: Bell = self._resources.enter_context(store.doorbell())
        return self

    def grow_old(self) -> None:
        """Do what a worker has done after some minutes: the server plans five times, then keeps."""
        for _ in range(_PLANNED):
            self._worker._look(self._store)
            self._worker._rescue(self._store)
            self._worker._beat(self._store, time.monotonic())
        now = time.monotonic()
        jitter = random.random()  # noqa: S311  # no secret
        self._worker._beat_at = now + jitter * self._worker._options.lease * IDLE_FACTOR / 3
        self._worker._lookout.at = now + jitter * self._store.poll_seconds

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    def act(self) -> float:
        """Do what is due; return how long to sleep, in seconds."""
        worker, now = self._worker, time.monotonic()
        worker._watch_time(self._store, now)
        worker._work(self._store, now)
        worker._hear(self._bell)
        return worker._patience(self._bell)


class _Crowd:
    """Idle workers, by when each has something to do."""

    def __init__(self) -> None:
        self._members: list[_Idler] = []
        self._schedule: list[tuple[float, int]] = []

    def add(self, member: _Idler) -> None:
        """Take in one that has just begun."""
        heapq.heappush(self._schedule, (0.0, len(self._members)))
        self._members.append(member)

    def live(self, seconds: float) -> None:
        """Let each of them do what it does, for so long."""
        end = time.monotonic() + seconds
        while (at := self._schedule[0][0]) <= end:
            time.sleep(max(0.0, at - time.monotonic()))
            number = self._schedule[0][1]
            patience = self._members[number].act()
            heapq.heapreplace(self._schedule, (time.monotonic() + patience, number))


def _busy_seconds(postmaster: int) -> float:
    """Return the processor's time of a server's processes so far."""
    processes = [postmaster, *(child.pid for child in psutil.Process(postmaster).children())]
    stats = [Path(f"/proc/{pid}/schedstat").read_text() for pid in processes]
    return sum(int(stat.split()[0]) for stat in stats) / 1e9


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
