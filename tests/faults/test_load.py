"""Load: many clients at once, a job that prints without end, and thousands that fail together.

Scaled down so that the tests stay quick; ``LOAD=full`` in the environment runs the full sizes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import State
from queuectl.domain.request import validate_request
from queuectl.service import config, counts, jobs, logs
from queuectl.settings import StoreLocation
from tests.jobs import add
from tests.supervision import Supervisor, Supervisors, marked_environment
from tests.waiting import wait_until

FULL = os.environ.get("LOAD") == "full"
CLIENTS = 50
JOBS_OF_A_CLIENT = 200 if FULL else 5
PRINTED_BYTES = 10_000_000_000 if FULL else 300_000_000
FAILING_JOBS = 10_000 if FULL else 1_000
#: Whatever a worker does, it holds no more than this beyond what it held at the beginning.
_GROWTH_BYTES = 16 * 1024 * 1024
_LIMIT_SECONDS = 3600.0 if FULL else 600.0
_WARM_UP_SAMPLES = 10

#: Forks the clients, lets them begin together, and tells how long each waited for its slowest call.
_MANY_CLIENTS = """
import os, sys, time
from pathlib import Path
from queuectl.db.engine import open_store
from queuectl.domain.request import validate_request
from queuectl.errors import QueuectlError
from queuectl.service import jobs
from queuectl.settings import StoreLocation

location = StoreLocation(Path(sys.argv[1]), "test")
clients, count = map(int, sys.argv[2:])
go, begin = os.pipe()
pids = []
for client in range(clients):
    if (pid := os.fork()) == 0:
        os.close(begin)
        os.read(go, 1)  # until the parent closes it
        slowest = 0.0
        try:
            store = open_store(location)
            for number in range(count):
                began = time.monotonic()
                request = validate_request({"command": "true", "id": f"{client}-{number}"})
                jobs.enqueue(store, [request], cwd="/")
                slowest = max(slowest, time.monotonic() - began)
        except QueuectlError as error:
            print(f"client {client}: {error.message}", file=sys.stderr, flush=True)
            os._exit(1)
        print(f"{slowest:.3f}", flush=True)
        os._exit(0)
    pids.append(pid)
os.close(begin)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
"""


class Memory:
    """What the workers of a supervisor hold, sampled while a test goes on; in bytes."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._samples: dict[int, list[int]] = {}
        self._rounds = 0

    def sample(self) -> None:
        for pid in self._supervisor.worker_pids():
            with suppress(psutil.Error):
                held = psutil.Process(pid).memory_full_info().uss
                self._samples.setdefault(pid, []).append(held)
        self._rounds += 1

    def await_round(self) -> None:
        """Wait until all have been sampled once more from now on."""
        begun = self._rounds + 1  # one may be under way
        wait_until(lambda: self._rounds > begun)

    @property
    def growth(self) -> int:
        """By how much the most of any worker is above what it held when it was warm."""
        grown = [
            max(samples) - max(samples[:_WARM_UP_SAMPLES]) for samples in self._samples.values()
        ]
        return max(grown)

    @property
    def most(self) -> int:
        return max(max(samples) for samples in self._samples.values())


