"""A disk that is full costs no result: it is kept, and settled when there is room (S3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from queuectl.db.engine import open_store
from queuectl.errors import StoreUnavailable
from queuectl.service import jobs
from queuectl.settings import StoreLocation
from tests.disks import one_mebibyte
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0, reason="row S3 was not run: only root can mount a small disk"
    ),
    pytest.mark.sqlite,
]


@pytest.fixture
def small_disk(location: StoreLocation) -> Iterator[Path]:
    """The store's folder is a disk of one mebibyte."""
    with one_mebibyte(location.folder):
        open_store(location).close()
        yield location.folder


def fill(disk: Path) -> Path:
    """Fill the disk to its last byte; return the file to remove for room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def test_a_result_that_could_not_be_recorded_is_kept_until_there_is_room(
    small_disk: Path, location: StoreLocation, supervisors: Supervisors, tmp_path: Path
) -> None:
    """S3: it is settled when there is room."""
    go, ended = tmp_path / "go", tmp_path / "ended"
    with closing(open_store(location)) as store:
        add(store, f"{until(go)}; echo done; touch {ended}", id="a", cwd=str(tmp_path))
        supervisor = supervisors.start()
        supervisor.wait_for("job-started")

        filler = fill(small_disk)
        go.touch()
        wait_until(ended.exists)
        supervisor.wait_for("store-away")
        filler.unlink()
        wait_until(lambda: state_of(store, "a") == "completed")

        [attempt] = attempts_of(store, "a")
        assert (attempt.outcome, attempt.output_tail) == ("completed", b"done\n")
        supervisor.wait_for("store-back")
        add(store, "true", id="after", cwd=str(tmp_path))
        wait_until(lambda: state_of(store, "after") == "completed")


def test_an_enqueue_without_room_is_refused_and_stores_nothing(
    small_disk: Path, location: StoreLocation
) -> None:
    """S3: a clear error, and nothing partial."""
    with closing(open_store(location)) as store:
        before = add(store, id="before")
        filler = fill(small_disk)

        with pytest.raises(StoreUnavailable, match="no space left") as caught:
            add(store, "x" * 100_000, id="big")

        assert caught.value.hint == "free some disk space"
        assert jobs.list_jobs(store) == [before]
        filler.unlink()
        assert add(store, id="after").state == "pending"


def test_a_store_without_room_is_not_created(small_disk: Path, location: StoreLocation) -> None:
    """S3: nor does half a store stay behind."""
    other = StoreLocation(small_disk / "other.db", "test")
    fill(small_disk)

    with pytest.raises(StoreUnavailable, match="no space left"):
        open_store(other)

    assert not other.path.exists()
