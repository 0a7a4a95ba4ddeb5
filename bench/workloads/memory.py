"""W6: the memory of idle workers, shared pages counted once (PSS)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.contest import Contender, Role, compete, median_of
from bench.peers import end
from bench.report import Bar, Report
from bench.stage import Stage, running_workers

_FOUR = "queuectl, supervisor and 4 workers"
_ONE = "queuectl, supervisor and 1 worker of 4 slots"
#: Until a start has settled, in seconds.
_SETTLING_SECONDS = 1.0
#: Until a peer has made its processes and connections, if it says nothing of that.
_PEER_SECONDS = 4.0


def run(stage: Stage) -> Report:
    """Add up MiB."""
    contenders = [
        Contender(_FOUR, Role.OURS, lambda: _ours(stage, count=4, concurrency=1)),
        Contender(_ONE, Role.OURS, lambda: _ours(stage, count=1, concurrency=4)),
        *_peers(stage),
    ]
    outcome = compete(contenders, rounds=stage.rounds, warm_ups=0)
    return Report(
        "W6",
        "memory of idle workers, shared pages counted once",
        "MiB",
        "lower",
        outcome.rows,
        [
            Bar(f"{_FOUR}, MiB", median_of(outcome.rows, _FOUR), "at most", 80),
            Bar(f"{_ONE}, MiB", median_of(outcome.rows, _ONE), "at most", 50),
        ],
        outcome.missing,
    )


def _ours(stage: Stage, *, count: int, concurrency: int) -> float:
    with running_workers(stage.new_store(), count=count, concurrency=concurrency) as supervisor:
        return _settled_mib(supervisor.pid)


def _settled_mib(pid: int) -> float:
    time.sleep(_SETTLING_SECONDS)
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(_pss_kib(process.pid) for process in processes) / 1024


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no Pss")


def _peers(stage: Stage) -> list[Contender]:
    def in_file() -> object:
        return stage.new_folder() / "queue.db"

    def on_postgresql(app: str) -> Callable[[], object]:
        return lambda: stage.new_database(app)

    offers: list[tuple[str, str, Callable[[], object], tuple[object, ...]]] = [
        ("huey, 4 processes", "huey", in_file, ("process", 4)),
        ("huey, 4 threads", "huey", in_file, ("thread", 4)),
        ("celery, prefork 4", "celery", stage.new_folder, ("prefork", 4)),
        ("RQ, pool of 4", "rq", stage.redis.new_database, (4,)),
        ("dramatiq, 4 processes", "dramatiq", stage.redis.new_database, (4,)),
        ("PgQueuer, one process", "pgqueuer", on_postgresql("pgqueuer_app"), ()),
        ("procrastinate, 4 at once", "procrastinate", on_postgresql("procrastinate_app"), (4,)),
    ]
    return [
        Contender(name, Role.PEER, _of(stage, f"{package}_app", new_address, words))
        for name, package, new_address, words in offers
        if stage.peers.has(package)
    ]


def _of(
    stage: Stage, app: str, new_address: Callable[[], object], words: tuple[object, ...]
) -> Callable[[], float]:
    def measure() -> float:
        process = stage.peers.start(app, "serve", new_address(), *words)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0 if app == "huey_app" else _PEER_SECONDS)
            if process.poll() is not None:
                raise RuntimeError(f"it ended with exit code {process.returncode}")
            return _settled_mib(process.pid) - _starter_mib(app, process.pid)
        finally:
            end(process)

    return measure


def _starter_mib(app: str, pid: int) -> float:
    """Return what is not the peer's but of the program that started its worker."""
    return _pss_kib(pid) / 1024 if app == "celery_app" else 0.0
