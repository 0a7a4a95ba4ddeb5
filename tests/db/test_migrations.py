"""The schema's versions: up, down and up again, from a checkout's ``alembic`` too (N5)."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from queuectl.db import schema
from queuectl.db.engine import Store, open_store
from queuectl.db.models import SCHEMA_REVISION, Base
from queuectl.domain.job import Ending
from queuectl.errors import SchemaMismatch, StoreError
from queuectl.service import audit, config, dead_letters, jobs
from queuectl.settings import StoreLocation, locate_store
from tests import servers
from tests.actors import Hire
from tests.db.population import populate
from tests.jobs import add
from tests.supervision import marked_environment

_CHECKOUT = Path(schema.__file__).parents[2]


def migrate(location: StoreLocation, way: Callable[..., None], revision: str) -> None:
    """Go ``way`` to a revision: ``command.upgrade`` or ``command.downgrade``."""
    with schema.migrating(location) as connection:
        config = schema.alembic_config(location)
        config.attributes["connection"] = connection
        way(config, revision)


def downgrade(location: StoreLocation, revision: str = "base") -> None:
    migrate(location, command.downgrade, revision)


def set_revision(store: Store, revision: str) -> None:
    store.write(
        lambda connection: connection.exec_driver_sql(
            f"UPDATE alembic_version SET version_num = '{revision}'"  # noqa: S608  # our own value
        )
    )


def schema_of(connection: Connection) -> dict[str, str]:
    """Return the SQL of every table and index, with white space made alike."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
    )
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows}


def test_the_newest_migration_is_the_one_that_the_models_stand_for(location: StoreLocation) -> None:
    scripts = ScriptDirectory.from_config(schema.alembic_config(location))

    assert scripts.get_heads() == [SCHEMA_REVISION]


def test_a_new_store_has_the_models_tables(store: Store) -> None:
    assert schema.stored_revision(store.location) == SCHEMA_REVISION
    assert schema.check(store.location) == []


def test_the_migrations_make_the_same_indexes_as_the_models(store: Store) -> None:
    # Alembic's own comparison overlooks DESC, and what a partial index is partial to.
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        wanted = {
            name: sql for name, sql in schema_of(connection).items() if name.startswith("ix_")
        }
    engine.dispose()

    made = store.read(schema_of)

    assert {name: sql for name, sql in made.items() if name.startswith("ix_")} == wanted


def test_a_missing_index_is_found_by_the_check(store: Store) -> None:
    store.write(lambda connection: connection.exec_driver_sql("DROP INDEX ix_jobs_due"))

    [difference] = schema.check(store.location)

    assert "ix_jobs_due" in difference


def test_a_populated_store_goes_down_and_up_again(store: Store) -> None:
    populate(store)
    store.close()

    downgrade(store.location)
    revision = schema.stored_revision(store.location)
    upgraded = schema.upgrade(store.location)

    assert revision is None
    assert upgraded
    assert schema.check(store.location) == []
    assert add(store, id="after").state == "pending"


_KEPT = {
    "jobs": "SELECT seq, id, queue, command, runs, attempts, crashes, max_retries FROM jobs",
    "attempts": "SELECT job_seq, run, worker_id, outcome, error FROM attempts",
    "dlq": "SELECT job_seq, reason FROM dlq",
    "config": "SELECT key, value FROM config",
    "workers": "SELECT id, state FROM workers",
    "queues": "SELECT name FROM queues",
}


def kept_rows(location: StoreLocation) -> dict[str, list[tuple[Any, ...]]]:
    """Return what each revision has held, and must hand on."""
    with servers.bare_connection(location) as connection:
        return {
            table: sorted(tuple(row) for row in connection.execute(query).fetchall())
            for table, query in _KEPT.items()
        }


@contextmanager
def new_store(kind: str, sqlite_location: StoreLocation) -> Iterator[StoreLocation]:
    if kind == "sqlite":
        yield sqlite_location
        return
    with servers.new_database("queuectl_test_rows") as url:
        yield locate_store(url, {})


