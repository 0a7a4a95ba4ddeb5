"""Death at a commit: processes are killed at failpoints, before, after and within transactions.

The failpoints are the campaign's; here one is ordered at a time, so that each case stands alone.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.service import jobs
from tests.campaign import failpoints
from tests.cli.conftest import Program
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until

_BROUGHT_IN = Path(failpoints.__file__).parent / "brought_in"


class Orders:
    """The failpoints that processes with this environment come to."""

    def __init__(self, folder: Path) -> None:
        self._orders = folder / "orders"
        self._strikes = folder / "strikes"
        self._orders.mkdir()
        self._strikes.touch()
        self.environment = {
            failpoints.ORDERS: str(self._orders),
            failpoints.STRIKES: str(self._strikes),
            "PYTHONPATH": str(_BROUGHT_IN),
        }

    def kill(self, stage: str, transaction: str, statement: int = 0) -> None:
        """Order the death of the first process that comes to this place."""
        (self._orders / failpoints.Order(1, stage, transaction, statement).file).touch()

    def deaths(self) -> int:
        return len(self._strikes.read_text().splitlines())


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    """Orders that are empty so far."""
    return Orders(tmp_path)


@pytest.mark.parametrize(
    ("stage", "statement", "stored"),
    [("within", 1, []), ("before", 0, []), ("after", 0, ["a", "b"])],
)
def test_a_client_that_dies_in_enqueue_leaves_all_or_nothing(
    queuectl: Program, orders: Orders, stage: str, statement: int, stored: list[str]
) -> None:
    """C1: absent, or there once; the same call again succeeds."""
    batch = '{"id": "a", "command": "true"}\n{"id": "b", "command": "true"}\n'
    queuectl("status")  # makes the store
    orders.kill(stage, "enqueue", statement)
    variables = orders.environment

    queuectl("enqueue", "--file", "-", given=batch, variables=variables, code=-signal.SIGKILL)
    after_death = [job["id"] for job in queuectl("list", "--json").json]
    again = queuectl("enqueue", "--file", "-", given=batch, variables=variables)

    assert orders.deaths() == 1
    assert sorted(after_death) == stored
    assert again.lines == ["a", "b"]
    assert sorted(job["id"] for job in queuectl("list", "--json").json) == ["a", "b"]


def test_a_worker_that_dies_right_after_its_claim_costs_no_retry(
    store: Store, supervisors: Supervisors, orders: Orders, tmp_path: Path
) -> None:
    """C2: the job was claimed and never started; its one attempt is still to come."""
    add(store, f"echo run >> {tmp_path}/runs", id="a", max_retries=0)
    orders.kill("after", "take_turn")

    supervisors.start(environment=orders.environment)
    wait_until(lambda: state_of(store, "a") == "completed")

    assert orders.deaths() == 1
    assert (tmp_path / "runs").read_text() == "run\n"
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["completed"]
    assert jobs.find(store, "a").attempts == 0


@pytest.mark.parametrize(
    ("stage", "outcomes"), [("before", ["lost", "completed"]), ("after", ["completed"])]
)
def test_a_worker_that_dies_at_the_settlement_leaves_one_outcome_or_a_second_attempt(
    store: Store,
    supervisors: Supervisors,
    orders: Orders,
    tmp_path: Path,
    stage: str,
    outcomes: list[str],
) -> None:
    """C4: never a job that stays in ``processing``."""
    go = tmp_path / "go"
    add(store, f"echo run >> {tmp_path}/runs; {until(go)}", id="a", max_retries=0)
    supervisors.start(environment=orders.environment)
    wait_until((tmp_path / "runs").exists)
    orders.kill(stage, "take_turn")

    go.touch()
    wait_until(lambda: state_of(store, "a") == "completed" and orders.deaths() == 1)

    assert [attempt.outcome for attempt in attempts_of(store, "a")] == outcomes
    assert (tmp_path / "runs").read_text() == "run\n" * len(outcomes)


@pytest.mark.parametrize(
    ("stage", "statement"), [("within", 1), ("within", 2), ("within", 3), ("before", 0)]
)
def test_a_rescuer_that_dies_between_its_statements_overwrites_nothing(
    store: Store,
    supervisors: Supervisors,
    orders: Orders,
    tmp_path: Path,
    stage: str,
    statement: int,
) -> None:
    """C5: the next rescuer finds all as the first one found it."""
    go = tmp_path / "go"
    add(store, f"echo run >> {tmp_path}/runs; {until(go)}", id="a", max_retries=0)
    supervisor = supervisors.start(environment=orders.environment)
    wait_until((tmp_path / "runs").exists)
    orders.kill(stage, "rescue", statement)

    [worker] = supervisor.worker_pids()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: (tmp_path / "runs").read_text() == "run\n" * 2)
    go.touch()
    wait_until(lambda: state_of(store, "a") == "completed")

    assert orders.deaths() == 1
    assert [attempt.outcome for attempt in attempts_of(store, "a")] == ["lost", "completed"]
    assert jobs.find(store, "a").crashes == 1


def test_many_rescuers_at_once_take_a_job_back_once_and_settle_theirs(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    """C5: the neighbours of a dead worker race each other, and settle their own meanwhile."""
    go = tmp_path / "go"
    for number in range(4):
        command = f"echo run >> {tmp_path}/runs-{number}; {until(go)}"
        add(store, command, id=f"job-{number}", max_retries=0)
    crews = [supervisors.start(), supervisors.start(), supervisors.start(count=2)]
    wait_until(lambda: len(list(tmp_path.glob("runs-*"))) == 4)

    first = crews[0]
    [worker] = first.worker_pids()
    first.signal(signal.SIGSTOP)  # its successor would come in too late for a race
    os.kill(worker, signal.SIGKILL)
    first.signal(signal.SIGKILL)
    go.touch()
    wait_until(lambda: all(state_of(store, f"job-{n}") == "completed" for n in range(4)))

    outcomes = [[a.outcome for a in attempts_of(store, f"job-{n}")] for n in range(4)]
    assert sorted(outcomes) == [["completed"]] * 3 + [["lost", "completed"]]
    assert sorted(jobs.find(store, f"job-{n}").crashes for n in range(4)) == [0, 0, 0, 1]
