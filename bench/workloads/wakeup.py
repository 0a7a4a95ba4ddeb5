"""W5: from the commit of an enqueue to the command's first instruction, with an idle worker."""

from __future__ import annotations

import os
import random
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.contest import Role, Row, describe, median_of, percentile, tell
from bench.peers import end
from bench.report import Bar, Report
from bench.stage import Stage, running_workers
from queuectl.db.engine import Store, open_store
from queuectl.domain.request import JobRequest
from queuectl.service import jobs
from queuectl.settings import StoreLocation

#: Until a peer's worker has run its first job, which is not counted.
_PEER_START_SECONDS = 60.0
_ON_SERVER = "queuectl on PostgreSQL, sh starts"


@dataclass(frozen=True, slots=True)
class _Peer:
    """A program in ``apps``, where its queue is to be, and what its ``serve`` is told."""

    name: str
    package: str
    app: str
    new_address: Callable[[], str]
    words: tuple[object, ...] = ()


def run(stage: Stage) -> Report:
    """Time single jobs in milliseconds, and the processor's time of an idle worker."""
    location = stage.new_store()
    with running_workers(location) as supervisor:
        delays = _delays(stage, location)
        idle = _idle_share(supervisor.pid, stage.size(10, 1))
    rows = [Row("queuectl, sh starts", Role.OURS, tuple(delays))]
    missing = {}
    try:
        rows.append(Row(_ON_SERVER, Role.OURS, tuple(_server_delays(stage))))
    except Exception as error:  # a server that does not start is told, as with the peers
        missing[_ON_SERVER] = describe(error)
    for peer in _peers(stage):
        if stage.peers.has(peer.package):
            tell(peer.name)
            try:
                rows.append(Row(peer.name, Role.PEER, tuple(_peer_delays(stage, peer))))
            except Exception as error:  # whatever a peer does, the others are measured
                missing[peer.name] = describe(error)
    return Report(
        "W5",
        "from the commit of an enqueue to the command's first instruction, idle worker",
        "ms",
        "lower",
        rows,
        [
            Bar("median, ms", statistics.median(delays), "at most", 2),
            Bar("99th percentile, ms", percentile(delays, 0.99), "at most", 6),
            Bar("idle worker and supervisor, % of a core", idle * 100, "at most", 0.5),
            Bar("median on PostgreSQL, ms", median_of(rows, _ON_SERVER), "at most", 3),
        ],
        missing,
        ["ours starts a shell each time, which takes 0.6 ms of it; peers call a function"],
    )


def _server_delays(stage: Stage) -> list[float]:
    tell("queuectl on PostgreSQL")
    location = stage.new_server_store()
    with running_workers(location):
        return _delays(stage, location)


def _delays(stage: Stage, location: StoreLocation) -> list[float]:
    found = []
    with _fifo(stage.new_folder()) as (path, listener), _commits() as commits:
        request = JobRequest(command=f"echo >'{path}'")
        with closing(open_store(location)) as store:
            for _ in range(stage.size(300, 3)):
                # Jittered, so that the worker's own ticks are met as they come.
                time.sleep(random.uniform(0.02, 0.04))  # noqa: S311  # no secret
                jobs.enqueue(store, [request], cwd="/")
                found.append((_hear(listener) - commits[-1]) / 1e6)
    return found


@contextmanager
def _commits() -> Iterator[list[int]]:
    """Collect the instants at which this process learnt that a transaction was committed."""
    instants: list[int] = []
    transact: Any = Store._transact

    def noting(store: Store, work: Any, *, writes: bool) -> Any:
        result = transact(store, work, writes=writes)
        instants.append(time.monotonic_ns())
        return result

    setattr(Store, "_transact", noting)  # noqa: B010  # an assignment would need an ignore
    try:
        yield instants
    finally:
        setattr(Store, "_transact", transact)  # noqa: B010


@contextmanager
def _fifo(folder: Path) -> Iterator[tuple[Path, int]]:
    path = folder / "fifo"
    os.mkfifo(path)
    listener = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield path, listener
    finally:
        os.close(listener)


def _hear(listener: int, seconds: float = 10) -> int:
    """Wait for a line in the FIFO; return the instant."""
    if not select.select([listener], [], [], seconds)[0]:
        raise TimeoutError(f"nothing started within {seconds:g} s")
    instant = time.monotonic_ns()
    os.read(listener, 64)
    return instant


def _idle_share(supervisor: int, seconds: float) -> float:
    """Return the processor time of a supervisor and its idle workers, as a share of a core."""
    time.sleep(1)
    tell("idle")
    before, began = _busy_ns(supervisor), time.monotonic_ns()
    time.sleep(seconds)
    return (_busy_ns(supervisor) - before) / (time.monotonic_ns() - began)


def _busy_ns(supervisor: int) -> int:
    pids = [supervisor, *(child.pid for child in psutil.Process(supervisor).children())]
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)


def _peers(stage: Stage) -> list[_Peer]:
    def on_redis(scheme: str = "unix") -> Callable[[], str]:
        return lambda: stage.redis.new_database(scheme)

    def on_postgresql(app: str) -> Callable[[], str]:
        return lambda: stage.new_database(app)

    def file() -> str:
        return str(stage.new_folder() / "huey.db")

    kombu = on_redis("redis+socket")
    return [
        _Peer("huey", "huey", "huey_app", file, ("thread", 1)),
        _Peer("celery on Redis", "celery", "celery_app", kombu, ("prefork", 1)),
        _Peer("RQ, forking", "rq", "rq_app", on_redis(), (1,)),
        _Peer("PgQueuer", "pgqueuer", "pgqueuer_app", on_postgresql("pgqueuer_app")),
        _Peer(
            "procrastinate",
            "procrastinate",
            "procrastinate_app",
            on_postgresql("procrastinate_app"),
            (1,),
        ),
    ]


def _peer_delays(stage: Stage, peer: _Peer) -> list[float]:
    folder, address = stage.new_folder(), peer.new_address()
    found = []
    worker = stage.peers.start(peer.app, "serve", address, *peer.words)
    submitter = stage.peers.start(peer.app, "submit_note", address, folder / "fifo")
    try:
        with _fifo(folder) as (_, listener):
            _line(worker)
            _ask(submitter, listener, _PEER_START_SECONDS)
            for _ in range(stage.size(60, 2)):
                time.sleep(random.uniform(0.1, 0.2))  # noqa: S311  # no secret
                found.append(_ask(submitter, listener))
    finally:
        end(worker)
        end(submitter)
    return found


def _ask(submitter: subprocess.Popen[bytes], listener: int, seconds: float = 10) -> float:
    assert submitter.stdin is not None
    submitter.stdin.write(b"\n")
    submitter.stdin.flush()
    stored = int(_line(submitter))
    return (_hear(listener, seconds) - stored) / 1e6


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()
