"""What can be counted exactly: statements, commits, and system calls a job.

Times say nothing on a busy machine; these figures change only when the program does.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from queuectl.db import sqlite
from queuectl.db.engine import Store, open_store
from queuectl.domain.request import JobRequest
from queuectl.service import claims, jobs, queues
from queuectl.service.claims import Claimant
from queuectl.settings import StoreLocation
from tests.actors import Actor, Hire, ended
from tests.supervision import marked_environment

#: Runs one worker in this very process until nothing is due, so that strace sees nothing else. Jobs
#: count as short however busy the machine is, and what is done each second is not done at all, so
#: that neither the sizes of turns nor the calls depend on how long it takes.
_WORKER = """
import os, socket, sys
from pathlib import Path
from queuectl.db.engine import Store, open_store
from queuectl.domain.request import JobRequest
from queuectl.service import config, jobs, workers
from queuectl.settings import StoreLocation
from queuectl.worker import ahead
from queuectl.worker import worker as loop
from queuectl.worker.worker import Worker, WorkerPlan

ahead.SHORT_SECONDS = ahead.HORIZON_SECONDS = ahead.SETTLE_SECONDS = 1000.0
ahead.PATIENCE_SECONDS = loop.TICK_SECONDS = 1000.0
location = StoreLocation(Path(sys.argv[1]), "test")
count, command = int(sys.argv[2]), sys.argv[3]
store = open_store(location)
config.set_option(store, "lease", 86400)
jobs.enqueue(store, [JobRequest(command=command)] * count, cwd="/")
store.close()
ours, theirs = socket.socketpair()
registration = workers.Registration("w1", "s", "here", "boot", os.getpid(), 2, None)
worker = Worker(Store(location), WorkerPlan(concurrency=2, drain=True), registration, theirs, None)
os.write(2, b"begin")
worker.run()
"""


#: The same with a job that runs for a while, and one that crashed its worker and must run alone.
_BESIDE_A_CRASHER = _WORKER.replace(
    "store.close()",
    """jobs.enqueue(store, [JobRequest(command="true", priority=-1)], cwd="/")
crash = text("UPDATE jobs SET crashes = 1 WHERE priority = -1")
store.write(lambda connection: connection.execute(crash))
store.close()""",
).replace("from pathlib import Path", "from pathlib import Path\nfrom sqlalchemy import text")


class Traced:
    """The statements that a store's connection executes from now on."""

    def __init__(self, store: Store) -> None:
        self.statements: list[str] = []
        self._connection = store.read(sqlite.driver_connection)
        self._connection.set_trace_callback(self.statements.append)

    def count(self, beginning: str) -> int:
        return sum(statement.startswith(beginning) for statement in self.statements)


def enqueue(store: Store, count: int) -> None:
    jobs.enqueue(store, [JobRequest(command="true")] * count, cwd="/")


def test_a_turn_is_one_commit_and_three_statements_a_job(store: Store, hire: Hire) -> None:
    enqueue(store, 20)
    actor = hire("w1")
    held = actor.claim(8)
    actor.settle(held.pop())  # every statement has been prepared now
    held += actor.claim(1)
    traced = Traced(actor.store)

    turn = actor.turn(*(ended(claim) for claim in held), free=8)

    assert len(turn.claims) == len(turn.decisions) == 8
    assert traced.count("COMMIT") == traced.count("BEGIN IMMEDIATE") == 1
    assert traced.count("UPDATE jobs SET state=") == 2 * 8 + 1  # the last promotes what is due
    assert traced.count("INSERT INTO attempts") == 8
    # Besides: the transaction, the choice, and whether others have committed since.
    assert len(traced.statements) <= 3 * 8 + 10


def test_limits_cost_a_turn_one_statement_however_many_there_are(store: Store, hire: Hire) -> None:
    names = [f"q{number}" for number in range(5)]
    for name in names:
        jobs.enqueue(store, [JobRequest(command="true", queue=name)] * 4, cwd="/")
    actor = hire("w1")
    before = [traced_turn(actor) for _ in range(2)][-1]

    for name in names:
        queues.limit(store, name, 3)
    actor.turn()  # asks for the queues, as somebody has committed
    after = traced_turn(actor)

    assert after.count("SELECT jobs.queue, count(*)") == 1
    assert len(after.statements) == len(before.statements) + 1


