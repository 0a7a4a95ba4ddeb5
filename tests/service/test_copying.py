"""Copy a store: between both kinds, whatever is in it, and across the death of the copier."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select

from queuectl.db import schema
from queuectl.db.engine import Store, open_store
from queuectl.db.models import Base, JobRow
from queuectl.errors import Conflict, InvalidInput, SchemaMismatch, StoreError
from queuectl.service import audit, copying, doctor, jobs, outputs, rescues
from queuectl.settings import ServerLocation, StoreLocation, locate_store
from tests import servers
from tests.actors import Hire
from tests.db.population import populate
from tests.jobs import add, state_of

_COPIED = (
    "jobs",
    "attempts",
    "output_chunks",
    "dlq",
    "tags",
    "dependencies",
    "inputs",
    "config",
    "queues",
    "schedules",
)
#: Ends as if the machine did, at the given report of the given step.
_DIES = """
import os, signal, sys
from queuectl.service import copying, outputs, tables
from queuectl.settings import locate_store

source = copying.open_source(locate_store(sys.argv[1]))
target = locate_store(sys.argv[2])
reports = int(sys.argv[4])
tables.BATCH_ROWS = 3

def watch(step, rows):
    global reports
    reports -= step == sys.argv[3]
    if not reports:
        os.kill(os.getpid(), signal.SIGKILL)

copying.plan(source, target)
opened = copying.begin(source, target)
copying.transfer(source, opened, watch)
outputs.copy_outputs(source.location, target, watch)
copying.finish(source, opened, watch)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreLocation]:
    """The place of the copy: an SQLite file that nobody has created, or an empty database."""
    if request.param == "sqlite":
        yield StoreLocation(tmp_path / "target" / "queue.db", "test")
        return
    with servers.new_database("queuectl_test_target") as url:
        found = locate_store(url, {})
        schema.upgrade(found)
        yield found


@pytest.fixture
def full(store: Store) -> Store:
    """A store with rows of every kind and a sequence that is ahead of them."""
    populate(store)
    rescues.rescue(store, ["w1"])
    add(store, "true", id="odd", env={"B": "ö\t\\", "A": "\\N"}, priority=-3, timeout=0.1)
    add(store, id="gone")
    store.write(lambda connection: connection.execute(delete(JobRow).where(JobRow.id == "gone")))
    return store


def rows_of(store: Store) -> dict[str, list[Any]]:
    """Return all that is to be copied, each table sorted by its rows."""

    def work(connection: Connection) -> dict[str, list[Any]]:
        return {
            name: sorted(map(tuple, connection.execute(select(tables[name]))), key=repr)
            for name in _COPIED
        }

    tables = Base.metadata.tables
    return store.read(work)


def copy(source: Store, target: StoreLocation, *, restart: bool = False) -> copying.Copy:
    """Copy as the command does."""
    copying.plan(source, target, restart=restart)
    with closing(copying.begin(source, target, restart=restart)) as opened:
        copying.transfer(source, opened)
        return copying.finish(source, opened)


def die_while_copying(source: Store, target: StoreLocation, step: str, report: int) -> None:
    """Copy in a process of its own that is killed at that report."""
    places = [_text_of(source.location), _text_of(target)]
    done = subprocess.run([sys.executable, "-c", _DIES, *places, step, str(report)], check=False)
    assert done.returncode == -signal.SIGKILL


def _text_of(location: StoreLocation) -> str:
    return location.url if isinstance(location, ServerLocation) else str(location)


def test_the_copy_holds_the_same_rows_and_the_source_is_as_it_was(
    full: Store, target: StoreLocation
) -> None:
    before = rows_of(full)

    done = copy(full, target)

    with closing(open_store(target)) as copied:
        assert rows_of(copied) == rows_of(full) == before
        assert all(check.ok for check in audit.audit(copied))
    assert {name: table.rows for name, table in done.tables.items()} == {
        "jobs": 10,
        "attempts": 4,
        "output_chunks": 2,
        "dead_letters": 1,
        "tags": 3,
        "dependencies": 2,
        "inputs": 1,
        "options": 1,
        "queues": 2,
        "schedules": 1,
    }


def test_the_next_job_gets_a_number_that_was_never_used(full: Store, target: StoreLocation) -> None:
    done = copy(full, target)

    with closing(open_store(target)) as copied:
        new = add(copied)
    assert new.seq == done.last_seq + 1 == add(full).seq
    assert done.last_seq == 11  # that job was deleted; its number is not given again


@pytest.mark.parametrize(("step", "report"), [("copying", 1), ("copying", 4), ("comparing", 2)])
def test_a_copy_that_was_killed_is_no_store_and_goes_on_where_it_stopped(
    full: Store, target: StoreLocation, step: str, report: int
) -> None:
    die_while_copying(full, target, step, report)

    with (
        pytest.raises(SchemaMismatch, match="unfinished copy"),
        closing(open_store(target)) as half,
    ):
        jobs.list_jobs(half)
    with pytest.raises(SchemaMismatch, match="unfinished copy"):
        schema.upgrade(target)
    [found] = [f for f in doctor.examine(target, {}) if not f.ok and "unfinished" in f.message]
    assert found.hint is not None
    plan = copying.plan(full, target)
    assert plan.resumes
    assert 0 < sum(plan.done.values()) <= sum(plan.rows.values())
    copy(full, target)
    with closing(open_store(target)) as copied:
        assert rows_of(copied) == rows_of(full)


