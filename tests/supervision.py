"""Real supervisors with real workers: start them, see what they say, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from queuectl.db import inspection
from queuectl.db.engine import open_store
from queuectl.db.models import JobRow
from queuectl.service import workers
from queuectl.service.rows import select_jobs
from queuectl.settings import ServerLocation, StoreLocation
from tests.waiting import LIMIT_SECONDS, wait_until

#: In the environment of all that a test starts; its value is the test's own folder.
MARK = "TEST_FOLDER"
_DYING_SECONDS = 0.05

_START = """
import json, sys
from queuectl.errors import QueuectlError
from queuectl.settings import locate_store
from queuectl.worker import supervisor

location, plan = locate_store(sys.argv[1]), json.loads(sys.argv[2])
queues = plan.pop("queues")
queues = None if queues is None else tuple(queues)
plan = supervisor.WorkerPlan(queues=queues, log_format="json", **plan)
try:
    sys.exit(supervisor.run_supervisor(location, plan))
except QueuectlError as error:
    sys.exit(f"refused: {error.message}")
"""


class Supervisor:
    """One ``worker start`` in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self.out = out
        self.err = err

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return what it and its workers told, or the events of that name."""
        told = [json.loads(line) for line in self.out.read_bytes().splitlines(keepends=False)]
        return [entry for entry in told if event is None or entry["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until an event was told that often; return those events."""
        try:
            return wait_until(lambda: (found := self.events(event))[count - 1 :] and found)
        except AssertionError as error:
            error.add_note(f"told so far:\n{self.out.read_text()}")
            raise

    def worker_pids(self) -> list[int]:
        """Return its workers that live."""
        return [
            child.pid
            for child in psutil.Process(self.pid).children()
            if child.status() != psutil.STATUS_ZOMBIE
        ]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return self.process.wait(LIMIT_SECONDS)


class Supervisors:
    """Starts supervisors on one store."""

    def __init__(self, location: StoreLocation, folder: Path) -> None:
        self.location = location
        self._folder = folder
        self._started: list[Supervisor] = []

    def start(
        self,
        *,
        count: int = 1,
        concurrency: int = 1,
        queues: list[str] | None = None,
        drain: bool = False,
        environment: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> Supervisor:
        """Start one, and wait until its workers have registered (or, draining, have left).

        ``under`` is another program that starts it.
        """
        plan = {"count": count, "concurrency": concurrency, "queues": queues, "drain": drain}
        number = len(self._started)
        out, err = (self._folder / f"supervisor-{number}.{end}" for end in ("out", "err"))
        with out.open("wb") as told, err.open("wb") as complained:
            process = subprocess.Popen(
                [*under, sys.executable, "-c", _START, address_of(self.location), json.dumps(plan)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=complained,
                env={**marked_environment(self._folder), **(environment or {})},
                start_new_session=True,
            )
        supervisor = Supervisor(process, out, err)
        self._started.append(supervisor)
        wait_until(
            lambda: len(supervisor.events("worker-started")) >= count or process.poll() is not None
        )
        return supervisor

    def run_drained(self, *, count: int = 1, concurrency: int = 1) -> Supervisor:
        """Start one that leaves when nothing is due or running, and wait until it has left."""
        supervisor = self.start(count=count, concurrency=concurrency, drain=True)
        assert supervisor.wait() == 0
        return supervisor

    def end(self) -> None:
        """Stop them all, and hold the store and the machine to what is promised of an end."""
        try:
            self._end()
        except BaseException as error:
            for supervisor in self._started:
                error.add_note(
                    f"{supervisor.out.read_text()[-3000:]}\n{supervisor.err.read_text()}"
                )
            raise

    def _end(self) -> None:
        try:
            if any(supervisor.process.poll() is None for supervisor in self._started):
                with closing(open_store(self.location)) as store:
                    workers.request_stop(store, queue=None, now=True)
            for supervisor in self._started:
                supervisor.wait()
            wait_until(lambda: not self._live_workers())
            survivors = find_marked(self._folder)
        finally:
            end_marked(self._folder)
            for supervisor in self._started:
                supervisor.process.wait(LIMIT_SECONDS)
        assert survivors == []
        self._check_errors()
        self._check_store()

    def _live_workers(self) -> list[str]:
        with closing(open_store(self.location)) as store:
            return [worker.id for worker in workers.list_workers(store) if worker.state == "alive"]

    def _check_errors(self) -> None:
        for supervisor in self._started:
            assert supervisor.err.read_text() == ""

    def _check_store(self) -> None:
        with closing(open_store(self.location)) as store:
            query = select_jobs().where(JobRow.state == "processing")
            assert store.read(lambda connection: connection.execute(query).all()) == []
            assert store.read(inspection.integrity_problems) == []


def address_of(location: StoreLocation) -> str:
    """Return what names the store to another process."""
    return location.url if isinstance(location, ServerLocation) else str(location.path)


def marked_environment(folder: Path) -> dict[str, str]:
    """Return the environment for what a test starts: no store's of the user, and the mark."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("QUEUECTL_")
    }
    return {**inherited, "HOME": str(folder), MARK: str(folder)}


def find_marked(folder: Path) -> list[str]:
    """Return the processes that bear the mark or work in the test's folder, each as a line.

    One that cleared its environment is still found by its working directory.
    """
    return [f"{process.pid} {_command(process)}" for process in _marked(folder)]


def end_marked(folder: Path) -> None:
    """Kill all of them, and what they start while they die."""
    while doomed := _marked(folder):
        for process in doomed:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        # Not longer: one that nobody reaps yet is gone all the same.
        psutil.wait_procs(doomed, timeout=_DYING_SECONDS)


def _marked(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _bears_mark(process, folder)]


def _bears_mark(process: psutil.Process, folder: Path) -> bool:
    entry = Path(f"/proc/{process.pid}")
    with suppress(OSError, psutil.Error):
        if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
            return False
        if f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
            return True
        return (entry / "cwd").readlink().is_relative_to(folder)
    return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "(gone)"
