"""Transactions: committed whole or undone, told by the bell, and patient with each other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select

from queuectl.db.engine import Store, open_store
from queuectl.db.models import JobRow, QueueRow
from queuectl.db.wakeup import Doorbell
from queuectl.domain.selection import Selection
from queuectl.errors import InvalidInput
from queuectl.service import jobs
from queuectl.settings import StoreLocation
from tests.jobs import add
from tests.scripts import await_ready, start_script


def insert_queue(connection: Connection) -> None:
    connection.execute(insert(QueueRow).values(name="q"))


def count_queues(store: Store) -> int:
    return store.read(
        lambda connection: int(
            connection.execute(select(func.count()).select_from(QueueRow)).scalar_one()
        )
    )


def test_a_write_that_raises_leaves_nothing_and_the_store_usable(store: Store) -> None:
    def work(connection: Connection) -> None:
        insert_queue(connection)
        raise KeyError("q")

    with pytest.raises(KeyError):
        store.write(work)

    assert count_queues(store) == 0
    store.write(insert_queue)
    assert count_queues(store) == 1


def test_a_read_sees_one_moment_however_long_it_takes(store: Store) -> None:
    def work(connection: Connection) -> tuple[int, int]:
        query = select(func.count()).select_from(JobRow)
        before = connection.execute(query).scalar_one()
        with closing(Store(store.location)) as other:
            add(other)
        return before, connection.execute(query).scalar_one()

    assert store.read(work) == (0, 0)
    assert len(jobs.list_jobs(store)) == 1


def test_the_bell_rings_after_a_change(store: Store) -> None:
    with Doorbell(store.location) as bell:
        store.write(insert_queue)

        assert bell.heard()


def test_the_bell_is_silent_when_nothing_changed(store: Store) -> None:
    with Doorbell(store.location) as bell:
        store.write(lambda connection: None)
        count_queues(store)

        assert not bell.heard()


def test_a_change_of_another_connection_is_seen_by_the_data_version(store: Store) -> None:
    before = store.data_version()

    with closing(Store(store.location)) as other:
        add(other)

    assert store.data_version() != before


def test_a_value_that_is_not_unicode_is_refused_by_name(store: Store) -> None:
    with pytest.raises(InvalidInput, match=r"^'\\udcff' is not valid Unicode$"):
        jobs.list_jobs(store, Selection(queues=("\udcff",)))

    assert add(store).state == "pending"


def test_a_closed_store_opens_again_when_it_is_used(store: Store) -> None:
    add(store, id="a")
    store.close()

    assert jobs.find(store, "a").id == "a"


def test_many_writers_at_once_lose_nothing(location: StoreLocation, tmp_path: Path) -> None:
    code = """
store = open_store(location)
ready()
for _ in range(40):
    jobs.enqueue(store, [JobRequest(command="true")], cwd=None)
"""
    open_store(location).close()
    writers = [start_script(tmp_path, location.path, code) for _ in range(4)]
    for writer in writers:
        await_ready(writer)

    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    complaints = [writer.communicate(timeout=60)[1] for writer in writers]

    assert complaints == [""] * 4
    with closing(open_store(location)) as store:
        assert len(jobs.list_jobs(store, limit=None)) == 4 * 40


def test_a_sequence_number_is_never_used_again(store: Store) -> None:
    add(store, id="a")
    newest = add(store, id="b")
    store.write(lambda connection: connection.execute(JobRow.__table__.delete()))  # type: ignore[attr-defined]  # a Table

    assert add(store, id="c").seq > newest.seq
