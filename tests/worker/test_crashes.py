"""Workers and supervisors that are killed or stopped: their jobs run once more, and never twice.

The jobs write down by themselves, outside the store, what they see of each other.
"""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from queuectl.db.engine import Store
from queuectl.service import config, dead_letters, jobs, workers
from tests.faults.test_identity import booted
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

#: The first attempt starts processes that go all ways, and waits; a later one writes down which of
#: them it finds alive. ``{orphan}`` is how one goes that nothing marks.
_TREE = """
echo "start $QUEUECTL_ATTEMPT" >> starts
if [ "$QUEUECTL_ATTEMPT" != 1 ]; then
    for pid in $(cat pids); do
        grep '^State:.[^ZX]' /proc/$pid/status && echo $pid >> survivors
    done
    exit 0
fi
echo $$ >> pids
sleep 300 & echo $! >> pids
setsid sh -c 'echo $$ >> pids; exec sleep 300' &
(setsid sh -c 'echo $$ >> pids; exec sleep 300' &)
{orphan}
until [ $(wc -l < pids) = 5 ]; do sleep 0.02; done
touch ready
wait
"""
_UNMARKED_ORPHAN = "(env -i setsid sh -c 'echo $$ >> pids; exec sleep 300' &)"
_UNMARKED_CHILD = "env -i setsid sh -c 'echo $$ >> pids; exec sleep 300' &"
#: Tells where each run stands, by the number of the run, and waits in between.
_TWO_RUNS = """
touch began-$QUEUECTL_ATTEMPT
until [ -e go-$QUEUECTL_ATTEMPT ]; do sleep 0.02; done
touch ended-$QUEUECTL_ATTEMPT
"""
_SHORT_LEASE = 2
#: Longer than a busy machine keeps a worker waiting, which ends its jobs when its lease runs out.
_FAR_LEASE = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the jobs write."""
    made = tmp_path / "jobs"
    made.mkdir()
    return made


def add_tree(store: Store, folder: Path, orphan: str = _UNMARKED_ORPHAN) -> None:
    add(store, _TREE.replace("{orphan}", orphan), id="tree", cwd=str(folder), max_retries=0)


def await_tree(folder: Path) -> None:
    wait_until((folder / "ready").exists)


def assert_ran_once_more(store: Store, folder: Path) -> None:
    """The job was lost once, and its second attempt began when nothing of the first was left."""
    wait_until(lambda: state_of(store, "tree") == "completed")
    assert (folder / "starts").read_text() == "start 1\nstart 2\n"
    assert not (folder / "survivors").exists()
    assert [attempt.outcome for attempt in attempts_of(store, "tree")] == ["lost", "completed"]
    job = jobs.find(store, "tree")
    assert (job.attempts, job.crashes, job.runs) == (0, 1, 2)


def test_a_killed_worker_leaves_no_process_and_its_job_runs_again(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    """C3: children of all kinds are gone before the next attempt starts."""
    add_tree(store, folder)
    supervisor = supervisors.start()
    await_tree(folder)
    [worker] = supervisor.worker_pids()

    os.kill(worker, signal.SIGKILL)

    assert_ran_once_more(store, folder)
    [died] = supervisor.events("worker-died")
    assert "was killed by signal 9" in died["message"]
    assert len(supervisor.events("worker-started")) == 2


def test_a_killed_worker_costs_the_jobs_of_its_neighbour_nothing(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    """C3: the other worker's job goes on."""
    go = folder / "go"
    for number in range(2):
        add(store, f"touch started-{number}; {until(go)}", id=f"job-{number}", cwd=str(folder))
    supervisor = supervisors.start(count=2)
    wait_until(lambda: all((folder / f"started-{number}").exists() for number in range(2)))
    first, second = supervisor.worker_pids()

    os.kill(first, signal.SIGKILL)
    supervisor.wait_for("job-started", 3)
    go.touch()
    wait_until(lambda: state_of(store, "job-0") == state_of(store, "job-1") == "completed")

    outcomes = sorted(
        [attempt.outcome for attempt in attempts_of(store, f"job-{number}")] for number in range(2)
    )
    assert outcomes == [["completed"], ["lost", "completed"]]
    assert second in supervisor.worker_pids()


