"""W2: 2,000 trivial jobs, two at a time, from the first start to the last end."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import func, select

from bench.contest import Contender, Role, compete, median_of
from bench.report import Bar, Report, ratio
from bench.stage import Stage, fill, plain_environment, queuectl
from queuectl.db.engine import open_store
from queuectl.db.models import AttemptRow
from queuectl.settings import StoreLocation

_ONE_OF_TWO = "queuectl, 1 worker of 2 slots"
_TWO_OF_ONE = "queuectl, 2 workers of 1 slot"
_XARGS = "xargs -P2 sh -c"
_KEEPS_NOTHING = "the limit keeps nothing: no record, no queue, no durability"


def run(stage: Stage) -> Report:
    """Count jobs a second."""
    limit = Contender(f"{_XARGS} true", Role.LIMIT, lambda: _xargs(stage, "true"))
    return contest(stage, "W2", "2,000 times true, two at a time", "true", limit, _KEEPS_NOTHING)


def contest(
    stage: Stage, name: str, title: str, command: str, limit: Contender, note: str
) -> Report:
    """Let queuectl, the limit and the peers run as many jobs of this command."""
    contenders = [
        Contender(_ONE_OF_TWO, Role.OURS, lambda: drain(stage, command, count=1, concurrency=2)),
        limit,
        Contender(_TWO_OF_ONE, Role.OURS, lambda: drain(stage, command, count=2, concurrency=1)),
        *_peers(stage, command),
    ]
    outcome = compete(contenders, rounds=stage.rounds)
    report = Report(name, title, "jobs/s", "higher", outcome.rows, [], outcome.missing, [note])
    bars = []
    for ours in (_ONE_OF_TWO, _TWO_OF_ONE):
        rate = median_of(outcome.rows, ours)
        of_limit = ratio(rate, median_of(outcome.rows, limit.name))
        of_peer = ratio(rate, report.best(Role.PEER))
        bars.append(Bar(f"{ours}, times the limit", of_limit, "at least", 0.85))
        bars.append(Bar(f"{ours}, times the best queue", of_peer, "at least", 1.2))
    return Report(name, title, "jobs/s", "higher", outcome.rows, bars, outcome.missing, [note])


def drain(
    stage: Stage, command: str, *, count: int, concurrency: int, jobs: int | None = None
) -> float:
    """Fill a store, let workers empty it, and return jobs a second by its own records."""
    location = stage.new_store()
    rate = emptied(location, _jobs(stage) if jobs is None else jobs, command, count, concurrency)
    stage.discard(location)
    return rate


def emptied(
    location: StoreLocation, jobs: int, command: str, count: int, concurrency: int
) -> float:
    """Fill this store, let as many workers of as many slots empty it; return jobs a second."""
    fill(location, jobs, command)
    words = ("worker", "start", "--drain", f"-c{count}", f"-j{concurrency}")
    with (location.folder / "events").open("wb") as events:
        subprocess.run(
            queuectl(location, *words),
            check=True,
            stdout=events,
            # On a server's store, the files of this machine lie in the home folder.
            env=plain_environment() | {"HOME": str(location.folder)},
        )
    return _recorded_rate(location)


def _recorded_rate(location: StoreLocation) -> float:
    """Return jobs a second from the first start to the last end, as the attempts' rows say."""
    query = select(func.count(), func.min(AttemptRow.started_at), func.max(AttemptRow.finished_at))
    with closing(open_store(location)) as store:
        count, first, last = store.read(lambda connection: connection.execute(query).one())
    return float(count / (last - first).total_seconds())


def _jobs(stage: Stage) -> int:
    return stage.size(2000, 20)


def _tsp_jobs(stage: Stage) -> int:
    """Return fewer jobs: each that waits is a client of its server, which takes a thousand."""
    return stage.size(900, 10)


def _xargs(stage: Stage, command: str) -> float:
    count = _jobs(stage)
    lines = "\n".join(map(str, range(count))).encode()
    began = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "sh", "-c", command], input=lines, check=True)
    return count / (time.perf_counter() - began)


def xargs_keeping(stage: Stage, command: str) -> float:
    """Run xargs with a file for each job's output; return jobs a second."""
    folder = stage.new_folder()
    return _xargs(stage, f'{command} >"{folder}/$0"')


