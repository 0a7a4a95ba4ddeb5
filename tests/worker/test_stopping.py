"""Workers stop: after their jobs, or at once, asked by a signal or through the store."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.service import jobs, workers
from tests.jobs import add, attempts_of, output_of, state_of, until
from tests.supervision import Supervisor, Supervisors
from tests.waiting import wait_until


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The running job ends when this file is there."""
    return tmp_path / "go"


@pytest.fixture
def supervisor(store: Store, supervisors: Supervisors, tmp_path: Path, go: Path) -> Supervisor:
    """A supervisor whose one worker runs a job; another job waits."""
    add(store, f"touch {tmp_path}/started; {until(go)}", id="running", priority=1, max_retries=0)
    add(store, "true", id="waiting")
    started = supervisors.start()
    wait_until((tmp_path / "started").exists)
    return started


def assert_drained(store: Store, supervisor: Supervisor) -> None:
    assert supervisor.wait() == 0
    assert state_of(store, "running") == "completed"
    assert state_of(store, "waiting") == "pending"
    assert workers.list_workers(store) == []
    assert list(store.location.workers.glob("?" * 16)) == []


def assert_put_back(store: Store, supervisor: Supervisor) -> None:
    assert supervisor.wait() == 0
    job = jobs.find(store, "running")
    assert (job.state, job.attempts, job.crashes, job.runs) == ("pending", 0, 0, 1)
    [attempt] = attempts_of(store, "running")
    assert (attempt.outcome, attempt.signal) == ("stopped", 15)
    assert workers.list_workers(store) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_running_jobs_end_and_claims_no_more(
    store: Store, supervisor: Supervisor, go: Path, number: int
) -> None:
    """T5: Ctrl-C once drains."""
    supervisor.signal(number)
    supervisor.wait_for("stopping", 2)
    go.touch()

    assert_drained(store, supervisor)


def test_a_second_signal_ends_the_jobs_and_puts_them_back(
    store: Store, supervisor: Supervisor
) -> None:
    """T5: Ctrl-C twice ends the jobs and puts them back."""
    supervisor.signal(signal.SIGINT)
    supervisor.wait_for("stopping", 2)
    supervisor.signal(signal.SIGINT)

    assert_put_back(store, supervisor)


def test_a_stop_through_the_store_lets_running_jobs_end(
    store: Store, supervisor: Supervisor, go: Path
) -> None:
    workers.request_stop(store, queue=None, now=False)
    supervisor.wait_for("stopping")
    go.touch()

    assert_drained(store, supervisor)


def test_a_stop_at_once_through_the_store_puts_running_jobs_back(
    store: Store, supervisor: Supervisor
) -> None:
    workers.request_stop(store, queue=None, now=True)

    assert_put_back(store, supervisor)


def test_a_job_that_was_put_back_runs_again_elsewhere(
    store: Store, supervisor: Supervisor, supervisors: Supervisors, go: Path
) -> None:
    workers.request_stop(store, queue=None, now=True)
    supervisor.wait()
    go.touch()

    supervisors.run_drained()

    assert [attempt.outcome for attempt in attempts_of(store, "running")] == [
        "stopped",
        "completed",
    ]
    assert state_of(store, "waiting") == "completed"


def test_a_job_may_tidy_up_before_it_is_put_back(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    add(store, f"trap 'echo tidy; exit 0' TERM; touch {ready}; sleep 300 & wait", id="a")
    supervisor = supervisors.start()
    wait_until(ready.exists)

    workers.request_stop(store, queue=None, now=True)
    supervisor.wait()

    assert output_of(store, "a") == "tidy\n"
    assert state_of(store, "a") == "pending"


def test_a_stop_for_a_queue_leaves_the_other_workers(
    store: Store, supervisors: Supervisors
) -> None:
    of_a = supervisors.start(queues=["a"])
    of_b = supervisors.start(queues=["b"])

    workers.request_stop(store, queue="a", now=False)
    of_a.wait()
    add(store, "true", id="after", queue="b")

    wait_until(lambda: state_of(store, "after") == "completed")
    assert of_b.process.poll() is None


def test_a_worker_serves_its_own_queues_alone(store: Store, supervisors: Supervisors) -> None:
    for queue in ("a", "b", "c"):
        add(store, "true", id=queue, queue=queue)
    supervisors.start(queues=["a", "c"])

    wait_until(lambda: state_of(store, "a") == state_of(store, "c") == "completed")
    assert state_of(store, "b") == "pending"


def test_a_drain_ends_when_nothing_is_due_and_waits_for_nothing_later(
    store: Store, supervisors: Supervisors
) -> None:
    add(store, "true", id="due")
    add(store, "false", id="fails", backoff_base=1000)
    add(store, "true", id="later", delay="1h")

    supervisor = supervisors.run_drained()

    assert [state_of(store, job_id) for job_id in ("due", "fails", "later")] == [
        "completed",
        "failed",
        "scheduled",
    ]
    assert len(supervisor.events("worker-stopped")) == 1


def test_an_idle_worker_wakes_for_a_job_that_comes_and_one_that_becomes_due(
    store: Store, supervisors: Supervisors
) -> None:
    supervisors.start()
    add(store, "true", id="now")
    add(store, "true", id="soon", delay=0.3)

    wait_until(lambda: state_of(store, "now") == state_of(store, "soon") == "completed")

    [attempt] = attempts_of(store, "soon")
    assert attempt.started_at >= jobs.find(store, "soon").run_at