def test_a_job_that_kills_its_worker_every_time_is_dead_in_the_end(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    """C6: more than max-crashes of them, and it is a dead letter; it takes each neighbour once."""
    config.set_option(store, "max-crashes", 1)
    strike = "until [ -e strike-$QUEUECTL_ATTEMPT ]; do sleep 0.02; done; kill -KILL $PPID"
    neighbours = ["near-0", "near-1", "newcomer"]
    add(store, f"echo start >> crasher; {strike}; sleep 300", id="crasher", cwd=str(folder))
    for name in neighbours[:2]:
        add_long(store, folder, name)
    # A slot stays free, so that the crasher could take the same neighbours along once more.
    supervisors.start(concurrency=4)
    wait_until(lambda: all(starts(folder, name) == 1 for name in ["crasher", *neighbours[:2]]))

    (folder / "strike-1").touch()
    wait_until(lambda: starts(folder, "crasher") == 2)
    add_long(store, folder, neighbours[2], priority=1)
    wait_until(lambda: starts(folder, neighbours[2]) == 1)
    (folder / "strike-2").touch()
    wait_until(lambda: state_of(store, "crasher") == "dead")
    (folder / "go").touch()
    wait_until(lambda: all(state_of(store, name) == "completed" for name in neighbours))

    [letter] = dead_letters.list_dead(store)
    assert (letter.reason, letter.job.crashes) == ("crashed its worker", 2)
    assert [attempt.outcome for attempt in attempts_of(store, "crasher")] == ["lost", "lost"]
    outcomes = {name: [a.outcome for a in attempts_of(store, name)] for name in neighbours}
    assert list(outcomes.values()) == [["lost", "completed"]] * 3


def add_long(store: Store, folder: Path, name: str, priority: int = 0) -> None:
    """Add a job that writes down each of its starts and ends when it is told to."""
    command = f"echo start >> {name}; {until(folder / 'go')}"
    add(store, command, id=name, cwd=str(folder), priority=priority)


def starts(folder: Path, name: str) -> int:
    """Return how often a job has written down that it started."""
    return len((folder / name).read_text().splitlines()) if (folder / name).exists() else 0


def test_workers_of_a_killed_supervisor_end_their_jobs_and_leave(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(store, f"touch started; {until(folder / 'go')}", id="running", cwd=str(folder))
    supervisor = supervisors.start()
    wait_until((folder / "started").exists)
    add(store, "true", id="waiting")

    supervisor.signal(signal.SIGKILL)
    supervisor.wait_for("supervisor-lost")
    (folder / "go").touch()
    wait_until(lambda: workers.list_workers(store) == [])

    assert state_of(store, "running") == "completed"
    assert state_of(store, "waiting") == "pending"


def test_after_supervisor_and_worker_died_at_once_another_one_rescues(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    """C3: nobody was left to clear up; the next one to start does it."""
    add_tree(store, folder, _UNMARKED_CHILD)
    first = supervisors.start()
    await_tree(folder)
    [worker] = first.worker_pids()

    first.signal(signal.SIGSTOP)  # so that it cannot clear up between the two
    os.kill(worker, signal.SIGKILL)
    first.signal(signal.SIGKILL)
    first.wait()
    assert state_of(store, "tree") == "processing"
    second = supervisors.start()

    assert_ran_once_more(store, folder)
    assert [entry["job"] for entry in second.events("job-rescued")] == ["tree"]


def test_a_worker_that_is_stopped_is_killed_and_replaced_within_its_lease(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    """T1: a frozen worker is killed with its tree, and its job runs once more."""
    config.set_option(store, "lease", 9)
    add_tree(store, folder)
    supervisor = supervisors.start()
    await_tree(folder)
    [worker] = supervisor.worker_pids()

    freeze(store, worker)
    [row] = workers.list_workers(store)

    assert_ran_once_more(store, folder)
    [silent] = supervisor.events("worker-silent")
    assert silent["worker"] == row.id
    assert datetime.fromisoformat(silent["at"]) < row.lease_expires_at
    assert not psutil.pid_exists(worker)


@pytest.mark.sqlite
def test_a_frozen_worker_that_nobody_can_kill_keeps_its_job_and_its_result_is_right(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    """T1: its lock says that it lives, so nobody else starts its job; three leases change nothing.

    The lease itself decides nothing on a store that one machine has to itself.
    """
    config.set_option(store, "lease", _SHORT_LEASE)
    add(store, _TWO_RUNS, id="a", cwd=str(folder), max_retries=0)
    frozen = supervisors.start()
    wait_until((folder / "began-1").exists)
    [worker] = frozen.worker_pids()

    frozen.signal(signal.SIGSTOP)
    freeze(store, worker)
    (folder / "go-1").touch()
    wait_until((folder / "ended-1").exists)
    other = supervisors.start()
    await_beats(store, seconds=3 * _SHORT_LEASE)
    assert (state_of(store, "a"), attempts_of(store, "a")) == ("processing", [])
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: state_of(store, "a") == "completed")
    frozen.signal(signal.SIGCONT)
    await_beats(store, seconds=_SHORT_LEASE)

    [attempt] = attempts_of(store, "a")
    assert (attempt.outcome, attempt.pid) == ("completed", worker)
    assert not (folder / "began-2").exists()
    assert frozen.worker_pids() == [worker]
    assert other.events("job-rescued") == other.events("job-started") == []


@pytest.mark.postgresql
@pytest.mark.skipif(
    os.geteuid() != 0, reason="row T1 was not run from afar: only root can pretend another machine"
)
@pytest.mark.parametrize("first", ["worker", "supervisor"])
def test_the_late_result_of_a_worker_that_another_machine_took_for_dead_is_refused(
    store: Store, supervisors: Supervisors, folder: Path, tmp_path: Path, first: str
) -> None:
    """T1: where machines share a store the lease decides, and what comes later is dropped.

    Which of the two goes on first matters: the supervisor does not let the worker go on.
    """
    config.set_option(store, "lease", _FAR_LEASE)
    add(store, _TWO_RUNS, id="a", cwd=str(folder), max_retries=0)
    frozen = supervisors.start()
    wait_until((folder / "began-1").exists)
    [worker] = frozen.worker_pids()

    freeze(store, worker)
    frozen.signal(signal.SIGSTOP)
    (folder / "go-1").touch()
    wait_until((folder / "ended-1").exists)
    other = supervisors.start(under=booted(tmp_path))
    wait_until((folder / "began-2").exists)
    await_beats(store, seconds=2 * _FAR_LEASE)
    if first == "worker":
        os.kill(worker, signal.SIGCONT)
        frozen.wait_for("worker-declared-dead")
        frozen.signal(signal.SIGCONT)
    else:
        frozen.signal(signal.SIGCONT)
        frozen.wait_for("worker-silent")
    frozen.wait_for("worker-died")
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["lost"]
    (folder / "go-2").touch()
    wait_until(lambda: state_of(store, "a") == "completed")

    late, right = attempts_of(store, "a")
    assert [(late.outcome, late.pid), right.outcome] == [("lost", worker), "completed"]
    assert right.worker_id != late.worker_id
    assert [entry["job"] for entry in other.events("job-rescued")] == ["a"]
    assert frozen.events("job-completed") == []


def freeze(store: Store, worker: int) -> None:
    """Stop a worker right after a heartbeat, when it holds no lock of the database."""

    def heartbeat() -> datetime:
        [row] = [row for row in workers.list_workers(store) if row.pid == worker]
        return row.heartbeat_at

    before = heartbeat()
    wait_until(lambda: heartbeat() != before)
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED)


def test_a_supervisor_that_was_suspended_blames_no_worker(
    store: Store, supervisors: Supervisors
) -> None:
    """T5: Ctrl-Z for longer than a lease, then fg: as if nothing had been."""
    config.set_option(store, "lease", 2)
    supervisor = supervisors.start()
    before = supervisor.worker_pids()

    supervisor.signal(signal.SIGSTOP)
    await_beats(store, seconds=4)
    supervisor.signal(signal.SIGCONT)
    await_beats(store, seconds=2)

    assert supervisor.worker_pids() == before
    assert supervisor.events("worker-silent") == []


def await_beats(store: Store, seconds: float) -> None:
    """Wait until the heartbeat of the worker that came last is that much later than now."""

    def heartbeat() -> datetime:
        return workers.list_workers(store)[-1].heartbeat_at

    until_then = heartbeat() + timedelta(seconds=seconds)
    wait_until(lambda: heartbeat() >= until_then)
