"""Where workloads run: a folder on a real disk, stores in it, and queuectl's own processes."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers import Peers
from bench.postgresql import PostgreSQL
from bench.redis import Redis
from queuectl.db import schema
from queuectl.db.engine import open_store
from queuectl.domain.request import JobRequest
from queuectl.service import jobs
from queuectl.settings import ServerLocation, StoreLocation

#: The command that is installed beside this Python.
QUEUECTL = str(Path(sys.executable).with_name("queuectl"))


@dataclass
class Stage:
    """What a workload gets. ``quick``: sizes that only show that it works."""

    folder: Path
    peers: Peers
    postgresql: PostgreSQL
    redis: Redis
    quick: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 5

    def size(self, full: int, quick: int) -> int:
        """Return how much of something there is to be."""
        return quick if self.quick else full

    def new_folder(self) -> Path:
        """Return a new empty folder."""
        path = self.folder / f"{next(self._numbers):04d}"
        path.mkdir()
        return path

    def new_store(self) -> StoreLocation:
        """Return a new store without jobs."""
        location = StoreLocation(self.new_folder() / "queue.db", "bench")
        open_store(location).close()
        return location

    def new_server_store(self) -> ServerLocation:
        """Return a new store without jobs in a database of its own."""
        path = self.new_folder() / "store"
        location = ServerLocation(path, "bench", self.postgresql.new_database())
        schema.upgrade(location)
        open_store(location).close()
        return location

    def new_database(self, app: str) -> str:
        """Return the URL of a new PostgreSQL database with the tables of a program in ``apps``."""
        url = self.postgresql.new_database()
        self.peers.run(app, "install", url)
        return url

    def discard(self, location: StoreLocation) -> None:
        """Remove a store and all that is beside it."""
        shutil.rmtree(location.folder)


def fill(location: StoreLocation, count: int, command: str, queue: str = "default") -> None:
    """Enqueue as many jobs of one command."""
    with closing(open_store(location)) as store:
        requests = (JobRequest(command=command, queue=queue) for _ in range(count))
        jobs.enqueue(store, requests, cwd=str(location.folder))


def queuectl(location: StoreLocation, *words: str) -> list[str]:
    """Return the argument list of a call."""
    place = location.url if isinstance(location, ServerLocation) else str(location.path)
    return [QUEUECTL, "--db", place, *words]


@contextmanager
def running_workers(
    location: StoreLocation, *, count: int = 1, concurrency: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """Run workers inside the block; they have started when it is entered."""
    log = location.folder / "events"
    with log.open("wb") as events:
        process = subprocess.Popen(
            queuectl(location, "worker", "start", f"-c{count}", f"-j{concurrency}"),
            stdout=events,
            # On a server's store, the files of this machine lie in the home folder.
            env=plain_environment() | {"HOME": str(location.folder)},
        )
    try:
        while log.read_bytes().count(b" slot") < count and process.poll() is None:
            os.sched_yield()
        yield process
    finally:
        process.terminate()
        process.wait()


def plain_environment() -> dict[str, str]:
    """Return the environment without any variable of queuectl's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("QUEUECTL_")}
