"""Queues with a rate, with real workers: the jobs write down by themselves when they start."""

from __future__ import annotations

import os
from pathlib import Path

from queuectl.db.engine import Store
from queuectl.domain.rate import Rate
from queuectl.service import queues
from tests.jobs import add, attempts_of, state_of
from tests.supervision import Supervisors
from tests.waiting import wait_until


def test_workers_start_no_more_than_the_rate_and_wake_by_themselves(
    store: Store, supervisors: Supervisors
) -> None:
    rate, jobs = Rate(3, 2), 9
    queues.set_rate(store, "q", rate)
    for number in range(jobs):
        add(store, id=f"job-{number}", queue="q")

    for _ in range(2):
        supervisors.start(count=2)
    names = [f"job-{number}" for number in range(jobs)]
    wait_until(lambda: all(state_of(store, name) == "completed" for name in names))

    starts = sorted(attempts_of(store, name)[0].started_at for name in names)
    gaps = [
        (last - first).total_seconds()
        for first, last in zip(starts, starts[rate.count :], strict=False)
    ]
    # They are counted when they are claimed, a little before they start.
    assert min(gaps) > rate.seconds - 0.5
    # Nobody rang, and the poll behind the bell comes every 5 s, or every 30.
    assert (starts[-1] - starts[0]).total_seconds() < 5


def test_a_worker_that_waits_for_a_rate_uses_no_processor(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    queues.set_rate(store, "q", Rate(1, 3600))
    for number in range(3):
        add(store, f"echo $PPID > {tmp_path}/worker", id=f"job-{number}", queue="q")
    supervisors.start()
    wait_until(lambda: state_of(store, "job-0") == "completed")
    add(store, id="after", queue="r")  # by now it has looked again
    wait_until(lambda: state_of(store, "after") == "completed")
    worker = int((tmp_path / "worker").read_text())

    before = _ticks(worker)
    add(store, "sleep 1", id="pause", queue="r")
    wait_until(lambda: state_of(store, "pause") == "completed")

    assert _ticks(worker) - before < os.sysconf("SC_CLK_TCK") / 4
    assert state_of(store, "job-1") == "pending"


def _ticks(pid: int) -> int:
    """Return the processor time that a process has used, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_drained_workers_leave_a_queue_at_its_rate_alone(
    store: Store, supervisors: Supervisors
) -> None:
    queues.set_rate(store, "q", Rate(2, 3600))
    for number in range(3):
        add(store, id=f"job-{number}", queue="q")

    supervisors.run_drained(count=2)

    states = [state_of(store, f"job-{number}") for number in range(3)]
    assert states == ["completed", "completed", "pending"]
