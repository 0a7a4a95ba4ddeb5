"""Run one job here and now: a supervisor of its own, as a child of whoever waits for the job."""

from __future__ import annotations

import ctypes
import os
import signal

from queuectl.errors import QueuectlError
from queuectl.settings import StoreLocation
from queuectl.worker import processes
from queuectl.worker.forking import fork
from queuectl.worker.supervisor import Supervisor
from queuectl.worker.worker import WorkerPlan

_PR_SET_PDEATHSIG = 1


class Attendant:
    """The supervisor of one job's worker. No store may be open in this process when it starts."""

    def __init__(self, location: StoreLocation, seq: int) -> None:
        parent = os.getpid()
        self._ended = False
        self._pid = fork()
        if self._pid == 0:
            _attend(location, seq, parent)

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, though nobody let it go."""
        if not self._ended:
            self._ended = os.waitpid(self._pid, os.WNOHANG)[0] != 0
        return self._ended

    def let_go(self) -> None:
        """Ask it to leave when nothing runs any more, and wait for that."""
        if not self.has_ended:
            os.kill(self._pid, signal.SIGTERM)
            os.waitpid(self._pid, 0)
            self._ended = True


def _attend(location: StoreLocation, seq: int, parent: int) -> None:
    """Supervise in a process group of its own, which no Ctrl-C reaches; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        # Whoever waits may be killed: then the job goes on to the end of its attempt.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(code)
        null = os.open(os.devnull, os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(null, target)
        for mark in processes.MARKS:
            os.environ.pop(mark, None)
        code = Supervisor(location, WorkerPlan(only=seq)).run()
    except QueuectlError:
        pass  # whoever waits sees that it has ended
    finally:
        os._exit(code)
