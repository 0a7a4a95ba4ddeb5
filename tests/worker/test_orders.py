"""Workers that are told to cancel, signal, freeze or thaw what they run: real ones."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from queuectl.db.engine import Store
from queuectl.domain.job import State
from queuectl.domain.selection import Chosen, Selection
from queuectl.service import cancelling, config, jobs, orders
from queuectl.service.selection import choose
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "jobs"
    made.mkdir()
    return made


def chosen(store: Store, *references: str) -> list[Chosen]:
    return choose(store, Selection(references), among=State, verb="meant")


#: A tree of three: the shell, a child in its group, and one that left it.
_TREE = """
sleep 300 & echo $! >> pids
setsid sh -c 'echo $$ >> pids; exec sleep 300' &
echo $$ >> pids
until [ $(wc -l < pids) = 3 ]; do sleep 0.02; done
touch ready
wait
"""


def pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def are_stopped(found: list[int]) -> bool:
    return all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in found)


def test_a_running_job_is_cancelled_with_its_whole_tree(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(store, _TREE, id="a", cwd=str(folder))
    supervisors.start()
    wait_until((folder / "ready").exists)

    cancelling.cancel(store, chosen(store, "a"), reason="no use")
    wait_until(lambda: state_of(store, "a") == "cancelled")

    assert all(is_gone(pid) for pid in pids(folder))
    [attempt] = attempts_of(store, "a")
    assert attempt.outcome == "cancelled"
    assert attempt.error is not None
    assert attempt.error.startswith("cancelled while it ran")


def test_a_job_that_ignores_term_is_killed_when_it_is_cancelled(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(store, "trap '' TERM; touch ready; while :; do sleep 1; done", id="a", cwd=str(folder))
    supervisors.start()
    wait_until((folder / "ready").exists)

    cancelling.cancel(store, chosen(store, "a"))
    wait_until(lambda: state_of(store, "a") == "cancelled")

    [attempt] = attempts_of(store, "a")
    assert (attempt.outcome, attempt.signal) == ("cancelled", signal.SIGKILL)


def test_a_cancelled_neighbour_costs_the_others_nothing(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    for name in ("a", "b"):
        add(store, f"touch {name}; {until(folder / 'go')}", id=name, cwd=str(folder))
    supervisors.start(concurrency=2)
    wait_until(lambda: (folder / "a").exists() and (folder / "b").exists())

    cancelling.cancel(store, chosen(store, "a"))
    wait_until(lambda: state_of(store, "a") == "cancelled")
    (folder / "go").touch()
    wait_until(lambda: state_of(store, "b") == "completed")

    assert len(attempts_of(store, "b")) == 1


def test_a_signal_arrives_and_the_end_is_judged_as_any_other(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(
        store,
        f"trap 'touch heard' USR1; touch ready; {until(folder / 'heard')}; exit 0",
        id="a",
        cwd=str(folder),
    )
    add(store, "touch too; sleep 300", id="b", cwd=str(folder), max_retries=0)
    supervisors.start(concurrency=2)
    wait_until(lambda: (folder / "ready").exists() and (folder / "too").exists())

    orders.send_signal(store, chosen(store, "a"), signal.SIGUSR1)
    orders.send_signal(store, chosen(store, "b"), signal.SIGINT)
    wait_until(lambda: state_of(store, "a") == "completed" and state_of(store, "b") == "dead")

    assert (folder / "heard").exists()
    [attempt] = attempts_of(store, "b")
    assert (attempt.outcome, attempt.signal) == ("failed", signal.SIGINT)


def test_a_frozen_job_stands_still_with_its_timeout_until_it_is_thawed(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(store, _TREE, id="a", cwd=str(folder), timeout=4, max_retries=0)
    # It measures the time in the meantime, by the same clock.
    add(store, f"sleep 6; touch later; {until(folder / 'never')}", id="b", cwd=str(folder))
    supervisor = supervisors.start(concurrency=2)
    wait_until((folder / "ready").exists)

    orders.freeze(store, chosen(store, "a"))
    wait_until(lambda: are_stopped(pids(folder)))
    wait_until((folder / "later").exists)
    assert are_stopped(pids(folder))
    assert jobs.find(store, "a").state == "processing"

    orders.thaw(store, chosen(store, "a"))
    supervisor.wait_for("job-timed-out")
    wait_until(lambda: state_of(store, "a") == "dead")
    cancelling.cancel(store, chosen(store, "b"))
    wait_until(lambda: state_of(store, "b") == "cancelled")

    [attempt] = attempts_of(store, "a")
    assert attempt.outcome == "timed out"
    assert (attempt.finished_at - attempt.started_at).total_seconds() > 6


def test_a_frozen_job_can_be_cancelled(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(store, _TREE, id="a", cwd=str(folder))
    supervisors.start()
    wait_until((folder / "ready").exists)
    orders.freeze(store, chosen(store, "a"))
    wait_until(lambda: are_stopped(pids(folder)))

    cancelling.cancel(store, chosen(store, "a"))
    wait_until(lambda: state_of(store, "a") == "cancelled")

    assert all(is_gone(pid) for pid in pids(folder))


def test_jobs_that_were_claimed_ahead_are_cancelled_unstarted(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    config.set_option(store, "max-retries", 0)
    for number in range(40):  # short ones, so that the worker claims ahead
        add(store, "true", id=f"short-{number:02}")
    add(store, f"touch ready; {until(folder / 'go')}", id="long", cwd=str(folder))
    for number in range(5):
        add(store, f"touch started-{number}", id=f"last-{number}", cwd=str(folder))
    supervisors.start()
    wait_until((folder / "ready").exists)

    cancelling.cancel(store, chosen(store, *(f"last-{number}" for number in range(5))))
    wait_until(lambda: all(state_of(store, f"last-{n}") == "cancelled" for n in range(5)))
    (folder / "go").touch()
    wait_until(lambda: state_of(store, "long") == "completed")

    assert not list(folder.glob("started-*"))
    assert jobs.find(store, "last-0").runs == 0


def test_an_order_for_a_worker_that_died_holds_for_the_job(
    store: Store, supervisors: Supervisors, folder: Path
) -> None:
    add(store, f"touch ready; {until(folder / 'go')}", id="a", cwd=str(folder))
    supervisor = supervisors.start()
    wait_until((folder / "ready").exists)
    [worker] = supervisor.worker_pids()
    psutil.Process(worker).suspend()

    cancelling.cancel(store, chosen(store, "a"))
    psutil.Process(worker).kill()
    wait_until(lambda: state_of(store, "a") == "cancelled")

    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["lost"]
