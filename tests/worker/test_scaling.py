"""A supervisor is given another number of workers: real ones, which die at bad moments."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from queuectl.db.engine import Store
from queuectl.errors import Conflict, NotFound
from queuectl.service import jobs, rescues, workers
from queuectl.service import supervisors as service
from queuectl.service.supervisors import Supervisor as Found
from tests.actors import Hire
from tests.jobs import add, attempts_of, state_of, until
from tests.supervision import Supervisors
from tests.waiting import wait_until


def the_one(store: Store) -> Found:
    [found] = service.list_supervisors(store)
    return found


def reaches(store: Store, count: int) -> Found:
    """Wait until there are so many workers and nobody else; return their supervisor."""

    def reached() -> bool:
        return any(
            len(found.staying) == count and not found.leaving
            for found in service.list_supervisors(store)
        )

    wait_until(reached)
    return the_one(store)


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The running jobs end when this file is there."""
    return tmp_path / "go"


def test_more_workers_are_forked_and_share_the_work(
    store: Store, supervisors: Supervisors, tmp_path: Path
) -> None:
    supervisors.start()
    for number in range(3):
        others = " && ".join(until(tmp_path / f"there-{other}") for other in range(3))
        add(store, f"touch {tmp_path}/there-{number}; {others}", id=f"j{number}")

    service.scale(store, the_one(store).id, 3)

    reaches(store, 3)
    wait_until(lambda: all(state_of(store, f"j{number}") == "completed" for number in range(3)))


def test_the_idle_ones_leave_first_and_what_runs_ends(
    store: Store, supervisors: Supervisors, go: Path
) -> None:
    supervisor = supervisors.start(count=3)
    add(store, until(go), id="runs", max_retries=0)
    wait_until(lambda: state_of(store, "runs") == "processing")
    busy = jobs.find(store, "runs").worker_id
    supervisor.wait_for("job-started")
    wait_until(lambda: [w for w in the_one(store).workers if w.running])

    service.scale(store, the_one(store).id, 1)

    left = reaches(store, 1)
    assert [worker.id for worker in left.workers] == [busy]
    assert state_of(store, "runs") == "processing"
    go.touch()
    wait_until(lambda: state_of(store, "runs") == "completed")
    assert len(attempts_of(store, "runs")) == 1


def test_one_that_is_busy_claims_nothing_more_and_leaves_after_its_job(
    store: Store, supervisors: Supervisors, go: Path
) -> None:
    supervisor = supervisors.start(count=2)
    for name in ("a", "b"):
        add(store, until(go), id=name, max_retries=0)
    supervisor.wait_for("job-started", 2)

    service.scale(store, the_one(store).id, 1)
    wait_until(lambda: the_one(store).leaving)
    [leaving] = the_one(store).leaving
    for number in range(4):
        add(store, "true", id=f"later-{number}")
    go.touch()

    [stays] = reaches(store, 1).workers
    wait_until(lambda: all(state_of(store, f"later-{n}") == "completed" for n in range(4)))
    assert [state_of(store, name) for name in ("a", "b")] == ["completed", "completed"]
    assert {attempts_of(store, f"later-{n}")[0].worker_id for n in range(4)} == {stays.id}
    assert leaving.stop_mode == workers.LEAVE


def test_one_that_dies_while_it_leaves_is_not_replaced_but_its_job_is_taken_back(
    store: Store, supervisors: Supervisors, go: Path
) -> None:
    supervisor = supervisors.start(count=2)
    for name in ("a", "b"):
        add(store, until(go), id=name)
    supervisor.wait_for("job-started", 2)
    service.scale(store, the_one(store).id, 1)
    wait_until(lambda: the_one(store).leaving)
    [leaving] = the_one(store).leaving

    os.kill(leaving.pid, signal.SIGKILL)
    supervisor.wait_for("job-rescued")
    go.touch()

    reaches(store, 1)
    wait_until(lambda: {state_of(store, "a"), state_of(store, "b")} == {"completed"})


