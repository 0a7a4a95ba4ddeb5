"""Limited and paused queues, with real workers: the jobs write down by themselves when they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.service import config, queues
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

_JOBS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the jobs write."""
    made = tmp_path / "jobs"
    made.mkdir()
    return made


def add_noting(store: Store, folder: Path, job_id: str, command: str, queue: str = "q") -> None:
    """Add a job that appends its start and its end to one file."""
    noting = f"echo start >> log; {command}; echo end >> log"
    add(store, noting, id=job_id, queue=queue, cwd=str(folder))


def most_at_once(folder: Path) -> int:
    """Return how many jobs ran at once at most, and hold the file to be whole."""
    at_once = most = 0
    lines = (folder / "log").read_text().splitlines()
    for line in lines:
        at_once += 1 if line == "start" else -1
        most = max(most, at_once)
    assert at_once == 0
    return most


def await_completion(store: Store, *job_ids: str) -> None:
    wait_until(lambda: all(state_of(store, job_id) == "completed" for job_id in job_ids))


def names(count: int, prefix: str = "job") -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("command", ["sleep 0.05", "true"])
def test_never_more_run_at_once_than_the_limit_and_all_run(
    store: Store, supervisors: Supervisors, folder: Path, limit: int, command: str
) -> None:
    queues.limit(store, "q", limit)
    for job_id in names(_JOBS):
        add_noting(store, folder, job_id, command)

    supervisors.start(count=3, concurrency=2)
    await_completion(store, *names(_JOBS))

    assert most_at_once(folder) <= limit


def test_a_limit_holds_over_two_supervisors(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    queues.limit(store, "q", 1)
    for job_id in names(_JOBS):
        add_noting(store, folder, job_id, "sleep 0.02")

    for _ in range(2):
        supervisors.start(count=2)
    await_completion(store, *names(_JOBS))

    assert most_at_once(folder) == 1


def test_as_many_run_as_the_limit_allows_and_other_queues_go_on(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    queues.limit(store, "q", 2)
    go = folder / "go"
    for job_id in names(4):
        add(store, f"touch started-{job_id}; {until(go)}", id=job_id, queue="q", cwd=str(folder))
    supervisors.start(count=3, concurrency=2)
    wait_until(lambda: len(list(folder.glob("started-*"))) >= 2)

    # Whoever is idle looks whenever something is committed; these come behind the full queue.
    for job_id in names(6, "other"):
        add(store, id=job_id, queue="r")
    await_completion(store, *names(6, "other"))

    assert len(list(folder.glob("started-*"))) == 2
    assert queues.find_waiting(store, "q").running == 2
    queues.limit(store, "q", 3)
    wait_until(lambda: len(list(folder.glob("started-*"))) == 3)
    go.touch()
    await_completion(store, *names(4))


def test_a_queue_that_is_paused_lets_end_what_runs_and_starts_nothing_more(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    go = folder / "go"
    add(store, f"touch started; {until(go)}", id="running", queue="q", cwd=str(folder))
    add(store, id="waiting", queue="q")
    supervisors.start()
    wait_until((folder / "started").exists)

    queues.pause(store, ["q"])
    go.touch()
    add(store, id="other", queue="r")
    await_completion(store, "running", "other")

    assert state_of(store, "waiting") == "pending"
    queues.resume(store, ["q"])
    await_completion(store, "waiting")


def test_a_worker_that_dies_in_a_full_queue_gives_its_place_back(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    config.set_option(store, "max-crashes", 5)
    queues.limit(store, "q", 1)
    fatal = "[ $QUEUECTL_ATTEMPT = 1 ] && kill -KILL $PPID && sleep 300; echo once >> log"
    add(store, fatal, id="fatal", queue="q", cwd=str(folder))
    for job_id in names(3):
        add(store, id=job_id, queue="q")

    supervisors.start(count=2)
    await_completion(store, "fatal", *names(3))

    assert (folder / "log").read_text() == "once\n"
    assert [attempt.outcome for attempt in attempts_of(store, "fatal")] == ["lost", "completed"]
    assert queues.find_waiting(store, "q").running == 0


def test_drained_workers_leave_a_full_or_paused_queue_alone(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    queues.pause(store, ["paused"])
    queues.limit(store, "q", 1)
    add(store, id="waits", queue="paused")
    for job_id in names(4):
        add_noting(store, folder, job_id, "true")

    supervisors.run_drained(count=2)

    assert [state_of(store, job_id) for job_id in names(4)] == ["completed"] * 4
    assert state_of(store, "waits") == "pending"
    assert most_at_once(folder) == 1