def _as_before_terms(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """0009 knows no attempt that stalled: on the way down it becomes one that timed out."""
    attempts = [
        tuple("timed out" if value == "stalled" else value for value in row)
        for row in rows["attempts"]
    ]
    return {**rows, "attempts": attempts}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_outlive_each_revision_on_its_way_down_and_up(
    kind: str, sqlite_location: StoreLocation
) -> None:
    scripts = ScriptDirectory.from_config(schema.alembic_config(sqlite_location))
    revisions = [script.revision for script in scripts.walk_revisions()]  # the newest first
    with new_store(kind, sqlite_location) as location:
        schema.upgrade(location)
        with closing(open_store(location)) as store:
            populate(store)
        before = _as_before_terms(kept_rows(location))

        for newer, older in itertools.pairwise(revisions):
            migrate(location, command.downgrade, older)
            down = kept_rows(location)
            migrate(location, command.upgrade, newer)
            up = kept_rows(location)
            migrate(location, command.downgrade, older)

            assert schema.stored_revision(location) == older
            assert down == up == before  # what was not known there comes back as what it became

        assert schema.upgrade(location)
        assert schema.check(location) == []
        assert kept_rows(location) == before
        with closing(open_store(location)) as store:
            problems = [check.name for check in audit.audit(store) if not check.ok]
            assert problems in ([], ["claims"])  # the worker of one has died
            assert add(store, id="after").seq == max(row[0] for row in before["jobs"]) + 1


def test_an_upgrade_of_a_current_store_changes_nothing(store: Store) -> None:
    populate(store)
    before = store.data_version()

    changed = schema.upgrade(store.location)

    assert not changed
    assert store.data_version() == before


def test_an_older_store_is_upgraded_when_it_is_opened(store: Store) -> None:
    """N5: an SQLite store is upgraded without being asked."""
    store.close()
    downgrade(store.location)

    with closing(open_store(store.location)) as opened:
        assert add(opened, id="a").id == "a"


def test_a_newer_store_is_refused_with_both_versions(store: Store) -> None:
    """N5: the store's version and the program's."""
    add(store, id="a")
    set_revision(store, "9876")
    store.close()

    with pytest.raises(SchemaMismatch) as caught:
        open_store(store.location)

    assert "9876" in caught.value.message
    assert SCHEMA_REVISION in caught.value.message
    assert caught.value.exit_code == 5
    set_back = Store(store.location)
    with pytest.raises(SchemaMismatch):
        jobs.find(set_back, "a")


def allow(store: Store, revision: str, usable_from: str) -> None:
    statement = f"UPDATE store SET revision = '{revision}', usable_from = '{usable_from}'"  # noqa: S608  # the test's own
    store.write(lambda connection: connection.exec_driver_sql(statement))


def test_a_newer_store_that_lets_this_program_in_is_used_as_it_is(store: Store) -> None:
    add(store, id="a")
    set_revision(store, "9876")
    allow(store, "9876", SCHEMA_REVISION)
    store.close()

    with closing(open_store(store.location)) as opened:
        assert add(opened, id="b").id == "b"
    assert not schema.upgrade(store.location)
    assert schema.stored_revision(store.location) == "9876"


def test_a_permission_is_of_one_revision_and_to_programs_that_are_new_enough(store: Store) -> None:
    set_revision(store, "9876")
    for revision, usable_from in (("9875", SCHEMA_REVISION), ("9876", "9875")):
        allow(store, revision, usable_from)

        with pytest.raises(SchemaMismatch, match="newer"):
            open_store(store.location)


def test_each_migration_says_which_programs_may_use_what_it_made(store: Store) -> None:
    rows = store.read(
        lambda connection: connection.exec_driver_sql("SELECT revision FROM store").all()
    )

    assert [row.revision for row in rows] == [SCHEMA_REVISION]


def test_a_store_that_was_upgraded_meanwhile_is_not_written(store: Store) -> None:
    """N5: also by a process that began before."""
    set_revision(store, "9876")
    store.close()

    with pytest.raises(SchemaMismatch, match="9876"):
        add(store)


def test_a_migration_that_fails_leaves_the_store_as_it_was(store: Store) -> None:
    populate(store)
    before = store.read(schema_of)
    store.close()

    def migrate() -> None:
        with schema.migrating(store.location) as connection:
            connection.exec_driver_sql("DROP TABLE attempts")
            connection.exec_driver_sql("DELETE FROM jobs")
            connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(Exception, match="nowhere"):
        migrate()

    assert store.read(schema_of) == before
    assert len(jobs.list_jobs(store)) == 9


def test_a_migration_that_orphans_rows_is_undone(store: Store) -> None:
    populate(store)
    store.close()

    def migrate() -> None:
        with schema.migrating(store.location) as connection:
            connection.exec_driver_sql("DELETE FROM jobs")

    with pytest.raises(StoreError, match="rows without their job"):
        migrate()

    assert len(jobs.list_jobs(store)) == 9


def run_alembic(location: StoreLocation, folder: Path, *words: str) -> str:
    """Run ``alembic`` in the checkout on this store; return what it printed."""
    environment = marked_environment(folder) | {"QUEUECTL_DB_PATH": str(location)}
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *words],
        cwd=_CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alembic_in_the_checkout_works_on_the_store_that_the_environment_names(
    location: StoreLocation, tmp_path: Path
) -> None:
    run_alembic(location, tmp_path, "upgrade", "head")
    with closing(Store(location)) as store:
        populate(store)

    assert "No new upgrade operations" in run_alembic(location, tmp_path, "check")
    assert SCHEMA_REVISION in run_alembic(location, tmp_path, "current")

    run_alembic(location, tmp_path, "downgrade", "base")
    run_alembic(location, tmp_path, "upgrade", "head")

    assert schema.check(location) == []
    assert "CREATE TABLE jobs" in run_alembic(location, tmp_path, "upgrade", "head", "--sql")


def test_requeues_of_an_older_store_are_dated_by_its_history(store: Store, hire: Hire) -> None:
    config.set_option(store, "backoff-max", 0)
    add(store, id="a", max_retries=1)
    add(store, id="b", max_retries=1, priority=-1)
    worker = hire()
    for _ in range(2):
        worker.settle(worker.claim_one(), Ending.FAILED)
    dead_letters.requeue(store, ["a"])
    for _ in range(2):
        worker.settle(worker.claim_one(), Ending.FAILED)
    worker.store.close()
    downgrade(store.location, "0001")

    with closing(open_store(store.location)) as upgraded:
        query = "SELECT id, requeued_after_run FROM jobs ORDER BY id"
        rows = upgraded.read(lambda connection: connection.exec_driver_sql(query).all())
        checks = audit.audit(upgraded)

    assert [tuple(row) for row in rows] == [("a", 2), ("b", None)]
    assert [check.name for check in checks if not check.ok] == []
