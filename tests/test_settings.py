"""Where the store is: the flag, then the environment, then the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from queuectl.errors import InvalidInput
from queuectl.settings import locate_store

BOTH = {"QUEUECTL_DATABASE_URL": "sqlite:////url.db", "QUEUECTL_DB_PATH": "/path.db"}


def test_the_flag_comes_first() -> None:
    location = locate_store("/flag.db", BOTH)

    assert (str(location), location.source) == ("/flag.db", "--db")


def test_then_the_url_of_the_environment() -> None:
    location = locate_store(None, BOTH)

    assert (str(location), location.source) == ("/url.db", "QUEUECTL_DATABASE_URL")


def test_then_the_path_of_the_environment() -> None:
    location = locate_store(None, {"QUEUECTL_DB_PATH": "/path.db"})

    assert (str(location), location.source) == ("/path.db", "QUEUECTL_DB_PATH")


def test_then_the_home_folder(tmp_path: Path) -> None:
    location = locate_store(None, {})

    assert (location.path, location.source) == (tmp_path / ".queuectl" / "queue.db", "default")


def test_empty_variables_name_nothing() -> None:
    location = locate_store("", {"QUEUECTL_DATABASE_URL": "", "QUEUECTL_DB_PATH": ""})

    assert location.source == "default"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("queue.db", Path.cwd() / "queue.db"),
        ("sub/../queue.db", Path.cwd() / "queue.db"),
        ("sqlite:///queue.db", Path.cwd() / "queue.db"),
        ("sqlite:////a/b%20c.db", Path("/a/b c.db")),
        ("sqlite:////a/b.db?mode=ro", Path("/a/b.db")),
        ("/a/100%.db", Path("/a/100%.db")),
    ],
)
def test_a_path_or_url_names_a_file(text: str, path: Path) -> None:
    assert locate_store(text, {}).path == path


def test_a_tilde_is_the_home_folder(tmp_path: Path) -> None:
    assert locate_store("~/mine.db", {}).path == tmp_path / "mine.db"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("postgresql://me:secret@db/queue", "'postgresql' database"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("a\0b", "NUL"),
    ],
)
def test_what_names_no_sqlite_file_is_refused_without_showing_a_password(
    text: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        locate_store(text, {})

    assert "secret" not in f"{caught.value.message}{caught.value.hint}"


def test_what_belongs_to_a_store_bears_its_name() -> None:
    location = locate_store("/a/queue.db", {})

    assert [str(path) for path in (location.lock, location.bell, location.logs)] == [
        "/a/queue.db.lock",
        "/a/queue.db.bell",
        "/a/queue.db.logs",
    ]
    assert [str(path) for path in (location.workers, location.worker_log)] == [
        "/a/queue.db.workers",
        "/a/queue.db.worker.log",
    ]
