"""A worker that is cut off from a shared store ends its jobs before anybody else may start them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from queuectl.db.engine import Store
from queuectl.service import config, rescues
from queuectl.settings import ServerLocation, locate_store
from queuectl.worker import processes
from tests.jobs import add, attempts_of, state_of, until
from tests.proxies import Proxy
from tests.supervision import Supervisor, Supervisors
from tests.waiting import wait_until

pytestmark = pytest.mark.postgresql

_LEASE_SECONDS = 12
_CLAIM = "SELECT state, version, worker_id, claimed_at FROM jobs"
_RESTORE = (
    "UPDATE jobs SET state = %s, version = %s, worker_id = %s, claimed_at = %s, finished_at = NULL"
)


@pytest.fixture
def proxy(store: Store, tmp_path: Path) -> Iterator[Proxy]:
    """The network between the workers and the store."""
    assert isinstance(store.location, ServerLocation)
    folder = tmp_path / "net"
    folder.mkdir()
    with Proxy(store.location, folder) as between:
        yield between


@pytest.fixture
def far(proxy: Proxy, tmp_path: Path) -> Iterator[Supervisors]:
    """Supervisors that reach the store through the proxy."""
    started = Supervisors(proxy.location, tmp_path)
    try:
        yield started
    finally:
        proxy.heal()
        started.end()


@pytest.fixture
def server(store: Store) -> Iterator[psycopg.Connection[Any]]:
    assert isinstance(store.location, ServerLocation)
    with psycopg.connect(store.location.url, autocommit=True) as connection:
        yield connection


def test_a_cut_off_worker_ends_its_jobs_while_its_lease_lasts(
    store: Store,
    proxy: Proxy,
    far: Supervisors,
    server: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    """P2: and when the network is back, the job that it ended runs again, uncharged.

    It was idle before, and had a longer lease, which the claim has cut.
    """
    config.set_option(store, "lease", _LEASE_SECONDS)
    supervisor = far.start()
    wait_until(lambda: _lease_left(server) > _LEASE_SECONDS)
    add(store, f"echo $$ >> {tmp_path}/pids; exec sleep 600", id="a")
    wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    [pid] = (tmp_path / "pids").read_text().split()
    assert _lease_left(server) <= _LEASE_SECONDS

    proxy.cut()
    supervisor.wait_for("cut-off")
    wait_until(lambda: not processes.is_alive(int(pid)))

    assert _lease_left(server) > 0
    assert state_of(store, "a") == "processing"
    proxy.heal()
    wait_until(lambda: len((tmp_path / "pids").read_text().split()) == 2)
    assert all(attempt.outcome != "failed" for attempt in attempts_of(store, "a"))


def test_a_cut_off_worker_ends_what_its_jobs_left_although_a_call_of_the_store_goes_on(
    store: Store, proxy: Proxy, server: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """P2: it is on its way to connect again for longer than its lease lasts."""
    location = locate_store(f"{proxy.location.url}&connect_timeout=60")
    config.set_option(store, "lease", _LEASE_SECONDS)
    leave = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 600' & exec sleep 600"
    add(store, leave, id="a")
    far = Supervisors(location, tmp_path)
    try:
        far.start()
        stray = int(
            wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        )

        proxy.cut()
        wait_until(lambda: not processes.is_alive(stray))

        assert _lease_left(server) > 0
    finally:
        proxy.heal()
        far.end()


def test_a_cut_off_worker_that_is_frozen_as_well_is_ended_while_its_lease_lasts(
    store: Store,
    proxy: Proxy,
    far: Supervisors,
    server: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    """T1, P2: it cannot end its job itself, and its silence is younger than its lease."""
    config.set_option(store, "lease", _LEASE_SECONDS)
    add(store, f"echo $$ > {tmp_path}/pid; exec sleep 600", id="a")
    supervisor = far.start()
    supervisor.wait_for("job-started")
    job = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    [worker] = supervisor.worker_pids()

    proxy.cut()
    wait_until(lambda: _lease_left(server) < _LEASE_SECONDS / 2)
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: not processes.is_alive(job))

    assert _lease_left(server) > 0
    assert not supervisor.events("cut-off")


def _fall_over(supervisor: Supervisor) -> None:
    """Let a supervisor die with its workers in one blow; what they started lives on."""
    supervisor.signal(signal.SIGSTOP)
    for pid in supervisor.worker_pids():
        os.kill(pid, signal.SIGKILL)
    supervisor.signal(signal.SIGKILL)
    supervisor.wait()


def test_what_a_dead_neighbour_left_is_ended_although_the_store_is_out_of_reach(
    store: Store, proxy: Proxy, far: Supervisors, tmp_path: Path
) -> None:
    """P2, C3: another machine may start its job when the lease is over; nobody here can ask."""
    config.set_option(store, "lease", 600)
    add(store, f"echo $$ >> {tmp_path}/pids; exec sleep 600", id="a")
    struck = far.start()
    job = int(wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text()))
    far.start()

    proxy.cut()
    _fall_over(struck)
    wait_until(lambda: not processes.is_alive(job))

    assert state_of(store, "a") == "processing"
    proxy.heal()
    wait_until(lambda: len((tmp_path / "pids").read_text().split()) == 2)
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["lost"]


def test_what_a_dead_worker_left_is_ended_although_its_job_was_taken_back_elsewhere(
    store: Store,
    proxy: Proxy,
    far: Supervisors,
    tmp_path: Path,
) -> None:
    """C3: its host was away for longer than its lease, and comes back."""
    add(store, f"echo $$ >> {tmp_path}/pids; exec sleep 600", id="a")
    struck = far.start()
    job = int(wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text()))
    [worker_id] = rescues.suspects(store).near
    _fall_over(struck)
    assert rescues.rescue(store, [worker_id]) == ["a"]  # as another machine does
    assert processes.is_alive(job)

    far.start()
    wait_until(lambda: not processes.is_alive(job))

    wait_until(lambda: not (proxy.location.workers / worker_id).exists())


def test_what_a_standby_that_lagged_does_not_know_of_runs_again(
    store: Store,
    proxy: Proxy,
    far: Supervisors,
    server: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    """The store is back as it was while the job ran, and the worker that ran it lives."""
    config.set_option(store, "lease", _LEASE_SECONDS)
    go = tmp_path / "go"
    add(store, f"echo run >> {tmp_path}/runs; {until(go)}", id="a")
    supervisor = far.start()
    wait_until((tmp_path / "runs").exists)
    [before] = server.execute(_CLAIM).fetchall()
    go.touch()
    supervisor.wait_for("job-completed")

    proxy.cut()
    supervisor.wait_for("store-away")
    server.execute("DELETE FROM attempts")
    server.execute(_RESTORE, before)
    proxy.heal()

    supervisor.wait_for("job-completed", 2)
    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    wait_until(lambda: state_of(store, "a") == "completed")


def _lease_left(server: psycopg.Connection[Any]) -> float:
    """Return what is left of the only worker's lease, in seconds, by the server's clock."""
    row = server.execute(
        "SELECT extract(epoch FROM lease_expires_at - clock_timestamp())::float FROM workers"
        " WHERE state = 'alive'"
    ).fetchone()
    assert row is not None
    return float(row[0])


def test_a_worker_whose_connection_is_cut_goes_on(
    store: Store, supervisors: Supervisors, server: psycopg.Connection[Any], tmp_path: Path
) -> None:
    add(store, f"until [ -e {tmp_path}/go ]; do sleep 0.05; done", id="a")
    supervisor = supervisors.start()
    supervisor.wait_for("job-started")

    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    (tmp_path / "go").touch()

    wait_until(lambda: state_of(store, "a") == "completed")
    assert len(attempts_of(store, "a")) == 1