@contextmanager
def watched(supervisor: Supervisor) -> Iterator[Memory]:
    """Sample the memory of a supervisor's workers in the block, ten times a second."""
    memory, done = Memory(supervisor), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            with suppress(psutil.Error):
                memory.sample()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Show a measurement, whatever pytest captures."""

    def show(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nload: {line}\n")

    return show


def describe(memory: Memory) -> str:
    return (
        f"a worker held {memory.most / 2**20:.0f} MiB at most,"
        f" {memory.growth / 2**20:.1f} MiB more than when it was warm"
    )


def count_states(store: Store) -> dict[State, int]:
    return {state: number for state, number in counts.read_status(store).states.items() if number}


@pytest.mark.timeout(_LIMIT_SECONDS)
def test_fifty_clients_enqueue_at_once_while_workers_drain(
    location: StoreLocation,
    store: Store,
    supervisors: Supervisors,
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    """S1: 50 processes enqueue at once, each job in a call of its own; 4 workers run them."""
    supervisor = supervisors.start(count=4)
    began = time.monotonic()

    with watched(supervisor) as memory:
        arguments = [str(location.path), str(CLIENTS), str(JOBS_OF_A_CLIENT)]
        ended = subprocess.run(
            [sys.executable, "-c", _MANY_CLIENTS, *arguments],
            capture_output=True,
            text=True,
            env=marked_environment(tmp_path),
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        enqueued = time.monotonic() - began
        total = CLIENTS * JOBS_OF_A_CLIENT
        wait_until(lambda: count_states(store) == {State.COMPLETED: total}, _LIMIT_SECONDS)

    waits = sorted(map(float, ended.stdout.split()))
    assert len(waits) == CLIENTS
    assert memory.growth < _GROWTH_BYTES
    tell(
        f"{total:,} jobs from {CLIENTS} clients at once were acknowledged in {enqueued:.1f} s"
        f" (slowest call {waits[-1]:.2f} s) and done after {time.monotonic() - began:.1f} s;"
        f" {describe(memory)}"
    )


@pytest.mark.timeout(_LIMIT_SECONDS)
def test_a_job_may_print_without_end(
    location: StoreLocation, store: Store, supervisors: Supervisors, tell: Callable[[str], None]
) -> None:
    """R3: gigabytes of output; the worker's memory stays flat, the cap is kept, bytes counted."""
    job = add(store, f"yes 'a line of output' | head -c {PRINTED_BYTES}")
    limit_bytes = config.read_options(store).output_limit
    began = time.monotonic()

    supervisor = supervisors.start()
    with watched(supervisor) as memory:
        wait_until(
            lambda: jobs.find(store, job.id).state in ("completed", "failed"), _LIMIT_SECONDS
        )
        seconds = time.monotonic() - began
        memory.await_round()

    [attempt] = jobs.history(store, job.id).attempts
    assert (attempt.outcome, attempt.output_bytes) == ("completed", PRINTED_BYTES)
    kept = sum(map(len, logs.read_all(location, job.seq, 1)))
    assert limit_bytes <= kept < limit_bytes + 100
    assert memory.most < _GROWTH_BYTES * 4
    assert memory.growth < _GROWTH_BYTES
    tell(f"{PRINTED_BYTES:,} bytes printed by one job in {seconds:.1f} s; {describe(memory)}")


@pytest.mark.timeout(_LIMIT_SECONDS)
def test_thousands_of_jobs_may_fail_at_once(
    store: Store, supervisors: Supervisors, tell: Callable[[str], None]
) -> None:
    """Every job fails, is due again at the same moment as all the others, and dies."""
    fields = {"command": "exit 1", "max_retries": 1, "backoff_base": 1}
    jobs.enqueue(store, [validate_request(fields) for _ in range(FAILING_JOBS)], cwd="/")
    began = time.monotonic()

    supervisor = supervisors.start(count=4)
    with watched(supervisor) as memory:
        wait_until(lambda: count_states(store) == {State.DEAD: FAILING_JOBS}, _LIMIT_SECONDS)
        seconds = time.monotonic() - began
        memory.await_round()

    attempts = [
        attempt.outcome
        for job in jobs.list_jobs(store, limit=20)
        for attempt in jobs.history(store, job.id).attempts
    ]
    assert attempts == ["failed"] * 40
    assert memory.growth < _GROWTH_BYTES
    assert supervisor.events("worker-died") == []
    tell(
        f"{FAILING_JOBS:,} jobs failed, retried and died in {seconds:.1f} s"
        f" ({2 * FAILING_JOBS / seconds:,.0f} attempts a second); {describe(memory)}"
    )
