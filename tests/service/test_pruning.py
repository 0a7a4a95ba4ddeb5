"""Pruning: what goes, with what, in what order, and what a crash in between leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from queuectl.db.engine import Store
from queuectl.db.models import AttemptRow, Base, DeadLetterRow, OutputChunkRow
from queuectl.domain.job import Ending, State
from queuectl.domain.selection import Selection
from queuectl.errors import InvalidInput
from queuectl.service import audit, chunks, dead_letters, jobs, leftovers, logs, pruning
from queuectl.service.chunks import Chunk, Shipment
from tests.actors import Hire
from tests.aging import age
from tests.db.population import populate
from tests.jobs import add, state_of
from tests.supervision import address_of

ENDED = (State.COMPLETED, State.CANCELLED, State.DEAD)
WEEK = 7 * 86_400.0
#: Deletes what it is told to, and dies before it comes to the files.
_DIES = """
import os, signal, sys
from queuectl.db.engine import open_store
from queuectl.domain.job import State
from queuectl.service import logs, pruning
from queuectl.settings import locate_store

logs.remove_heads = lambda *job: os.kill(os.getpid(), signal.SIGKILL)
store = open_store(locate_store(sys.argv[1]))
choice = pruning.choose(store, [State.COMPLETED], older_than_seconds=0)
pruning.prune(store, choice, pruning.find_some(store, choice, State.COMPLETED))
"""


def prune(
    store: Store, *states: State, seconds: float = WEEK, only: Selection | None = None
) -> set[str]:
    """Prune as the command does; return the ids of what went."""
    choice = pruning.choose(store, states, older_than_seconds=seconds, only=only)
    gone = set()
    for state in choice.states:
        while found := pruning.find_some(store, choice, state):
            gone |= {job.id for job in pruning.prune(store, choice, found)}
    return gone


def count_rows(store: Store, row: type[Base]) -> int:
    query = select(func.count()).select_from(row)
    return store.read(lambda connection: connection.execute(query).scalar_one())


def ids_of(store: Store) -> set[str]:
    return {job.id for job in jobs.list_jobs(store, limit=None)}


def test_what_ended_long_ago_goes_with_all_that_hangs_on_it(store: Store) -> None:
    populate(store)
    before = ids_of(store)
    age(store, 8, *before)

    assert prune(store, *ENDED) == {"completed", "cancelled", "dead"}

    assert ids_of(store) == before - {"completed", "cancelled", "dead"}
    assert count_rows(store, AttemptRow) == 1  # that of the job which failed, and waits
    assert count_rows(store, DeadLetterRow) == 0
    assert count_rows(store, OutputChunkRow) == 2  # of the one that runs


def test_only_what_is_meant_goes(store: Store, hire: Hire) -> None:
    actor = hire()
    for name, queue in (("old", "a"), ("new", "a"), ("other", "b")):
        add(store, id=name, queue=queue)
        actor.settle(actor.claim_one())
    age(store, 8, "old", "other")

    assert prune(store, State.DEAD, State.CANCELLED) == set()
    assert prune(store, State.COMPLETED, only=Selection(queues=("a",))) == {"old"}
    assert prune(store, State.COMPLETED) == {"other"}
    assert ids_of(store) == {"new"}
    assert prune(store, State.COMPLETED, seconds=0) == {"new"}


@pytest.mark.parametrize("state", [State.PENDING, State.PROCESSING, State.FAILED])
def test_a_job_that_has_not_ended_cannot_be_meant(store: Store, state: State) -> None:
    with pytest.raises(InvalidInput, match=f"{state} has not ended"):
        pruning.choose(store, [state], older_than_seconds=0)


def test_a_dead_job_that_was_queued_again_meanwhile_stays(store: Store, hire: Hire) -> None:
    actor = hire()
    for name in ("again", "gone"):
        add(store, id=name, max_retries=0)
        actor.settle(actor.claim_one(), Ending.FAILED)
    choice = pruning.choose(store, [State.DEAD], older_than_seconds=0)
    found = pruning.find_some(store, choice, State.DEAD)
    dead_letters.requeue(store, ["again"])

    gone = pruning.prune(store, choice, found)

    assert [job.id for job in gone] == ["gone"]
    assert state_of(store, "again") == "pending"
    assert all(check.ok for check in audit.audit(store))


def test_a_transaction_takes_a_few_hundred_jobs_at_most(
    store: Store, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH_JOBS", 2)
    actor = hire()
    for number in range(5):
        add(store, id=f"j{number}")
        actor.settle(actor.claim_one())
    choice = pruning.choose(store, [State.COMPLETED], older_than_seconds=0)

    first = pruning.find_some(store, choice, State.COMPLETED)
    second = pruning.find_some(store, choice, State.COMPLETED, first[-1].seq)

    assert [[job.id for job in batch] for batch in (first, second)] == [["j0", "j1"], ["j2", "j3"]]
    assert len(prune(store, State.COMPLETED, seconds=0)) == 5


def test_a_transaction_takes_little_stored_output(
    store: Store, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_BATCH_CHUNKS", 3)
    actor = hire()
    for name, pieces in (("a", 2), ("b", 2), ("c", 9), ("d", 0)):
        add(store, id=name)
        claim = actor.claim_one()
        output = [Chunk(position, b"x") for position in range(pieces)]
        chunks.ship(store, [Shipment(claim, 0, output, 100, 100)])
        actor.settle(claim)
    choice = pruning.choose(store, [State.COMPLETED], older_than_seconds=0)

    taken = []
    while found := pruning.find_some(store, choice, State.COMPLETED):
        taken.append([job.id for job in pruning.prune(store, choice, found)])

    assert taken == [["a"], ["b"], ["c"], ["d"]]


def test_whoever_dies_before_the_files_leaves_what_the_next_sweep_removes(
    store: Store, hire: Hire
) -> None:
    actor = hire()
    for name in ("gone", "stays"):
        job = add(store, id=name, queue=name)
        actor.settle(actor.claim_one())
        for path in _files(store, job.seq):
            path.write_text("printed")
    age(store, -1, "stays")  # it ends tomorrow

    done = subprocess.run([sys.executable, "-c", _DIES, address_of(store.location)], check=False)

    assert done.returncode == -signal.SIGKILL
    assert ids_of(store) == {"stays"}
    assert len(list(store.location.logs.iterdir())) == 4
    assert leftovers.sweep(store) == 2
    assert set(store.location.logs.iterdir()) == set(_files(store, job.seq))
    assert leftovers.sweep(store) == 0


def _files(store: Store, seq: int) -> list[Path]:
    return [logs.output_path(store.location, seq, 1), logs.segment_path(store.location, seq, 1, 7)]


def test_a_sweep_spares_what_is_no_output_and_what_belongs_to_a_job(
    store: Store, hire: Hire
) -> None:
    running = add(store, id="running")
    hire().claim_one()
    kept = [f"{running.seq}-1.log", "notes.txt", "7-1.log.part", f"{'9' * 30}-1.log"]
    for name in (*kept, "7-1.log", "7-1.0.log"):
        (store.location.logs / name).write_text("text")

    assert leftovers.sweep(store) == 2

    assert {path.name for path in store.location.logs.iterdir()} == set(kept)


def test_a_sweep_goes_on_where_it_stopped_and_round(store: Store) -> None:
    assert leftovers.sweep(store) == 0
    for number in range(1, 6):
        (store.location.logs / f"{number}-1.log").write_text("text")
    sweep = leftovers.Sweep(store)

    assert [sweep.step(2), sweep.step(2), sweep.step(2), sweep.step(2)] == [2, 2, 1, None]
    (store.location.logs / "8-1.log").write_text("text")
    assert sweep.step(2) == 1