def _peers(stage: Stage, command: str) -> list[Contender]:
    peers, keep = stage.peers, "drop" if command == "true" else "keep"
    jobs = _jobs(stage)
    found: list[Contender] = []

    def add(name: str, run: Callable[[], float]) -> None:
        found.append(Contender(name, Role.PEER, run))

    def huey(kind: str) -> float:
        path = stage.new_folder() / "huey.db"
        return float(peers.run("huey_app", "drain", path, jobs, command, kind, keep))

    if peers.has("huey"):
        add("huey, 2 threads", lambda: huey("thread"))
        add("huey, 2 processes", lambda: huey("process"))
    if peers.has("celery"):
        folder = stage.new_folder
        app = ("celery_app", "drain")
        add(
            "celery, filesystem broker, 2 threads",
            lambda: float(peers.run(*app, folder(), jobs, command, "threads", keep)),
        )
    if peers.has("spoolctl"):
        add(
            "spoolctl, 2 workers",
            lambda: float(
                peers.run("spoolctl_app", "drain", stage.new_folder() / "s.db", jobs, command)
            ),
        )
    found += _tools(stage, command, jobs)
    return found


def _tools(stage: Stage, command: str, jobs: int) -> list[Contender]:
    peers, found = stage.peers, []
    if peers.has("tsp"):
        few = _tsp_jobs(stage)
        name = f"task-spooler, 2 slots, {few} jobs"
        found.append(Contender(name, Role.PEER, lambda: _tsp(stage, few, command)))
    if peers.has("parallel"):
        found.append(
            Contender("parallel -j2 --joblog", Role.PEER, lambda: _parallel(stage, jobs, command))
        )
    if peers.has("nq"):
        found.append(Contender("nq, 2 queues", Role.PEER, lambda: _nq(stage, jobs // 2, command)))
    return found


def _parallel(stage: Stage, jobs: int, command: str) -> float:
    folder = stage.new_folder()
    lines = "\n".join(map(str, range(jobs))).encode()
    words = ["parallel", "-j2", "--will-cite", "--joblog", str(folder / "log"), "-n1"]
    with (folder / "output").open("wb") as output:
        began = time.perf_counter()
        subprocess.run([*words, f"{command} #"], input=lines, check=True, stdout=output)
        return jobs / (time.perf_counter() - began)


def _tsp(stage: Stage, jobs: int, command: str) -> float:
    """Queue behind two jobs that wait for a file, make it, and wait for the last."""
    folder = stage.new_folder()
    environment = plain_environment() | {
        "TS_SOCKET": str(folder / "socket"),
        "TMPDIR": str(folder),
        "TS_MAXFINISHED": "100000",
        "TS_SLOTS": "2",
    }
    drop = ["-n"] if command == "true" else []

    def tsp(*words: str) -> None:
        subprocess.run(["tsp", *words], check=True, capture_output=True, env=environment)

    try:
        for _ in range(2):
            tsp("-n", "sh", "-c", _wait_for(folder / "go"))
        for _ in range(jobs):
            tsp(*drop, "sh", "-c", command)
        (folder / "go").touch()
        began = time.perf_counter()
        # It tells no number where nobody reads it: a new server counts from 0.
        for number in (jobs, jobs + 1):
            tsp("-w", str(number))
        return jobs / (time.perf_counter() - began)
    finally:
        tsp("-K")


def _nq(stage: Stage, jobs: int, command: str) -> float:
    """Fill two queues behind jobs that wait for a file; each queue runs one job at a time."""
    folder = stage.new_folder()
    environments = [plain_environment() | {"NQDIR": str(folder / name)} for name in ("a", "b")]

    def nq(environment: dict[str, str], *words: str) -> None:
        subprocess.run(["nq", *words], check=True, stdout=subprocess.DEVNULL, env=environment)

    for environment in environments:
        nq(environment, "-q", "sh", "-c", _wait_for(folder / "go"))
    for _, environment in itertools.product(range(jobs), environments):
        nq(environment, "-q", "sh", "-c", command)
    (folder / "go").touch()
    began = time.perf_counter()
    for environment in environments:
        names = sorted(os.listdir(environment["NQDIR"]))  # noqa: PTH208  # names are its job ids
        nq(environment, "-w", names[-1])
    return 2 * jobs / (time.perf_counter() - began)


def _wait_for(path: Path) -> str:
    return f'while [ ! -e "{path}" ]; do sleep 0.01; done'