@pytest.mark.parametrize("report", [1, 2])
def test_a_copy_that_was_killed_among_the_output_files_goes_on_with_them(
    full: Store, target: StoreLocation, report: int
) -> None:
    names = {"1-1.log", "2-1.log", "3-1.log"}
    for name in names:
        (full.location.logs / name).write_bytes(name.encode() * 1000)
    die_while_copying(full, target, outputs.WRITING, report)
    whole = {path.name: path.stat().st_ino for path in target.logs.iterdir()}
    assert len(whole) == report
    # The kill may as well come in the middle of a file.
    (target.logs / f"{min(names - set(whole))}.part").write_bytes(b"half of")

    with closing(copying.begin(full, target)) as opened:
        copying.transfer(full, opened)
        assert outputs.copy_outputs(full.location, target) == 3
        copying.finish(full, opened)

    copied = {path.name: path.read_bytes() for path in target.logs.iterdir()}
    assert copied == {name: name.encode() * 1000 for name in names}
    inodes = {path.name: path.stat().st_ino for path in target.logs.iterdir()}
    assert whole.items() <= inodes.items()  # what was whole is not copied again


def test_a_second_copy_to_the_same_target_is_refused_while_the_first_goes_on(
    full: Store, target: StoreLocation
) -> None:
    with closing(copying.begin(full, target)) as opened:
        copying.transfer(full, opened)

        for restart in (False, True):
            with pytest.raises(Conflict, match=r"another copy to .* goes on"):
                copy(full, target, restart=restart)

        copying.finish(full, opened)
    with closing(open_store(target)) as copied:
        assert rows_of(copied) == rows_of(full)


def test_what_changed_in_the_source_meanwhile_is_found_and_a_restart_heals_it(
    full: Store, target: StoreLocation
) -> None:
    die_while_copying(full, target, "copying", 2)
    full.write(
        lambda connection: connection.execute(
            JobRow.__table__.update().where(JobRow.id == "completed").values(priority=7)  # type: ignore[attr-defined]
        )
    )

    with pytest.raises(Conflict, match="differs from the source in its jobs"):
        copy(full, target)
    assert copying.plan(full, target).resumes

    copy(full, target, restart=True)
    with closing(open_store(target)) as copied:
        assert rows_of(copied) == rows_of(full)


def test_the_unfinished_copy_of_another_store_is_refused(
    full: Store, target: StoreLocation, tmp_path: Path
) -> None:
    die_while_copying(full, target, "copying", 1)
    with closing(open_store(StoreLocation(tmp_path / "other" / "queue.db", "test"))) as other:
        with pytest.raises(Conflict, match="unfinished copy of another store"):
            copying.plan(other, target)

        copy(other, target, restart=True)

    with closing(open_store(target)) as copied:
        assert jobs.list_jobs(copied) == []


def test_living_workers_of_the_source_are_refused(
    store: Store, target: StoreLocation, hire: Hire
) -> None:
    hire()

    with pytest.raises(Conflict, match="1 worker runs") as refused:
        copying.plan(store, target)

    assert "worker stop" in (refused.value.hint or "")


def test_living_workers_of_the_target_are_refused(
    store: Store, target: StoreLocation, hire: Hire
) -> None:
    with closing(open_store(target)) as source:
        hire()

        with pytest.raises(Conflict, match="1 worker runs"):
            copying.plan(source, store.location)


def test_a_job_whose_worker_died_is_taken_back_before(
    store: Store, target: StoreLocation, hire: Hire
) -> None:
    add(store, id="a")
    actor = hire()
    actor.claim_one()
    actor.die()

    with pytest.raises(Conflict, match="when the worker died"):
        copying.plan(store, target)

    rescues.rescue(store, [actor.id])
    copy(store, target)
    with closing(open_store(target)) as copied:
        assert state_of(copied, "a") == "pending"


def test_a_target_that_holds_something_is_refused(full: Store, target: StoreLocation) -> None:
    with closing(open_store(target)) as other:
        add(other, id="mine")

        with pytest.raises(Conflict, match="not empty: 1 jobs, 1 queues"):
            copy(full, target)
        with pytest.raises(Conflict, match="not empty"):
            copying.begin(full, target)

        assert state_of(other, "mine") == "pending"


def test_a_store_is_not_copied_to_itself(store: Store) -> None:
    with pytest.raises(InvalidInput, match="itself"):
        copying.plan(store, store.location)


def test_a_source_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    place = StoreLocation(tmp_path / "none" / "queue.db", "test")

    with pytest.raises(StoreError, match="there is no store"):
        copying.open_source(place)

    assert not place.folder.exists()


def test_a_plan_creates_nothing(store: Store, tmp_path: Path) -> None:
    place = StoreLocation(tmp_path / "none" / "queue.db", "test")

    copying.plan(store, place)

    assert not place.folder.exists()


def test_output_files_go_over_whole_and_once(store: Store, target: StoreLocation) -> None:
    copy(store, target)
    (store.location.logs / "1-1.log").write_bytes(b"one")
    (store.location.logs / "2-1.0.log").write_bytes(b"two")
    (store.location.logs / "note.txt").write_bytes(b"not an output")
    (store.location.logs / "3-1.log").symlink_to("/etc/passwd")

    assert outputs.copy_outputs(store.location, target) == 2
    first = (target.logs / "1-1.log").stat()
    assert outputs.copy_outputs(store.location, target) == 2

    assert sorted(path.name for path in target.logs.iterdir()) == ["1-1.log", "2-1.0.log"]
    assert (target.logs / "1-1.log").read_bytes() == b"one"
    assert first.st_ino == (target.logs / "1-1.log").stat().st_ino
    assert first.st_mode & 0o777 == 0o600
