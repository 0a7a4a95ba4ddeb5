"""Where the store is: the flag, then the environment, then the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from queuectl.errors import InvalidInput
from queuectl.settings import ServerLocation, locate_store

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
        ("mysql://me:secret@db/queue", "'mysql' database"),
        ("postgresql+psycopg://me:secret@db/queue", "'postgresql.psycopg' database"),
        ("postgresql://me:secret@db/que\0ue", "NUL"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://me:secret@host/x.db", "names a host"),
        ("postgresql:me:secret@db/queue", "is no URL"),
        ("host=db user=me password=secret", "is no URL"),
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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db/queue", "postgresql://db/queue"),
        ("postgres://me@db:5433/queue", "postgres://me@db:5433/queue"),
        ("postgresql://me:secret@db/queue", "postgresql://me@db/queue"),
        ("postgresql://me:sec/ret@db/queue", "postgresql://me@db/queue"),
        ("postgresql://me:secret", "postgresql://me:***"),
        (
            "postgresql://h1,h2:5433/q?target_session_attrs=read-write&password=secret",
            "postgresql://h1,h2:5433/q?target_session_attrs=read-write",
        ),
        (
            "postgresql://db/q?sslpassword=secret&sslmode=require",
            "postgresql://db/q?sslmode=require",
        ),
        ("postgresql://[::1]:5433/q", "postgresql://[::1]:5433/q"),
        ("postgresql://", "postgresql://"),
    ],
)
def test_a_url_is_shown_without_its_secrets_and_kept_as_it_is(url: str, shown: str) -> None:
    location = locate_store(url, {})

    assert isinstance(location, ServerLocation)
    assert (str(location), location.url) == (shown, url)
    assert "secret" not in f"{location!r} {location} {location.folder}"


def test_messages_of_the_driver_lose_the_password() -> None:
    location = locate_store("postgresql://me:se%63ret@db/queue", {})

    assert isinstance(location, ServerLocation)
    assert location.scrub("no secret and no se%63ret") == "no *** and no ***"


def test_each_database_has_a_folder_of_its_own_whatever_the_password(tmp_path: Path) -> None:
    def folder(url: str, **environ: str) -> Path:
        return locate_store(url, environ).folder

    one = folder("postgresql://me:old@db/queue")

    assert one.parent == tmp_path / ".queuectl"
    assert one == folder("postgresql://me:new@db/queue")
    assert one != folder("postgresql://me:old@db/other")
    assert folder("postgresql://", PGHOST="a") != folder("postgresql://", PGHOST="b")
