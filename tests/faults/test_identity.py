"""Who is who: workers are known by their locks and random ids, never by a number or a name."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import update

from queuectl.db.engine import Store
from queuectl.db.models import WorkerRow
from queuectl.service import config, rescues, workers
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisor, Supervisors
from tests.waiting import wait_until

#: Starts a program as process 1 of numbers of its own, on the same host name and folders.
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="rows C7 and T4 were not run: only root can mount and unshare"
)


def booted(folder: Path) -> tuple[str, ...]:
    """Return what starts a program as after a boot: the kernel's id of it is another one."""
    boot = folder / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    bind = f'mount --bind "{boot}" /proc/sys/kernel/random/boot_id && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", bind, "sh")


def fall_over(supervisor: Supervisor) -> None:
    """Let a supervisor die with all that it started, as when the machine loses power."""
    supervisor.signal(signal.SIGSTOP)
    for process in psutil.Process(supervisor.pid).children(recursive=True):
        process.kill()
    supervisor.signal(signal.SIGKILL)
    supervisor.wait()


def test_after_a_reboot_jobs_are_rescued_without_waiting_for_a_lease(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """C7: the leases of the boot before run on for an hour; nobody waits for them."""
    config.set_option(store, "lease", 3600)
    go = tmp_path / "go"
    add(store, f"echo run >> {tmp_path}/runs; {until(go)}", id="a", max_retries=0)
    before = supervisors.start()
    wait_until((tmp_path / "runs").exists)
    [boot_before] = rescues.suspects(store).near.values()
    fall_over(before)
    assert state_of(store, "a") == "processing"

    go.touch()
    supervisors.start(under=booted(tmp_path))
    wait_until(lambda: state_of(store, "a") == "completed")

    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["lost", "completed"]
    [boot_after] = rescues.suspects(store).near.values()
    assert boot_after != boot_before


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that has nothing to do with queuectl."""
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process.pid
        assert process.poll() is None, "it was killed for the number it bears"
        process.kill()


def test_a_process_number_used_again_neither_saves_a_dead_worker_nor_dooms_a_stranger(
    store: Store, supervisors: Supervisors, tmp_path: Path, stranger: int
) -> None:
    """T4: the dead worker's number belongs to somebody else by now."""
    go = tmp_path / "go"
    add(store, f"echo run >> {tmp_path}/runs; {until(go)}", id="a", max_retries=0)
    before = supervisors.start()
    wait_until((tmp_path / "runs").exists)
    fall_over(before)
    store.write(lambda connection: connection.execute(update(WorkerRow).values(pid=stranger)))

    go.touch()
    supervisors.start()
    wait_until(lambda: state_of(store, "a") == "completed")

    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["lost", "completed"]
    assert psutil.Process(stranger).is_running()


def test_containers_with_the_same_numbers_and_names_do_not_take_each_other_for_one(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """T4: two containers share the store; the worker of each is process 2 of the same host name."""
    for name in ("a", "b"):
        command = f"echo $QUEUECTL_WORKER_ID >> {tmp_path}/runs-{name}; {until(tmp_path / name)}"
        add(store, command, id=name, max_retries=0)
    first = supervisors.start(under=CONTAINER)
    wait_until(lambda: len(list(tmp_path.glob("runs-*"))) == 1)
    supervisors.start(under=CONTAINER)
    wait_until(lambda: len(list(tmp_path.glob("runs-*"))) == 2)
    rows = workers.list_workers(store)
    assert len({row.pid for row in rows}) == len({row.host for row in rows}) == 1
    by_worker = {(tmp_path / f"runs-{name}").read_text().strip(): name for name in ("a", "b")}
    [lost] = {row.id for row in rows if row.started_at == min(row.started_at for row in rows)}
    struck = by_worker.pop(lost)
    [spared] = by_worker.values()

    first.signal(signal.SIGKILL)  # and with it, by the kernel, all of its container
    (tmp_path / spared).touch()
    wait_until(lambda: state_of(store, spared) == "completed")
    (tmp_path / struck).touch()
    wait_until(lambda: state_of(store, struck) == "completed")

    assert [attempt.outcome for attempt in attempts_of(store, spared)] == ["completed"]
    assert [attempt.outcome for attempt in attempts_of(store, struck)] == ["lost", "completed"]
