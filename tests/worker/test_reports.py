"""What a supervisor makes of its workers' last words."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.settings import ServerLocation, StoreLocation
from queuectl.worker.reports import Report, boottime
from queuectl.worker.supervisor import Supervisor, WorkerPlan, _Child
from tests.supervision import address_of, marked_environment


@pytest.mark.parametrize("spent_at", [125.5, inf])
def test_a_report_arrives_as_it_was_sent(spent_at: float) -> None:
    report = Report(100.25, 30.0, spent_at, busy=2, leaves=True, scaling=3, wanted=4)

    assert Report.decode(report.encode()) == report


def test_the_last_of_several_reports_counts() -> None:
    first, second = Report(1.0, 30.0), Report(2.0, 30.0, 27.0)

    assert Report.decode(first.encode() + second.encode()) == second


def test_half_a_report_is_none() -> None:
    assert Report.decode(Report(1.0, 30.0).encode()[:-1]) is None


def test_a_worker_whose_jobs_nobody_else_starts_may_be_silent_for_two_thirds_of_its_lease() -> None:
    assert Report(sent_at=100.0, lease=30.0).silent_at(heard_at=100.5) == 120.5


def test_a_worker_is_ended_when_its_lease_is_spent_and_it_does_not_say_so() -> None:
    report = Report(sent_at=120.0, lease=24.0, spent_at=121.0)

    assert report.silent_at(heard_at=120.5) == 122.0


def test_a_worker_that_has_ended_its_jobs_may_wait_for_its_store() -> None:
    report = Report(sent_at=121.0, lease=24.0, spent_at=121.0)

    assert report.silent_at(heard_at=121.0) == 137.0


@pytest.fixture
def silent_process() -> Iterator[subprocess.Popen[bytes]]:
    """What a supervisor takes for a worker here."""
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process
        process.kill()


def test_a_supervisor_that_goes_on_after_long_gives_its_workers_time_to_speak(
    tmp_path: Path, silent_process: subprocess.Popen[bytes]
) -> None:
    """T5: what nobody read has filled the socket, so its last word is old."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    long_ago = boottime() - 1000
    with suppress(BlockingIOError):
        while True:
            theirs.send(Report(long_ago, lease=30.0, spent_at=long_ago + 25).encode())
    supervisor = Supervisor(StoreLocation(tmp_path / "queue.db", "test"), WorkerPlan())
    child = _Child(silent_process.pid, "w", ours, 0.0, Report(long_ago, 30.0), heard_at=long_ago)
    supervisor._children[child.pid] = child

    supervisor._start_count_anew()
    supervisor._judge_silence(boottime())

    assert silent_process.poll() is None
    assert child.last.sent_at == long_ago
    assert boottime() < child.silent_at < boottime() + 5
    theirs.close()
    ours.close()


_RENEW = """
import json, os, socket, sys
from queuectl.db.engine import open_store
from queuectl.service import config, workers
from queuectl.settings import locate_store
from queuectl.worker.reports import Report, boottime
from queuectl.worker.worker import Worker, WorkerPlan

ours, theirs = socket.socketpair()
store = open_store(locate_store(sys.argv[1]))
said = workers.Registration("w", "s", "here", "boot", os.getpid(), 1, None)
options = config.read_options(store)
worker = Worker(store, WorkerPlan(), said, theirs, None)
begun = boottime()
worker._lease.renew(store, options.lease, begun)
report = Report.decode(ours.recv(4096))
print(json.dumps([report.lease, report.spent_at - begun]))
"""


def test_a_heartbeat_is_reported_at_once_with_when_the_lease_is_spent(
    store: Store, tmp_path: Path
) -> None:
    location = store.location
    done = subprocess.run(
        [sys.executable, "-c", _RENEW, address_of(location)],
        stdout=subprocess.PIPE,
        env=marked_environment(tmp_path),
        check=True,
    )

    lease, spent = json.loads(done.stdout)
    assert lease == 30
    assert spent == (pytest.approx(25) if isinstance(location, ServerLocation) else inf)
