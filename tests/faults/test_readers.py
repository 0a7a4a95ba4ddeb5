"""Readers that keep a transaction open while others write."""

from __future__ import annotations

from pathlib import Path

from queuectl.db import inspection
from queuectl.db.engine import Store
from queuectl.domain.request import validate_request
from queuectl.service import doctor, jobs
from tests.cli.conftest import Program
from tests.jobs import add, state_of
from tests.scripts import await_ready, start_script
from tests.supervision import Supervisors

_READER = """
store = open_store(location)

def read(connection):
    print(connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar(), flush=True)
    ready()
    return connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar()

print(store.read(read))
"""
_LARGE_BYTES = 100_000


def test_writers_go_on_beside_a_reader_and_doctor_names_it(
    store: Store, supervisors: Supervisors, queuectl: Program, tmp_path: Path
) -> None:
    """S2: the log grows for as long as the reader stays; doctor says so, and who it is."""
    add(store, id="before")
    with start_script(tmp_path, store.location.path, _READER) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "1\n"
        await_ready(reader)
        assert f"a read transaction is kept open by process {reader.pid}" in queuectl("doctor").out

        large = f"true # {'x' * _LARGE_BYTES}"
        number = doctor.LARGE_WAL_BYTES // _LARGE_BYTES + 10
        batch = [validate_request({"command": large, "delay": "1h"}) for _ in range(number)]
        jobs.enqueue(store, batch, cwd="/")
        supervisors.run_drained()

        assert state_of(store, "before") == "completed"
        assert inspection.wal_bytes(store.location) > doctor.LARGE_WAL_BYTES
        told = queuectl("doctor", code=1)
        [problem] = [line for line in told.lines if line.startswith("problem")]
        assert problem.split()[1] == "readers"
        assert f"process {reader.pid} (" in problem
        assert reader.communicate("go on\n")[0] == "1\n"  # all that it read was of one moment

    assert queuectl("doctor").err == ""
