"""The folder of a server's side files: a link to the one that bears the database's own id."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from queuectl.db.files import adopt_folder
from queuectl.settings import ServerLocation

_THREADS = 8
_TIMES = 200


def locate(folder: Path, name: str) -> ServerLocation:
    return ServerLocation(folder / name / "store", "a test", "postgresql://host/database")


def test_all_who_come_at_once_find_the_same_folder(tmp_path: Path) -> None:
    """Without the lock one of 200 times fails, in each of ten runs."""
    barrier = Barrier(_THREADS)

    def come(location: ServerLocation) -> None:
        barrier.wait()
        adopt_folder(location, "0" * 32)

    with ThreadPoolExecutor(_THREADS) as pool:
        for time in range(_TIMES):
            location = locate(tmp_path, f"url-{time}")
            for visit in [pool.submit(come, location) for _ in range(_THREADS)]:
                visit.result()

            assert location.folder.resolve().name == f"postgresql-{'0' * 32}"
            assert location.logs.is_dir()
    assert not list(tmp_path.glob("*.new"))


def test_a_url_that_leads_to_another_database_gets_that_ones_folder(tmp_path: Path) -> None:
    location = locate(tmp_path, "url")
    adopt_folder(location, "1" * 32)

    adopt_folder(location, "2" * 32)

    assert location.folder.resolve().name == f"postgresql-{'2' * 32}"
    assert not list(tmp_path.glob("*.new"))


def test_the_folder_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    location = locate(tmp_path, "url")
    location.logs.mkdir(parents=True)
    (location.logs / "1.out").write_text("kept")

    adopt_folder(location, "1" * 32)

    assert location.folder.is_symlink()
    assert (location.logs / "1.out").read_text() == "kept"
