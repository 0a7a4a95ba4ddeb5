"""Doctor: each thing that can be not well is made so, and found with a way out."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from queuectl.db import sqlite
from queuectl.db.engine import Store, open_store
from queuectl.domain.request import JobRequest
from queuectl.domain.schedule import CatchUp, Overlap
from queuectl.service import config, doctor, rescues, schedules
from queuectl.service.doctor import Finding, Marked
from queuectl.service.schedules import Definition
from queuectl.settings import StoreLocation
from tests.actors import Hire
from tests.disks import one_mebibyte
from tests.jobs import add
from tests.supervision import Supervisors
from tests.waiting import wait_until

#: A file, its place and its library; tests/cli/test_fleet.py asks the doctor of a server.
pytestmark = pytest.mark.sqlite


def examine(location: StoreLocation, marked: Marked | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.examine(location, marked or {})}


def problems(location: StoreLocation, marked: Marked | None = None) -> list[str]:
    return [finding.name for finding in doctor.examine(location, marked or {}) if not finding.ok]


def change(store: Store, statement: str, *values: object) -> None:
    store.close()
    with closing(sqlite.LIBRARY.connect(store.location.path)) as connection:
        connection.execute(statement, values)
        connection.commit()


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f")


def test_a_store_in_use_is_well(store: Store, hire: Hire) -> None:
    add(store)
    hire().claim_one()

    found = examine(store.location, {"w1": [os.getpid()]})

    assert problems(store.location) == []
    assert found["workers"].message == "1 alive"
    assert found["schema"].ok
    assert str(store.location) in found["place"].message


def test_a_store_that_is_not_there_yet_is_well_and_is_not_made(location: StoreLocation) -> None:
    found = examine(location)

    assert all(finding.ok for finding in found.values())
    assert "not there yet" in found["store"].message
    assert not location.folder.exists()


def test_a_foreign_file_is_told_and_no_change_of_its_mode_is_advised(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes\n" * 100)
    path.chmod(0o644)

    found = examine(StoreLocation(path, "test"))

    assert "not a queuectl store" in found["store"].message
    assert "permissions" not in found


@pytest.mark.parametrize("name", ["queue.db", "queue.db.lock", "queue.db.bell"])
def test_a_file_that_others_can_read_is_told(store: Store, name: str) -> None:
    path = store.location.folder / name
    path.chmod(0o644)

    found = examine(store.location)["permissions"]

    assert str(path) in found.message
    assert found.hint == f"chmod 600 {path}"


def test_a_folder_that_others_can_enter_is_told(store: Store) -> None:
    store.location.logs.chmod(0o755)

    assert examine(store.location)["permissions"].hint == f"chmod 700 {store.location.logs}"


def test_a_folder_in_which_anybody_can_replace_the_store_is_told(store: Store) -> None:
    store.location.folder.chmod(0o777)

    assert examine(store.location)["permissions"].hint == f"chmod o-w {store.location.folder}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_told(store: Store) -> None:
    os.chown(store.location.bell, 12345, -1)

    assert "belongs to user 12345" in examine(store.location)["permissions"].message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_little_space_is_told(location: StoreLocation) -> None:
    with one_mebibyte(location.folder):
        open_store(location).close()

        assert problems(location) == ["space"]


def test_a_network_file_system_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    [entry, *_] = psutil.disk_partitions(all=True)
    mounts = [entry._replace(mountpoint="/", fstype="nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)

    found = examine(store.location)

    assert problems(store.location) == ["place", "journal"]
    assert "nfs4" in found["place"].message


def test_another_schema_is_told(store: Store) -> None:
    change(store, "UPDATE alembic_version SET version_num = '9999'")

    found = examine(store.location)["schema"]

    assert "9999" in found.message
    assert found.hint is not None


def test_a_worker_with_a_late_heartbeat_is_told(store: Store, supervisors: Supervisors) -> None:
    config.set_option(store, "lease", 2)
    supervisor = supervisors.start()
    [pid] = supervisor.worker_pids()
    supervisor.signal(signal.SIGSTOP)  # it would end the worker that it does not hear of
    os.kill(pid, signal.SIGSTOP)

    wait_until(lambda: problems(store.location) == ["workers"])
    found = examine(store.location)["workers"]

    assert f"(process {pid}) has not been heard of for" in found.message
    assert found.hint is not None
    assert f"kill -CONT {pid}" in found.hint
    supervisor.signal(signal.SIGCONT)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: problems(store.location) == [])


def test_a_worker_that_died_unnoticed_is_told(store: Store, hire: Hire) -> None:
    add(store)
    worker = hire()
    worker.claim_one()
    worker.die()

    found = examine(store.location)["workers"]

    assert "worker w1 (process 4711) died" in found.message
    assert found.hint == "start one: queuectl worker start"


def test_an_entry_from_the_future_tells_that_the_clock_was_set_back(store: Store) -> None:
    add(store)
    change(store, "UPDATE jobs SET updated_at = ?", in_an_hour())

    found = examine(store.location)["clock"]

    assert "ahead of this machine's clock" in found.message
    assert found.hint is not None


def test_a_process_of_a_worker_that_is_gone_is_told(store: Store, hire: Hire) -> None:
    worker = hire()
    worker.die()
    rescues.rescue(store, ["w1"])

    found = examine(store.location, {"w1": [os.getpid()], "another store's": [1]})["processes"]

    assert f"process {os.getpid()} (" in found.message
    assert found.hint == f"kill -KILL {os.getpid()}"


def test_processes_of_living_workers_and_of_other_stores_are_theirs(
    store: Store, hire: Hire
) -> None:
    hire()

    assert problems(store.location, {"w1": [os.getpid()], "another store's": [1]}) == []


def test_a_schedule_without_anybody_for_its_jobs_is_told(store: Store, hire: Hire) -> None:
    add_schedule(store, "s", "slow")
    nobody = examine(store.location)["schedules"]
    hire("w1", queues=["quick"])
    unserved = examine(store.location)["schedules"]
    hire("w2", queues=["slow"])
    served = examine(store.location)["schedules"]

    assert nobody.message == "no worker runs, so nobody makes the jobs of 1 schedule"
    assert unserved.message == "schedule s makes jobs for queue slow, which no worker serves"
    assert unserved.hint == "start one: queuectl worker start --queue slow"
    assert served.ok
    assert served.message.startswith("1; the next is s, in ")


def test_a_paused_schedule_is_well_and_one_without_its_time_zone_is_not(
    store: Store, hire: Hire
) -> None:
    hire()
    add_schedule(store, "fine", "default")
    add_schedule(store, "lost", "default")
    schedules.pause(store, ["fine"])
    paused = examine(store.location)["schedules"]
    change(store, "UPDATE schedules SET timezone = 'Mars/Olympus' WHERE name = 'lost'")
    lost = examine(store.location)["schedules"]
    late = "2001-01-01 00:00:00.000000"
    change(store, "UPDATE schedules SET timezone = 'UTC', next_at = ? WHERE name = 'lost'", late)
    missed = examine(store.location)["schedules"]

    assert paused.ok
    assert "; fine is paused (resumed now, it would be due in " in paused.message
    assert "schedule lost can no longer be read: its time zone 'Mars/Olympus'" in lost.message
    assert "queuectl schedule resume lost" in (lost.hint or "")
    assert "and no worker made its job" in missed.message


def add_schedule(store: Store, name: str, queue: str) -> None:
    request = JobRequest(command="true", cwd="/", queue=queue)
    definition = Definition("0 4 * * *", None, "UTC", CatchUp.LAST, Overlap.SKIP, request)
    schedules.add(store, name, definition)
