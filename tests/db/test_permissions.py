"""Stores and folders that are read-only or somebody else's (S6).

The scripts run without the capabilities by which root passes over all modes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from queuectl.db.engine import open_store
from queuectl.settings import StoreLocation
from tests.jobs import add
from tests.scripts import run_script

_STRANGER = 54321
_ENQUEUE = """
try:
    jobs.enqueue(open_store(location), [JobRequest(command="true")], cwd=None)
except QueuectlError as error:
    print(f"{error.exit_code}: {error.message} ({error.hint})")
else:
    print("stored")
"""
_WITHOUT_POWERS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)


@pytest.fixture
def location(tmp_path: Path) -> StoreLocation:
    """A store with one job in it."""
    place = StoreLocation(tmp_path / "store" / "queue.db", "test")
    with closing(open_store(place)) as store:
        add(store)
    return place


def enqueue(tmp_path: Path, path: Path, under: Sequence[str] = _WITHOUT_POWERS) -> str:
    """Return the exit code and what an ordinary user is told who enqueues there, or ``stored``."""
    return run_script(tmp_path, path, _ENQUEUE, under=under).strip()


def assert_refused(told: str, path: Path) -> None:
    assert told.startswith(f"5: {path} ")
    assert "\n" not in told


def test_an_ordinary_user_can_use_a_store_of_his_own(
    tmp_path: Path, location: StoreLocation
) -> None:
    assert enqueue(tmp_path, location.path) == "stored"


def test_a_read_only_store_is_refused(tmp_path: Path, location: StoreLocation) -> None:
    """S6: told as read-only."""
    location.path.chmod(0o400)

    told = enqueue(tmp_path, location.path)

    assert_refused(told, location.path)
    assert "read-only" in told


def test_an_unreadable_store_is_refused(tmp_path: Path, location: StoreLocation) -> None:
    """S6: a store without any permission."""
    location.path.chmod(0o000)

    assert_refused(enqueue(tmp_path, location.path), location.path)


def test_a_store_in_a_read_only_folder_is_refused(tmp_path: Path, location: StoreLocation) -> None:
    """S6: no file can be made beside it."""
    location.lock.unlink()
    location.folder.chmod(0o500)

    told = enqueue(tmp_path, location.path)

    location.folder.chmod(0o700)
    assert_refused(told, location.path)


def test_a_store_in_a_closed_folder_is_refused(tmp_path: Path, location: StoreLocation) -> None:
    """S6: it cannot even be seen."""
    location.folder.chmod(0o000)

    told = enqueue(tmp_path, location.path)

    location.folder.chmod(0o700)
    assert_refused(told, location.path)
    assert "Permission denied" in told


def test_no_store_can_be_created_in_a_read_only_folder(tmp_path: Path) -> None:
    """S6: nothing is left there."""
    folder = tmp_path / "closed"
    folder.mkdir(0o500)

    told = enqueue(tmp_path, folder / "queue.db")

    assert_refused(told, folder / "queue.db")
    assert "cannot be created: Permission denied" in told
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(
    os.geteuid() != 0, reason="row S6 was not run: only root can give files to somebody else"
)
def test_a_store_of_somebody_else_is_refused(tmp_path: Path, location: StoreLocation) -> None:
    """S6: the owner is told to be another."""
    os.chown(location.path, _STRANGER, _STRANGER)

    told = enqueue(tmp_path, location.path)

    assert_refused(told, location.path)
    assert "belongs to another user" in told


@pytest.mark.skipif(
    os.geteuid() != 0, reason="row S6 was not run: only root can give files to somebody else"
)
def test_a_folder_of_somebody_else_for_the_output_is_refused(
    tmp_path: Path, location: StoreLocation
) -> None:
    """S6: outputs are not given into a stranger's hands."""
    location.path.unlink()
    os.chown(location.logs, _STRANGER, _STRANGER)

    told = enqueue(tmp_path, location.path)

    assert told.startswith(f"5: {location.logs} is not a folder of yours")


@pytest.mark.skipif(os.geteuid() != 0, reason="row S6 was not run: only root can mount")
def test_a_store_on_a_read_only_file_system_is_refused(
    tmp_path: Path, location: StoreLocation
) -> None:
    """S6: all modes allow it, the file system does not."""
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    under = ["unshare", "--mount", "sh", "-c", mount, str(location.folder)]

    told = enqueue(tmp_path, location.path, under)

    assert_refused(told, location.path)
    assert "read-only" in told.lower()
