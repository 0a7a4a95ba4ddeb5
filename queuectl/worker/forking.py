"""Fork with a clear refusal; look at the store in a child, so that the parent never opens it."""

from __future__ import annotations

import os

from queuectl.db.engine import open_store
from queuectl.errors import QueuectlError, StoreError
from queuectl.service import rescues, workers
from queuectl.settings import StoreLocation


def fork() -> int:
    """Do as ``os.fork``; raises QueuectlError where the system has no room for a process."""
    try:
        return os.fork()
    except OSError as error:
        raise QueuectlError(
            f"no process can be started: {error.strerror}",
            hint="end some processes, or raise their limit (ulimit -u), then try again",
        ) from error


def check_store(location: StoreLocation) -> None:
    """Create or upgrade the store in a child, so that this process never opens it.

    Raises StoreError with what the child found.
    """
    answer, tell = os.pipe2(os.O_CLOEXEC)
    pid = fork()
    if pid == 0:
        code = 0
        try:
            store = open_store(location)
            rescues.suspects(store)
            workers.require_rights(store)
            store.close()
        except StoreError as error:
            code = error.exit_code
            os.write(tell, f"{error.message}\0{error.hint or ''}".encode())
        except BaseException as error:  # whatever it is, the parent must hear of it
            code = 1
            os.write(tell, f"the store cannot be opened: {error!r}\0".encode())
        finally:
            os._exit(code)
    os.close(tell)
    with os.fdopen(answer, "rb") as file:
        problem = file.read().decode(errors="replace")
    os.waitpid(pid, 0)
    if problem:
        message, _, hint = problem.partition("\0")
        raise StoreError(message, hint=hint or None)
