"""Who holds which bytes of a file, as the kernel tells it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from queuectl.db import inspection
from queuectl.db.engine import Store
from tests.jobs import add
from tests.scripts import await_ready, start_script

_LOCKS = """\
1: POSIX  ADVISORY  READ 11 fe:00:500 123 123
2: POSIX  ADVISORY  READ 12 fe:00:500 128 128
3: POSIX  ADVISORY  WRITE 13 fe:00:500 120 120
4: POSIX  ADVISORY  READ 14 fe:00:501 124 124
5: FLOCK  ADVISORY  WRITE 15 fe:00:500 0 EOF
6: POSIX  ADVISORY  READ 16 fe:00:500 0 EOF
6: -> POSIX  ADVISORY  WRITE 17 fe:00:500 123 123
7: POSIX  ADVISORY  READ 18 fe:00:500 127 130
"""


def test_only_locks_on_the_bytes_in_question_count() -> None:
    assert inspection.lock_holders(_LOCKS, 500, (123, 127)) == {11, 16, 18}


_READER = """
store = open_store(location)

def read(connection):
    connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar()
    ready()

store.read(read)
"""


def test_a_process_in_a_read_transaction_is_found(store: Store, tmp_path: Path) -> None:
    add(store)
    with start_script(tmp_path, store.location.path, _READER) as reader:
        await_ready(reader)

        found = inspection.readers(store.location, "wal")
        reader.communicate("go on\n")

    assert found == {reader.pid}
    assert inspection.readers(store.location, "wal") == set()


def test_this_process_and_idle_connections_are_no_readers(store: Store) -> None:
    add(store)

    found = store.read(lambda connection: inspection.readers(store.location, "wal"))

    assert found == set()


def test_a_process_is_described_by_its_command() -> None:
    assert inspection.describe_process(os.getpid()).startswith(f"process {os.getpid()} (")
    assert "not known" in inspection.describe_process(2**22 + 1)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_store_that_nobody_has_open_has_no_readers(
    store: Store, mode: str, tmp_path: Path
) -> None:
    store.close()

    assert inspection.readers(store.location, mode) == set()
