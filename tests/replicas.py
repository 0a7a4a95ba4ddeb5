"""A primary and its synchronous standby: two PostgreSQL servers on this machine, of one test.

What the primary has committed is on the standby before anybody is told of it, so that the standby
has all of it when the primary dies.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg

from queuectl.db import schema
from queuectl.settings import ServerLocation, locate_store
from tests import servers
from tests.waiting import wait_until

_STANDBY_NAME = "db2"
_DATABASE = "queue"


class Pair:
    """Two servers, each with a socket in a folder of its own; use it in a ``with``."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="queuectl-pair-"))  # a socket's path is short
        self._folder.chmod(0o755)
        self._primary = servers.make_server(self._folder / "db1")
        self._standby = servers.make_server(self._folder / "db2", inited=False)

    @property
    def location(self) -> ServerLocation:
        """The store, by a URL that names both; whichever takes writes is used."""
        hosts = ",".join(str(self._folder / name) for name in ("db1", "db2"))
        found = locate_store(
            f"postgresql://postgres@/{_DATABASE}?host={hosts}&port=5432,5432"
            "&target_session_attrs=read-write",
            {},
        )
        assert isinstance(found, ServerLocation)
        return found

    def __enter__(self) -> Self:
        try:
            servers.start_server(self._primary)
            self._copy()
            servers.start_server(self._standby)
            self._await_standby()
            with self._admin() as admin:
                admin.execute(f"CREATE DATABASE {_DATABASE}".encode())
            schema.upgrade(self.location)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.thaw_standby()
        for server in (self._standby, self._primary):
            servers.stop_server(server)
        shutil.rmtree(self._folder)

    def _copy(self) -> None:
        """Make the standby from the primary as it stands, as an administrator does."""
        source = f"host={self._primary.pgdata} user=postgres application_name={_STANDBY_NAME}"
        target = self._standby.pgdata
        servers.run_tool(
            self._standby,
            "pg_basebackup",
            "-d",
            source,
            "-D",
            str(target),
            "-R",
            "-c",
            "fast",
            "-N",
        )
        for name in (".s.PGSQL.5432.lock", "log"):  # the primary's own, in its data folder
            (target / name).unlink()

    def _await_standby(self) -> None:
        with self._admin() as admin:
            # After the copy, which the standby would have kept: nobody stands by for it.
            admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({_STANDBY_NAME})'")
            admin.execute("SELECT pg_reload_conf()")
            states = "SELECT sync_state FROM pg_stat_replication"
            wait_until(lambda: admin.execute(states).fetchall() == [("quorum",)])

    def _admin(self) -> psycopg.Connection[Any]:
        url = f"postgresql://postgres@/postgres?host={self._primary.pgdata}"
        return psycopg.connect(url, autocommit=True)

    def kill_primary(self) -> None:
        """End it with all its processes in one blow, as a machine that loses power does."""
        postmaster = _postmaster(self._primary)
        assert postmaster is not None
        postmaster.suspend()  # it replaces none meanwhile
        for process in [*postmaster.children(recursive=True), postmaster]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([postmaster])

    def promote_standby(self) -> None:
        """Let the standby take writes from now on; returns when it does."""
        servers.run_tool(self._standby, "pg_ctl", "promote", "-w", "-D", str(self._standby.pgdata))

    def freeze_standby(self) -> None:
        """Stop what receives for the standby: it confirms nothing any more, and is not gone."""
        self._signal_standby(signal.SIGSTOP)

    def thaw_standby(self) -> None:
        """Let a standby that was frozen go on."""
        self._signal_standby(signal.SIGCONT)

    def _signal_standby(self, number: int) -> None:
        postmaster = _postmaster(self._standby)
        for process in [postmaster, *postmaster.children()] if postmaster else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def _postmaster(server: Any) -> psutil.Process | None:
    """Return a server's first process, if it runs."""
    try:
        first_line = (server.pgdata / "postmaster.pid").read_text().split()[0]
        return psutil.Process(int(first_line))
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
