"""A throw-away Redis for the peers that need one: started at first use, ended with the bench.

The program is that of Debian's package redis-tools: what checks a dump is the server itself under
another name, and unlike redis-server the package starts no service. Its settings are the defaults:
a dump now and then, nothing synced before it is acknowledged.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from bench.contest import tell

#: The tool that is the server when it is called by the server's name.
PROGRAM = "redis-check-rdb"
_START_SECONDS = 30.0


class Redis:
    """The server of one run of the bench."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder = ""

    def new_database(self, scheme: str = "unix") -> str:
        """Empty the server and return its URL; the first call starts it."""
        if self._process is None:
            self._start()
        if b"OK" not in self._ask(b"FLUSHALL\r\n"):
            raise RuntimeError("Redis could not be emptied")
        return f"{scheme}://{self._socket}"

    def stop(self) -> None:
        """Stop the server if it was started."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    @property
    def _socket(self) -> Path:
        return Path(self._socket_folder) / "socket"

    def _start(self) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise RuntimeError("Redis is not installed; it is in Debian's package redis-tools")
        tell("starting Redis")
        self._folder.mkdir(exist_ok=True)
        # A socket's path may have 107 bytes only; that of a run's folder may have more.
        self._socket_folder = tempfile.mkdtemp(prefix="bench")
        self._process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self._socket, "--dir", self._folder],
            executable=program,
            stdout=subprocess.DEVNULL,
        )
        limit = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > limit or self._process.poll() is not None:
                self.stop()
                raise RuntimeError("Redis did not start")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with suppress(OSError):
            return b"PONG" in self._ask(b"PING\r\n")
        return False

    def _ask(self, command: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_START_SECONDS)
            connection.connect(str(self._socket))
            connection.sendall(command)
            return connection.recv(1024)
