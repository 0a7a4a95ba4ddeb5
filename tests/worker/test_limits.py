"""Commands that eat the machine, and a machine that has no more to give: workers survive (R5)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil
import pytest

from queuectl.db.engine import Store
from tests.injection import failing
from tests.jobs import add, attempts_of, output_of, state_of
from tests.supervision import Supervisors
from tests.waiting import wait_until

_MOST_PROCESSES = 60
#: The limit counts the processes of one user and spares root; this one is nobody else, not even
#: where two of these tests run at once.
_USER = 20_000 + os.getpid() % 40_000
_BOMB_ID = f"bomb-{os.getpid()}"
_AS_USER = f"setpriv --reuid={_USER} --clear-groups" if os.geteuid() == 0 else ""
_LIMITED = f"exec prlimit --nproc={_MOST_PROCESSES} {_AS_USER}"
#: Says how many it may be before it goes off; without the limit it does not go off at all. The
#: shell itself forks nothing more when the bomb is off: it waits for what it has begun before.
_BOMB = f"""
{_LIMITED} sh -c '[ "$(ulimit -p)" = {_MOST_PROCESSES} ] || exit 3
bomb() {{ bomb | bomb & }}; sleep 300 & bomb; wait'
"""


def bombers() -> list[str]:
    """Return the processes that the bomb has left."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.uids().real == _USER or process.environ().get("QUEUECTL_JOB_ID") == _BOMB_ID:
                found.append(str(process))
    return found


def test_a_fork_bomb_ends_with_its_timeout_and_the_worker_goes_on(
    store: Store, supervisors: Supervisors
) -> None:
    """R5: all that it has started is gone; the same worker runs the next job."""
    add(store, _BOMB, id=_BOMB_ID, timeout=3, max_retries=0)
    supervisor = supervisors.start()
    before = supervisor.worker_pids()
    wait_until(bombers)

    wait_until(lambda: state_of(store, _BOMB_ID) == "dead")
    left = bombers()
    add(store, "true", id="after")
    wait_until(lambda: state_of(store, "after") == "completed")

    [attempt] = attempts_of(store, _BOMB_ID)
    assert attempt.outcome == "timed out"
    assert "Cannot fork" in output_of(store, _BOMB_ID)
    assert left == []
    assert supervisor.worker_pids() == before


def test_a_memory_hog_fails_by_its_own_limit(store: Store, supervisors: Supervisors) -> None:
    """R5: ``ulimit`` in the command holds for the command alone."""
    add(store, "ulimit -v 200000; tail /dev/zero", id="hog", max_retries=0)
    supervisor = supervisors.start()
    before = supervisor.worker_pids()

    wait_until(lambda: state_of(store, "hog") == "dead")
    add(store, "ulimit -v", id="after")
    wait_until(lambda: state_of(store, "after") == "completed")

    [attempt] = attempts_of(store, "hog")
    assert (attempt.outcome, attempt.exit_code) == ("failed", 1)
    assert "memory exhausted" in (attempt.error or "")
    assert output_of(store, "after") == "unlimited\n"
    assert supervisor.worker_pids() == before


@pytest.mark.needs("strace")
def test_a_supervisor_that_can_start_no_process_tries_on(
    store: Store, supervisors: Supervisors
) -> None:
    """R5: somebody else's fork bomb has used the machine up; it is over some time."""
    supervisor = supervisors.start()
    [worker] = supervisor.worker_pids()

    with failing(supervisor.pid, "fork,clone,clone3", "EAGAIN"):
        os.kill(worker, signal.SIGKILL)
        [told, *_] = supervisor.wait_for("worker-not-started")
        assert "no process can be started: Resource temporarily unavailable" in told["message"]
    add(store, "true", id="after")

    wait_until(lambda: state_of(store, "after") == "completed")