def test_a_worker_that_dies_is_replaced_up_to_the_new_number(
    store: Store, supervisors: Supervisors
) -> None:
    supervisor = supervisors.start(count=1)
    service.scale(store, the_one(store).id, 3)
    before = reaches(store, 3)

    for worker in before.workers:
        os.kill(worker.pid, signal.SIGKILL)
    supervisor.wait_for("worker-died", 3)

    old = {worker.id for worker in before.workers}
    # The dead are listed until they have been taken back.
    wait_until(
        lambda: all(
            worker.id not in old
            for found in service.list_supervisors(store)
            for worker in found.workers
        )
    )
    after = reaches(store, 3)
    assert {worker.wanted for worker in after.workers} == {3}


def test_a_request_whose_reader_was_killed_is_known_to_its_replacement(
    store: Store, hire: Hire
) -> None:
    hire("w1", supervisor_id="s")
    service.scale(store, "s", 4)
    service.scale(store, "s", 3)
    rescues.rescue(store, ["w1"])

    hire("w2", supervisor_id="s")
    hire("w3", supervisor_id="t")

    assert service.read_scaling(store, "w2") == workers.Scaling(2, 3)
    assert service.read_scaling(store, "w3") is None


def test_the_newest_of_many_requests_counts(store: Store, supervisors: Supervisors) -> None:
    supervisors.start(count=2)
    name = the_one(store).id

    for count in (5, 1, 4, 3):
        service.scale(store, name, count)

    reaches(store, 3)


def test_one_signal_drains_whoever_leaves_already_as_its_siblings(
    store: Store, supervisors: Supervisors, go: Path
) -> None:
    supervisor = supervisors.start(count=2)
    for name in ("a", "b"):
        add(store, until(go), id=name, max_retries=0)
    supervisor.wait_for("job-started", 2)
    service.scale(store, the_one(store).id, 1)
    wait_until(lambda: the_one(store).leaving)

    supervisor.signal(signal.SIGTERM)
    supervisor.wait_for("stopping", 4)  # the one that leaves, the supervisor, and both of them
    go.touch()

    assert supervisor.wait() == 0
    assert [state_of(store, name) for name in ("a", "b")] == ["completed", "completed"]


def test_whoever_was_asked_to_stop_takes_no_more_workers(store: Store, hire: Hire) -> None:
    hire("w1", supervisor_id="s")
    workers.request_stop(store, queue=None, now=False)

    with pytest.raises(Conflict, match="was asked to stop"):
        service.scale(store, "s", 2)


def test_one_worker_leaves_alone_and_a_replacement_does_not_inherit_it(
    store: Store, hire: Hire
) -> None:
    hire("w1", supervisor_id="s")
    hire("w2", supervisor_id="s")
    first, _ = workers.list_workers(store)

    whole = service.drain(store, [first])
    hire("w3", supervisor_id="s")

    assert whole == []
    assert {w.id: w.stop_mode for w in workers.list_workers(store)} == {
        "w1": "leave",
        "w2": None,
        "w3": None,
    }
    workers.request_stop(store, queue=None, now=False)
    assert {w.stop_mode for w in workers.list_workers(store)} == {"drain"}


def test_a_drain_of_all_its_workers_is_asked_of_the_supervisor(store: Store, hire: Hire) -> None:
    hire("w1", supervisor_id="s")
    hire("w2", supervisor_id="t")
    hire("w3", supervisor_id="t")
    chosen = service.choose_workers(store, ["s"], None)

    assert [worker.id for worker in chosen] == ["w1"]
    assert service.drain(store, chosen) == ["s"]
    hire("w4", supervisor_id="s")
    assert [w.stop_mode for w in workers.list_workers(store)] == ["drain", None, None, "drain"]


def test_several_and_unknown_names_are_refused(store: Store, hire: Hire) -> None:
    hire("wa", supervisor_id="s1")
    hire("wb", supervisor_id="s2")

    with pytest.raises(Conflict, match=r"2 supervisors of workers are meant: s1 .* s2 "):
        service.find(store, "s", "here")
    with pytest.raises(Conflict, match="the beginning of several ids: wa, wb"):
        service.choose_workers(store, ["w"], None)
    with pytest.raises(NotFound, match="'nope'"):
        service.find(store, "nope", "here")
    with pytest.raises(NotFound, match="'nope'"):
        service.choose_workers(store, ["nope"], None)
    assert service.find(store, "wb", "here").id == "s2"