def test_a_full_queue_is_not_even_looked_at(store: Store, hire: Hire) -> None:
    enqueue(store, 3)
    queues.limit(store, "default", 1)
    actor = hire("w1")
    actor.claim_one()

    traced = traced_turn(actor)

    assert traced.count("SELECT jobs.seq") == 0


def traced_turn(actor: Actor) -> Traced:
    """Return what a turn executes that has room for five."""
    traced = Traced(actor.store)
    actor.turn(free=5)
    Traced(actor.store)  # what comes later is not counted
    return traced


def test_an_idle_look_is_three_statements_and_writes_nothing(store: Store, hire: Hire) -> None:
    enqueue(store, 1)
    actor = hire("w1")
    actor.claim_one()
    claims.look(actor.store, actor.claimant)
    traced = Traced(actor.store)

    claims.look(actor.store, Claimant("w1", "here", 1, None))

    assert traced.count("BEGIN IMMEDIATE") == 0
    assert traced.count("SELECT") == 2
    assert len(traced.statements) <= 8


def test_an_enqueue_is_one_commit_and_one_insert(store: Store) -> None:
    enqueue(store, 1)
    traced = Traced(store)

    enqueue(store, 1)

    assert traced.count("COMMIT") == traced.count("INSERT") == 1
    assert len(traced.statements) <= 6


def test_a_bulk_enqueue_is_one_commit(store: Store) -> None:
    enqueue(store, 1)
    traced = Traced(store)

    enqueue(store, 2500)

    assert traced.count("COMMIT") == 1
    assert len(traced.statements) <= 2500 + 6


def system_calls(folder: Path, count: int, command: str, script: str = _WORKER) -> Counter[str]:
    """Count the system calls of a worker that runs as many jobs, from its start on."""
    trace = folder / f"trace-{count}"
    store = folder / f"store-{count}" / "queue.db"
    worker = (sys.executable, "-c", script, str(store), str(count), command)
    subprocess.run(
        ["strace", "-qq", "-e", "signal=none", "-o", str(trace), *worker],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=marked_environment(folder),
    )
    traced = trace.read_text(errors="replace")
    calls = re.findall(r"^(\w+)\(", traced[traced.index('write(2, "begin"') :], re.MULTILINE)
    return Counter(calls)


def calls_a_job(folder: Path, command: str) -> tuple[Counter[str], float]:
    """Return the calls that 256 more jobs add, and how many they are a job."""
    more, fewer = (system_calls(folder, count, command) for count in (384, 128))
    added = Counter({name: more[name] - fewer[name] for name in more})
    return added, sum(added.values()) / 256


@pytest.mark.needs("strace")
def test_system_calls_a_silent_job(tmp_path: Path) -> None:
    added, a_job = calls_a_job(tmp_path, "true")

    assert added["vfork"] + added["clone"] + added["clone3"] + added["fork"] == 256
    # One commit of 64 jobs is one sync of the log; a checkpoint now and then adds two.
    assert added["fsync"] + added["fdatasync"] <= 256 / 64 + 6
    assert added["openat"] <= 256 * 1.1  # to see who is left; no file for what printed nothing
    assert a_job <= 44, added  # 38 when this was written


@pytest.mark.needs("strace")
def test_a_job_that_prints_costs_one_file_more(tmp_path: Path) -> None:
    added, a_job = calls_a_job(tmp_path, "echo a line")

    assert added["fsync"] + added["fdatasync"] <= 256 / 64 + 6
    assert added["openat"] <= 256 * 2.1
    assert a_job <= 48, added  # 42 when this was written


@pytest.mark.needs("strace")
def test_a_busy_worker_does_not_ask_over_and_over_for_a_job_that_must_run_alone(
    tmp_path: Path,
) -> None:
    calls = system_calls(tmp_path, 1, "sleep 1", _BESIDE_A_CRASHER)

    location = StoreLocation(tmp_path / "store-1" / "queue.db", "test")
    with closing(open_store(location)) as store:
        assert {job.state for job in jobs.list_jobs(store)} == {"completed"}
    assert calls["flock"] <= 60, calls  # each turn takes the writers' lock
