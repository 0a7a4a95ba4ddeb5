"""W6: the memory of idle workers, shared pages counted once (PSS)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.contest import Contender, Role, compete, median_of
from bench.report import Bar, Report
from bench.stage import Stage, running_workers

_FOUR = "queuectl, supervisor and 4 workers"
_ONE = "queuectl, supervisor and 1 worker of 4 slots"
#: Until a start has settled, in seconds.
_SETTLING_SECONDS = 1.0
#: Until Celery has forked its processes, of which it says nothing.
_CELERY_SECONDS = 4.0


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
    peers = stage.peers

    def of(app: str, kind: str) -> Callable[[], float]:
        def measure() -> float:
            folder = stage.new_folder()
            at = folder if app == "celery_app" else folder / "queue.db"
            process = peers.start(app, "serve", at, kind, 4)
            try:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(_CELERY_SECONDS if app == "celery_app" else 0)
                return _settled_mib(process.pid) - _starter_mib(app, process.pid)
            finally:
                _end(process)

        return measure

    found = []
    if peers.has("huey"):
        found.append(Contender("huey, 4 processes", Role.PEER, of("huey_app", "process")))
        found.append(Contender("huey, 4 threads", Role.PEER, of("huey_app", "thread")))
    if peers.has("celery"):
        found.append(Contender("celery, prefork 4", Role.PEER, of("celery_app", "prefork")))
    return found


def _starter_mib(app: str, pid: int) -> float:
    """Return what is not the peer's but of the program that started its worker."""
    return _pss_kib(pid) / 1024 if app == "celery_app" else 0.0


def _end(process: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    for child in children:
        child.kill()
    process.kill()
    process.communicate()
