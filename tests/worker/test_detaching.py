"""Workers that leave the terminal, and workers that cannot start."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from queuectl.db.engine import Store, open_store
from queuectl.service import workers
from queuectl.settings import StoreLocation
from tests.jobs import add, state_of
from tests.scripts import run_script
from tests.supervision import Supervisors, address_of, find_marked
from tests.waiting import wait_until

_DETACH = """
from queuectl.worker.detaching import detach
from queuectl.worker.supervisor import WorkerPlan
try:
    print(detach(location, WorkerPlan(count=2)))
except QueuectlError as error:
    print(f"{error.exit_code}: {error.message}")
"""


@pytest.fixture
def detached(store: Store, tmp_path: Path) -> Iterator[int]:
    """The process id of a detached supervisor of two workers."""
    pid = int(run_script(tmp_path, address_of(store.location), _DETACH))
    yield pid
    workers.request_stop(store, queue=None, now=True)
    wait_until(lambda: find_marked(tmp_path) == [])


def test_a_detached_start_returns_when_its_workers_are_ready(store: Store, detached: int) -> None:
    listed = workers.list_workers(store)

    assert [worker.state for worker in listed] == ["alive", "alive"]
    assert {psutil.Process(worker.pid).ppid() for worker in listed} == {detached}


def test_a_detached_supervisor_has_left_the_terminal(store: Store, detached: int) -> None:
    process = psutil.Process(detached)

    assert process.terminal() is None
    assert os.getsid(detached) not in (detached, os.getsid(0))
    assert process.cwd() == "/"
    log = store.location.worker_log
    assert [Path(f"/proc/{detached}/fd/{fd}").resolve() for fd in (1, 2)] == [log, log]
    assert stat.filemode(log.stat().st_mode) == "-rw-------"
    assert "started as process" in log.read_text()


def test_detached_workers_run_jobs(store: Store, detached: int) -> None:
    add(store, "true", id="a")

    wait_until(lambda: state_of(store, "a") == "completed")

    assert psutil.pid_exists(detached)


def test_a_detached_supervisor_stops_by_a_signal(store: Store, detached: int) -> None:
    os.kill(detached, signal.SIGTERM)

    wait_until(lambda: workers.list_workers(store) == [])


@pytest.mark.sqlite
def test_workers_of_what_is_no_store_do_not_start(location: StoreLocation, tmp_path: Path) -> None:
    location.folder.mkdir()
    location.path.write_text("a note")

    told = run_script(tmp_path, location.path, _DETACH)

    assert told.startswith(f"5: {location} is not a queuectl store")
    assert find_marked(tmp_path) == []


@pytest.mark.sqlite
def test_a_supervisor_refuses_what_is_no_store(
    location: StoreLocation, supervisors: Supervisors
) -> None:
    location.folder.mkdir()
    location.path.write_text("a note")

    refused = supervisors.start()

    assert refused.wait() == 1
    assert "is not a queuectl store" in refused.err.read_text()
    refused.err.write_text("")
    location.path.unlink()


@pytest.mark.sqlite
def test_workers_that_find_no_store_are_replaced_until_there_is_one(
    location: StoreLocation, supervisors: Supervisors
) -> None:
    open_store(location).close()
    supervisor = supervisors.start()
    away = location.path.with_name("away.db")
    location.path.rename(away)
    [worker] = supervisor.worker_pids()

    os.kill(worker, signal.SIGKILL)
    supervisor.wait_for("worker-died", 2)
    away.rename(location.path)

    supervisor.wait_for("worker-started", 2)
    with closing(open_store(location)) as store:
        add(store, id="a")
        wait_until(lambda: state_of(store, "a") == "completed")


@pytest.mark.sqlite
def test_a_supervisor_whose_workers_find_no_store_can_be_stopped(
    location: StoreLocation, supervisors: Supervisors
) -> None:
    open_store(location).close()
    supervisor = supervisors.start()
    away = location.path.with_name("away.db")
    location.path.rename(away)
    [worker] = supervisor.worker_pids()
    os.kill(worker, signal.SIGKILL)
    supervisor.wait_for("worker-died", 2)

    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0
    away.rename(location.path)
