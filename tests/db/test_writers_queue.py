"""Writers wait in line for the store's lock, but not for ever."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from queuectl.db.engine import open_store
from queuectl.db.sqlite import writers_queue
from queuectl.errors import StoreUnavailable
from queuectl.settings import StoreLocation
from tests.jobs import add, state_of
from tests.scripts import await_ready, start_script
from tests.waiting import LIMIT_SECONDS, wait_until

_HOLD = """
from queuectl.db.sqlite import writers_queue
with writers_queue(location):
    ready()
"""


@pytest.fixture
def holder(location: StoreLocation, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock until it is sent a line or killed."""
    open_store(location).close()
    process = start_script(tmp_path, location.path, _HOLD)
    await_ready(process)
    yield process
    process.kill()
    process.communicate()


def release(holder: subprocess.Popen[str]) -> None:
    holder.communicate("go on\n", timeout=LIMIT_SECONDS)
    assert holder.returncode == 0


def test_a_writer_goes_on_when_the_one_before_it_has_ended(
    location: StoreLocation, holder: subprocess.Popen[str]
) -> None:
    with closing(open_store(location)) as store:
        writer = threading.Thread(target=add, args=(store,), kwargs={"id": "a"})
        writer.start()
        wait_until(lambda: any(thread.name == "writers-queue" for thread in threading.enumerate()))

        release(holder)
        writer.join(LIMIT_SECONDS)

        assert state_of(store, "a") == "pending"


def test_a_writer_gives_up_on_a_stopped_process(
    location: StoreLocation, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(holder.pid).status() == psutil.STATUS_STOPPED)

    with (
        pytest.raises(StoreUnavailable, match="locked by another process") as caught,
        writers_queue(location, patience=0.2),
    ):
        pytest.fail("the lock was held")

    assert "stopped" in str(caught.value.hint)


def test_whoever_gave_up_does_not_keep_the_lock_that_comes_later(
    location: StoreLocation, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreUnavailable), writers_queue(location, patience=0.2):
        pytest.fail("the lock was held")

    release(holder)

    with writers_queue(location, patience=LIMIT_SECONDS):
        assert location.lock.exists()


def test_a_killed_writer_leaves_the_lock(
    location: StoreLocation, holder: subprocess.Popen[str]
) -> None:
    holder.kill()

    with closing(open_store(location)) as store:
        add(store, id="a")

        assert state_of(store, "a") == "pending"


def test_readers_do_not_wait_in_line(
    location: StoreLocation, holder: subprocess.Popen[str]
) -> None:
    with closing(open_store(location)) as store:
        assert store.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1

    assert holder.poll() is None
