"""Start workers that outlive the terminal they were started from."""

from __future__ import annotations

import os

from queuectl.db.files import open_private
from queuectl.errors import QueuectlError
from queuectl.settings import StoreLocation
from queuectl.worker import processes
from queuectl.worker.events import EventLog
from queuectl.worker.forking import check_store, fork
from queuectl.worker.supervisor import Supervisor
from queuectl.worker.worker import WorkerPlan


def detach(location: StoreLocation, plan: WorkerPlan) -> int:
    """Start workers that outlive this terminal; return their supervisor's process id.

    Returns when all workers are ready. Their events go to the store's ``.worker.log``. Raises
    QueuectlError when they did not come up.
    """
    check_store(location)
    ready, tell = os.pipe2(os.O_CLOEXEC)
    first = fork()
    if first == 0:
        os.close(ready)
        _leave_terminal(location, plan, tell)
    os.close(tell)
    os.waitpid(first, 0)
    # One write is one read. The end of the pipe comes only if they failed: workers hold it too.
    pid = os.read(ready, 64)
    os.close(ready)
    if not pid:
        raise QueuectlError(
            "the workers did not start", hint=f"the reason stands in {location.worker_log}"
        )
    return int(pid)


def _leave_terminal(location: StoreLocation, plan: WorkerPlan, tell: int) -> None:
    """Become a process of no terminal and supervise there; never returns."""
    os.setsid()
    if fork() != 0:
        os._exit(0)
    code = 1
    try:
        log = open_private(location.worker_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        os.chdir("/")
        for mark in processes.MARKS:
            os.environ.pop(mark, None)

        def on_ready() -> None:
            os.write(tell, str(os.getpid()).encode())
            os.close(tell)

        code = Supervisor(location, plan, on_ready).run()
    except QueuectlError as error:
        EventLog(plan.log_format, "supervisor").emit("failed", f"error: {error.message}")
    finally:
        os._exit(code)
