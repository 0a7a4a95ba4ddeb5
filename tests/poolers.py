"""PgBouncer itself, before the tests' server: it lends its connections by the transaction.

It asks for a password and can speak TLS, which the tests' server does not.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from queuectl.settings import ServerLocation, locate_store
from tests.servers import system_user
from tests.waiting import wait_until

PASSWORD = "open-sesame"  # noqa: S105  # of the tests
#: Debian keeps it where only root looks.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


@dataclass(frozen=True, slots=True)
class Pooler:
    """One that runs on this machine before one database, which bears the same name behind it."""

    port: int
    database: str
    #: The certificate of whoever has signed its own, which is for ``localhost``.
    authority: Path

    def url(
        self, *, login: str = f"postgres:{PASSWORD}", host: str = "localhost", query: str = ""
    ) -> str:
        """Return a URL of the database behind it."""
        return f"postgresql://{login}@{host}:{self.port}/{self.database}?{query}"

    @property
    def location(self) -> ServerLocation:
        found = locate_store(self.url(), {})
        assert isinstance(found, ServerLocation)
        return found


@contextmanager
def pooler(location: ServerLocation, *, size: int = 5, tls: bool = False) -> Iterator[Pooler]:
    """Run one with so many connections to the store's server; ``tls``: it takes nothing else."""
    program = shutil.which("pgbouncer", path=_PATH)
    assert program is not None, "not on this machine: pgbouncer; see tests/install-tools.sh"
    given = psycopg.conninfo.conninfo_to_dict(location.url)
    folder = Path(tempfile.mkdtemp(prefix="queuectl-pooler-"))
    folder.chmod(0o755)  # it refuses to run as root
    made = Pooler(_free_port(), str(given["dbname"]), folder / "authority.crt")
    (folder / "users.txt").write_text(f'"postgres" "{PASSWORD}"\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": made.port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": folder / "users.txt",
        "pool_mode": "transaction",
        "default_pool_size": size,
    }
    if tls:
        make_certificate(folder)
        settings |= {
            "client_tls_sslmode": "require",
            "client_tls_key_file": folder / "server.key",
            "client_tls_cert_file": folder / "server.crt",
        }
    target = f"host={given['host']} dbname={made.database} user=postgres"
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    file = folder / "pgbouncer.ini"
    file.write_text(f"[databases]\n* = {target}\n[pgbouncer]\n{''.join(lines)}")
    log = folder / "log"
    with log.open("wb") as told:
        process = subprocess.Popen([program, file], stdout=told, stderr=told, user=system_user())
    try:
        wait_until(lambda: _answers(made.port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield made
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def make_certificate(folder: Path) -> None:
    """Make ``server.crt`` for ``localhost`` with its key, and the ``authority.crt`` behind it."""
    _openssl(
        folder, "req -x509 -newkey rsa:2048 -nodes -keyout a.key -out authority.crt -subj /CN=tests"
    )
    _openssl(
        folder, "req -newkey rsa:2048 -nodes -keyout server.key -out a.csr -subj /CN=localhost"
    )
    (folder / "a.ext").write_text("subjectAltName=DNS:localhost\n")
    _openssl(
        folder,
        "x509 -req -in a.csr -CA authority.crt -CAkey a.key -CAcreateserial -extfile a.ext"
        " -out server.crt",
    )
    (folder / "server.key").chmod(0o644)


def _openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
