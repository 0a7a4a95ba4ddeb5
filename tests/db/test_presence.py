"""Who lives is told by a lock that the kernel lets go of when its holder dies."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from queuectl.db import presence
from queuectl.db.engine import open_store
from queuectl.settings import StoreLocation
from tests.scripts import await_ready, start_script
from tests.waiting import wait_until

_LIVE = """
import subprocess
from queuectl.db import presence
lock = presence.take(location, "w1", create=True)
child = subprocess.Popen(["sleep", "300"], close_fds=False)
print(child.pid, flush=True)
ready()
"""


@pytest.fixture
def location(location: StoreLocation) -> StoreLocation:
    open_store(location).close()
    return location


@pytest.fixture
def worker(location: StoreLocation, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``w1`` and has a child that lives on when it is killed."""
    process = start_script(tmp_path, location.path, _LIVE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    await_ready(process)
    yield process
    process.kill()
    assert psutil.pid_exists(child)
    os.kill(child, signal.SIGKILL)
    process.communicate()


def test_the_lock_of_a_worker_that_lives_cannot_be_taken(
    location: StoreLocation, worker: subprocess.Popen[str]
) -> None:
    assert presence.is_held(location, "w1")
    assert presence.take(location, "w1", create=False) is None
    assert worker.poll() is None


def test_a_stopped_worker_keeps_its_lock(
    location: StoreLocation, worker: subprocess.Popen[str]
) -> None:
    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)

    assert presence.is_held(location, "w1")


def test_the_lock_of_a_killed_worker_is_free_though_its_command_lives(
    location: StoreLocation, worker: subprocess.Popen[str]
) -> None:
    worker.kill()
    worker.wait()

    assert not presence.is_held(location, "w1")
    lock = presence.take(location, "w1", create=False)
    assert lock is not None
    lock.release(remove=True)


def test_only_one_of_two_rescuers_gets_the_lock(location: StoreLocation) -> None:
    first = presence.take(location, "gone", create=False)
    second = presence.take(location, "gone", create=False)

    assert first is not None
    assert second is None
    first.release(remove=True)


def test_a_removed_file_is_made_anew_for_the_next_rescuer(location: StoreLocation) -> None:
    for _ in range(2):
        lock = presence.take(location, "gone", create=False)
        assert lock is not None
        lock.release(remove=True)

    assert list(location.workers.iterdir()) == []


def test_a_lock_that_is_let_go_without_removal_leaves_its_file(location: StoreLocation) -> None:
    lock = presence.take(location, "w1", create=True)
    assert lock is not None

    lock.release(remove=False)

    assert [path.name for path in location.workers.iterdir()] == ["w1"]
    assert not presence.is_held(location, "w1")


def test_a_worker_never_takes_over_a_file_that_is_there(location: StoreLocation) -> None:
    (location.workers / "w1").touch()

    with pytest.raises(FileExistsError):
        presence.take(location, "w1", create=True)


def test_whoever_asks_does_not_look_like_the_worker(location: StoreLocation) -> None:
    (location.workers / "w1").touch()

    lock = presence.take(location, "w1", create=False)
    assert lock is not None
    lock.release(remove=False)
    answers = [presence.is_held(location, "w1") for _ in range(3)]

    assert answers == [False, False, False]


def test_a_worker_without_a_file_does_not_live(location: StoreLocation) -> None:
    assert not presence.is_held(location, "missing")


def test_what_a_worker_noted_outlives_it(location: StoreLocation) -> None:
    own = presence.take(location, "w1", create=True)
    assert own is not None
    own.note(["1-2", "30-4"])
    own.note(["5-6"])
    own.note_more("7-8")
    own.note_more("9-10")
    own.release(remove=False)

    lock = presence.take(location, "w1", create=False)

    assert lock is not None
    assert lock.noted() == frozenset({"5-6", "7-8", "9-10"})
    lock.release(remove=True)


def test_what_could_not_be_noted_makes_all_unknown_until_all_is_noted_anew(
    location: StoreLocation,
) -> None:
    own = presence.take(location, "w1", create=True)
    assert own is not None
    own.note(["1-2"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, limits[1]))  # as on a full disk
        own.note_more("3-4")
        unknown = own.noted()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)

    own.note_more("5-6")
    still_unknown = own.noted()
    own.note(["5-6"])

    assert unknown is still_unknown is None
    assert own.noted() == frozenset({"5-6"})
    own.release(remove=True)


def test_of_a_worker_without_its_file_nothing_is_known(location: StoreLocation) -> None:
    lock = presence.take(location, "gone", create=False)

    assert lock is not None
    assert lock.noted() is None
    lock.release(remove=True)


def test_a_worker_is_known_to_whoever_comes_through_a_link(location: StoreLocation) -> None:
    link = location.folder.parent / "link.db"
    link.symlink_to(location.path)
    by_link = StoreLocation(link, "test")
    lock = presence.take(location, "w1", create=True)

    assert lock is not None
    assert presence.is_held(by_link, "w1")
    assert (by_link.lock, by_link.bell, by_link.logs) == (
        location.lock,
        location.bell,
        location.logs,
    )
    lock.release(remove=True)
